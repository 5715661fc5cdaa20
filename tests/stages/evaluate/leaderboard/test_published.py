"""The published scores: that they were read right, as far as arithmetic can tell, and that flags say what it tells."""

from __future__ import annotations

import hashlib
import json
import tomllib
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from schemas.clip import ATTITUDES
from schemas.errors import UserError
from schemas.score import ALL, NOT_STATED
from stages.evaluate.leaderboard.published import PUBLISHED, PublishedScore, read_published

COEFFICIENTS = ("angle", "exp", "trans")
AVERAGE = "average contradicts its rows"
REIMPLEMENTED = "reimplementation"
AS_TYPED_IN = "3dc332553b9de1bba81c9fac1a25d4eed6e1139eed8989d49c89ab525f80b79e"  # of the 199 rows
ROUNDING = 0.006  # of two printed decimals, and a little for weights that were solved from rounded numbers
SUM_OF_TWO_ROUNDED = 0.0151  # two parts and their sum, each rounded to two decimals
Numbers = dict[tuple[str, str, str, str], float]


@lru_cache(maxsize=1)
def published() -> list[PublishedScore]:
    return read_published()[1]


def numbers(table: str) -> Numbers:
    """Printed numbers of a table by method, split, attitude and column."""
    scores = [score for score in published() if score.table == table and score.value is not None]
    return {place(score): score.value for score in scores}


def flagged(table: str, flag: str) -> set[tuple[str, str, str, str]]:
    """Places of a table at which a flag stands."""
    return {place(score) for score in published() if score.table == table and flag in dict(score.flags)}


def place(score: PublishedScore) -> tuple[str, str, str, str]:
    return score.method, score.key.split, score.key.attitude, score.column


def weights_of_attitudes(split: str) -> np.ndarray:
    """Shares of the attitudes in ViCo, (attitude,), from the twelve averages of ViCo's Table 3."""
    table = numbers("vico-3")
    methods = ("Random", "Simulation", "Simulation*", "ViCo")
    rows = [[table[m, split, a, c] for a in ATTITUDES] for m in methods for c in COEFFICIENTS]
    averages = [table[m, split, ALL, c] for m in methods for c in COEFFICIENTS]
    solved, *_ = np.linalg.lstsq(np.array(rows), np.array(averages), rcond=None)
    return solved


def test_no_number_no_method_and_no_column_has_changed_since_they_were_read_off_the_papers() -> None:
    tables = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))["tables"]
    printed = [[table["id"], list(table["columns"]), table["rows"]] for table in tables]
    assert sum(len(rows) for *_, rows in printed) == 199
    assert hashlib.sha256(json.dumps(printed).encode()).hexdigest() == AS_TYPED_IN


@pytest.mark.parametrize("split", ["test", "ood"])
def test_vicos_averages_are_those_of_its_rows(split: str) -> None:
    weights, table = weights_of_attitudes(split), numbers("vico-3")
    assert weights.sum() == pytest.approx(1, abs=0.002) and (weights > 0.05).all()
    for method in ("Random", "Simulation", "Simulation*", "ViCo"):
        for column in COEFFICIENTS:
            rows = np.array([table[method, split, attitude, column] for attitude in ATTITUDES])
            assert table[method, split, ALL, column] == pytest.approx(rows @ weights, abs=2 * ROUNDING)


@pytest.mark.parametrize("column", ["SSIM", "PSNR", "CPBD"])
def test_the_same_shares_make_the_averages_of_vicos_pictures(column: str) -> None:
    table = numbers("vico-4")
    for split in ("test", "ood"):
        rows = np.array([table["ViCo", split, attitude, column] for attitude in ATTITUDES])
        assert table["ViCo", split, ALL, column] == pytest.approx(rows @ weights_of_attitudes(split), rel=0.005)


def test_an_average_of_mfr_net_is_flagged_just_where_its_rows_give_another() -> None:
    table, wrong = numbers("mfr-1"), set()
    for method in ("ViCo", "PCHG", "MFR-Net"):
        for split in ("test", "ood"):
            for column in COEFFICIENTS:
                rows = np.array([table[method, split, attitude, column] for attitude in ATTITUDES])
                if abs(table[method, split, ALL, column] - rows @ weights_of_attitudes(split)) > 0.05:
                    wrong.add((method, split, ALL, column))
    assert wrong == flagged("mfr-1", AVERAGE)


