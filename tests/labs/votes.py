"""Three annotators' planted votes on twelve clips of two generated films, and what must follow from them."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import cohen_kappa_score

from jobs.votes.films import Films
from jobs.votes.order import order
from jobs.votes.question import Answer
from jobs.votes.store import REPEAT, VoteFile
from schemas.clip import ATTITUDES
from tests.labs.media import Recipe, make_source
from tests.labs.toy_build import write_manifest

FRAMES = 45  # of every clip
ANNOTATORS = ("ada", "bea", "cyd")
STARTS_S = (1, 3, 5, 7, 9, 11)
CLIPS = tuple(f"{source}_{start:06d}_{start + 2:06d}" for source in ("a", "b") for start in STARTS_S)
FILM = Recipe(
    ".mp4",
    {"vcodec": "libx264", "preset": "ultrafast"},
    {"acodec": "aac"},
    num_frames=350,
    click_times_s=(Fraction(2),),
)


def yes(attitude: str, side: str = "left", first: int = 0, after: int = FRAMES) -> Answer:
    return Answer(True, (), first, after, side, attitude)


def no(*conditions: str) -> Answer:
    return Answer(False, conditions)


POS, NEU, NEG = (yes(name) for name in ("positive", "neutral", "negative"))
PLANTED: dict[str, tuple[Answer, Answer, Answer]] = dict(
    zip(
        CLIPS,
        (
            (POS, POS, POS),
            (NEU, NEU, NEU),
            (NEG, NEG, NEG),
            (POS, POS, NEU),
            (NEG, POS, NEG),
            (POS, NEU, NEG),  # a vote each for three attitudes
            (no("faces"), no("faces", "live"), POS),
            (NEU, NEU, no("natural")),
            (POS, no("two_people"), NEG),  # valid for two, who differ
            (no("speaks_and_listens"), no("live"), no("live")),
            (yes("positive", "left"), yes("positive", "right"), yes("positive", "right")),  # not as the manifest has it
            (yes("negative", first=0), yes("negative", first=2, after=44), yes("negative", first=4, after=42)),
        ),
        strict=True,
    )
)
OPEN = {CLIPS[5]: "attitude", CLIPS[8]: "attitude"}
LABELS = {  # attitude, side, first frame, frame after the last
    CLIPS[0]: ("positive", "left", 0, 45),
    CLIPS[1]: ("neutral", "left", 0, 45),
    CLIPS[2]: ("negative", "left", 0, 45),
    CLIPS[3]: ("positive", "left", 0, 45),
    CLIPS[4]: ("negative", "left", 0, 45),
    CLIPS[7]: ("neutral", "left", 0, 45),
    CLIPS[10]: ("positive", "right", 0, 45),
    CLIPS[11]: ("negative", "left", 2, 44),
}


def make_films(folder: Path, attitude: str = "neutral", side: str = "left", people: str = "p,q") -> Path:
    """The manifest of the twelve clips; its labels are what nobody who judges may see."""
    for name in ("a", "b"):
        if not (folder / f"{name}.mp4").is_file():
            make_source(folder / f"{name}.mp4", FILM)
    rows = [f"{s},{start},{start + 1.5},{side},{attitude},{people},train" for s in ("a", "b") for start in STARTS_S]
    return write_manifest(folder / "talks.toml", {"a": "a.mp4", "b": "b.mp4"}, rows)


def answer_of(annotator: str, clip_id: str, round: str) -> Answer:
    """What an annotator says; cyd says something else of a clip that comes again."""
    said = PLANTED[clip_id][ANNOTATORS.index(annotator)]
    if annotator == "cyd" and round == REPEAT:
        return NEG if said == POS else POS
    return said


def cast(films: Films) -> None:
    """Have all vote, without a browser."""
    for annotator in ANNOTATORS:
        file = VoteFile(films.votes_folder, annotator)
        for clip_id, round in order(annotator, films.films):
            answer = answer_of(annotator, clip_id, round)
            file.vote(f"{annotator}-{clip_id}-{round}", clip_id, round, films.films[clip_id].fingerprint, answer)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def check_outcome(out: Path) -> None:
    """The files that must follow from the planted votes, however they were given."""
    rows = {row["clip_id"]: row for row in rows_of(out / "clips.csv")}
    assert list(rows) == list(LABELS)
    for clip_id, (attitude, side, first, after) in LABELS.items():
        start_s = int(clip_id[2:8])
        row = rows[clip_id]
        assert (row["attitude"], row["speaker_side"]) == (attitude, side)
        assert float(row["start_s"]) == pytest.approx(start_s + first / 30, abs=1e-9)
        assert float(row["end_s"]) == pytest.approx(start_s + after / 30, abs=1e-9)
        assert (row["speaker_id"], row["listener_id"]) == (("q", "p") if side == "right" else ("p", "q"))
    assert {row["clip_id"]: row["undecided"] for row in rows_of(out / "adjudicate.csv")} == OPEN
    report = json.loads((out / "agreement.json").read_text())
    assert report["outcomes"] == {"valid": len(LABELS), "invalid": 2, "adjudicate": 2, "waiting": 0}
    assert (report["annotators"], report["votes"], report["tie_rule"]) == (3, 36, "adjudicate")
    check_agreement(report)


def check_agreement(report: dict[str, Any]) -> None:
    validity = {"valid": 0, "invalid": 1}
    valid = [[validity["valid" if answer.valid else "invalid"] for answer in row] for row in PLANTED.values()]
    attitude = [[ATTITUDES.index(a.attitude) if a.valid else None for a in row] for row in PLANTED.values()]
    of_valid, of_attitude, _ = report["questions"]
    assert [q["name"] for q in report["questions"]] == ["valid", "attitude", "side"]
    assert of_valid["alpha"]["value"] == pytest.approx(alpha(valid)) and of_valid["clips"] == 12
    assert of_attitude["alpha"]["value"] == pytest.approx(alpha(attitude))
    assert of_attitude["ordinal"]["value"] == pytest.approx(alpha(attitude, ordinal=True))
    assert (of_attitude["clips"], of_attitude["answers"]) == (10, 28)
    assert of_attitude["unanimous"] == 0.6 and of_valid["unanimous"] == 0.75
    for question, values in ((of_valid, valid), (of_attitude, attitude)):
        for a, b in combinations(range(3), 2):
            both = [(row[a], row[b]) for row in values if None not in (row[a], row[b])]
            kappa = next(k for k in question["kappa"] if (k["first"], k["second"]) == (a + 1, b + 1))
            assert kappa["value"] == pytest.approx(cohen_kappa_score(*zip(*both, strict=True)))
            assert kappa["clips"] == len(both)
    assert of_valid["repeated"] == 3 and of_attitude["repeated_same"] == of_attitude["repeated"] - 1
    apart = [(a, b) for row in PLANTED.values() for a, b in combinations([x for x in row if x.valid], 2)]
    assert report["boundaries"]["pairs"] == len(apart)
    assert report["boundaries"]["first_frame"] == pytest.approx((2 + 4 + 2) / len(apart))
    assert report["boundaries"]["largest"] == 4
    shared = [42 / 45, 38 / 45, 38 / 42, *[1.0] * (len(apart) - 3)]
    assert report["boundaries"]["overlap"] == pytest.approx(sum(shared) / len(shared))


def alpha(rows: list[list[int | None]], ordinal: bool = False) -> float:
    """Krippendorff's alpha by its definition, pair by pair: no matrix of coincidences."""
    units = [[value for value in row if value is not None] for row in rows]
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]

    def distance(a: int, b: int) -> float:
        low, high = sorted((a, b))
        between = sum(low <= value <= high for value in values)
        ends = (values.count(a) + values.count(b)) / 2
        return (between - ends) ** 2 if ordinal else float(a != b)

    within = sum(sum(distance(*pair) for pair in permutations(unit, 2)) / (len(unit) - 1) for unit in units)
    among = sum(distance(*pair) for pair in permutations(values, 2)) / (len(values) - 1)
    return 1 - within / among