def test_what_mfr_net_took_from_vico_is_what_vico_printed() -> None:
    copied, printed = ({k: v for k, v in numbers(t).items() if k[0] == "ViCo"} for t in ("mfr-1", "vico-3"))
    assert copied == printed


def test_what_is_flagged_as_a_mean_of_test_and_ood_is_one() -> None:
    images, ablation = numbers("vico-4"), numbers("mfr-4")
    for method, split, attitude, column in flagged("mfr-2", "mean of test and ood"):
        mean = np.mean([images[method, part, attitude, column] for part in ("test", "ood")])
        assert numbers("mfr-2")[method, split, attitude, column] == pytest.approx(mean, abs=0.011)
    for column in COEFFICIENTS:
        mean = np.mean([numbers("mfr-1")["MFR-Net", part, ALL, column] for part in ("test", "ood")])
        assert ablation["MFR-Net", "test+ood", ALL, column] == pytest.approx(mean, abs=0.011)


def test_what_is_flagged_as_copied_across_test_sets_stands_in_both() -> None:
    challenge = numbers("pchg-1-listening")
    found = flagged("mfr-2", "copied across test sets")
    assert {column for *_, column in found} == {"PSNR", "FID"}
    for place_of in found:
        assert numbers("mfr-2")[place_of] == pytest.approx(challenge["PCHG", "test", ALL, place_of[3]], abs=0.005)


def test_elps_numbers_of_vico_are_ten_times_another_metric() -> None:
    vico = numbers("vico-3")
    angle, exp, trans = (vico["ViCo", "test", ALL, column] for column in COEFFICIENTS)
    assert numbers("elp-1-head")["RLHG (ViCo)", "test", ALL, "FD"] == pytest.approx(10 * (angle + trans))
    assert numbers("elp-1-face")["RLHG (ViCo)", "test", ALL, "FD"] == pytest.approx(10 * exp, abs=0.5)


def test_mfr_nets_pchg_is_flagged_as_no_listener_of_pchg_which_is_the_unmodified_baseline() -> None:
    assert {place[0] for place in flagged("pchg-1-listening", "unmodified baseline")} == {"PCHG"}
    baseline, theirs = numbers("vico-3"), numbers("mfr-1")
    for column in COEFFICIENTS:
        assert theirs["PCHG", "test", ALL, column] > 1.1 * baseline["ViCo", "test", ALL, column]
    for table in ("mfr-1", "mfr-2", "mfr-3"):
        assert flagged(table, REIMPLEMENTED) == {key for key in numbers(table) if key[0] == "PCHG"}


def test_what_elps_third_table_says_of_l2l_is_flagged_where_it_adds_up_copies() -> None:
    tables, copied = ("elp-1-face-l2l", "elp-1-head-l2l"), "copied from another paper"
    copies = flagged(tables[0], copied)
    assert copies == flagged(tables[1], copied) == flagged("elp-3", copied)
    for key in copies:
        assert numbers("elp-3")[key] == pytest.approx(sum(numbers(table)[key] for table in tables))


def test_what_a_paper_does_not_state_is_flagged_at_every_number_that_depends_on_it() -> None:
    pictures = [score for score in published() if score.key.resolution]
    unsized = {score.table for score in pictures if score.key.resolution == NOT_STATED}
    assert unsized == {"vico-4", "pchg-1-talking", "pchg-1-listening", "hsp-1", "hsp-2"}
    assert all(("resolution not stated" in dict(s.flags)) == (s.table in unsized) for s in pictures)
    unfitted = [s for s in published() if s.key.space.maker == NOT_STATED and s.column != "score"]
    assert {s.column for s in unfitted} == {"PoseL1", "ExpL1", "PoseFD", "ExpFD"}
    assert all("unknown fitter" in dict(score.flags) for score in unfitted)
    for table in ("vico-4", "mfr-2"):
        assert {key[3] for key in flagged(table, "implementation inferred")} == {"FID", "SSIM", "PSNR"}


def test_a_private_frechet_distance_stands_beside_every_definition_that_it_may_have_without_a_rank() -> None:
    found: dict[str, set[str]] = {}
    for score in published():
        if "candidate definition" in dict(score.flags):
            found.setdefault(f"{score.table} {score.column}", set()).add(score.key.metric)
            assert not score.may_be_ranked
    frechet = {c: {f"{c.lower()}_frechet_pooled", f"{c.lower()}_frechet_per_clip"} for c in ("ExpFD", "PoseFD")}
    expected = {f"{table} {column}": ids for table in ("hsp-1", "hsp-2") for column, ids in frechet.items()}
    for part, what in (("face", "exp"), ("head", "pose")):
        ids = {f"fd_{what}_elp_norm", f"fd_{what}_elp_squared"}
        expected |= {f"elp-1-{part}{end} FD": ids for end in ("", "-l2l")}
    assert found == expected


@pytest.mark.parametrize("end", ["", "-l2l"])
def test_elps_second_table_adds_up_the_first(end: str) -> None:
    face, head, both = (numbers(f"{name}{end}") for name in ("elp-1-face", "elp-1-head", "elp-2"))
    blink = numbers(f"elp-1-blink{end}")
    same = {f"{name}+U": name for name in ("NN-motion", "NN-audio", "ELP")} | {"DLS-Rand.+U": "DLS-Random", "GT": "GT"}
    unlike = set()
    for (method, *where, column), value in both.items():
        if method in same:
            key = (same[method], *where)
            parts = blink[(*key, "WTLCC")] if column == "blink" else face[(*key, column)] + head[(*key, column)]
            if abs(parts - value) > SUM_OF_TWO_ROUNDED:
                unlike.add((method, *where, column))
    doubted = flagged(f"elp-2{end}", "doubtful scan") | flagged(f"elp-2{end}", "contradicts another table")
    mended = {("NN-motion+U", "test", ALL, "FD")} if not end else set()  # the sum stands in the list, not the scan
    assert unlike == doubted - mended


def test_preferences_add_up_to_100_percent() -> None:
    for split in ("test", "ood"):
        answers = [value for key, value in numbers("vico-6a").items() if key[1] == split and key[3] == "mean"]
        assert sum(answers) == pytest.approx(100, abs=0.11)
    chosen = numbers("mfr-3")
    for column in ("naturalness", "diversity", "identity", "attitude"):
        total = sum(value for key, value in chosen.items() if key[3] == column)
        wrong = any(key[3] == column for key in flagged("mfr-3", "contradicts its rows"))
        assert (abs(total - 100) > 0.35) == wrong


def test_repeated_rows_repeat() -> None:
    for table, other in (("vico-5", "vico-3"), ("hsp-2", "hsp-1")):
        known = numbers(other)
        for key in flagged(table, "repeated"):
            assert numbers(table)[key] == known[key]


def test_a_number_that_cannot_be_read_is_none_and_says_so() -> None:
    unread = [score for score in published() if score.value is None]
    assert len(unread) == 2
    assert all("doubtful scan" in dict(score.flags) and not score.may_be_ranked for score in unread)


def test_all_five_papers_are_there() -> None:
    assert {score.table.split("-")[0] for score in published()} == {"vico", "pchg", "elp", "mfr", "hsp"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('paper = "vico"', 'paper = "nobody"', "unknown paper 'nobody'"),
        ('angle = "fd_angle_eccv2022"', 'angle = "fd"', "unknown metrics fd"),
        ('"test", "positive", 17.92', '"test", "cheerful", 17.92', "expected method, split, attitude"),
        ("17.92, 44.71, 19.74]", "17.92, 44.71]", "and 3 numbers"),
        ("17.92, 44.71, 19.74]", '"many", 44.71, 19.74]', "expected numbers"),
        ('flag = "repeated", note = "the averages of', 'flag = "nice", note = "the averages of', "unknown flag 'nice'"),
        ('{ method = "ViCo", flag = "repeated"', '{ method = "Nobody", flag = "repeated"', "hold for no number"),
        ('better = "lower"', 'better = "cheaper"', "better: expected lower, higher or reference"),
        ('resolution = "not stated"', 'resolution = ""', "expected the pictures' side in px or 'not stated'"),
        ("candidates = { FD = [", "candidates = { PD = [", "candidates of unknown columns PD"),
        ('candidates = { FD = ["fd', 'candidates = { FD = ["fd", "fd', "unknown metrics fd;"),
        ('space = "deep3d"', 'sphere = "deep3d"', "unknown keys sphere"),
        ("[papers]", "[papers", "not TOML"),
    ],
)
def test_a_mistake_in_the_list_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "published.toml"
    text = PUBLISHED.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_published(path)
