"""From votes to labels: what most say of a clip, or that it must be adjudicated.

The rule has a name and stands in the report. A question is decided by more than half of those who answered it. A tie
is never broken by a guess and never becomes ``neutral``: it is adjudicated, by somebody who sees all votes. Times are
the median of those who call the clip valid, the lower one of two, so that somebody has chosen it; where two of
them share less than half of their frames, the times are adjudicated too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations
from statistics import median_low
from typing import TypeVar

from jobs.votes.agreement import overlap
from jobs.votes.films import Film, Films
from jobs.votes.question import Answer
from jobs.votes.store import ADJUDICATION, FIRST, Vote
from pipeline.clock import Span
from pipeline.manifest.clips_csv import ClipRow
from schemas.clip import SIDES

TIE_RULE = "adjudicate"  # more than half decides; a tie is adjudicated
FEWEST_VOTES = 3  # ViCo: at least three annotators
LEAST_OVERLAP = 0.5
VALID, INVALID, OPEN, WAITING = "valid", "invalid", "adjudicate", "waiting"
OUTCOMES = {
    VALID: "in the table",
    INVALID: "left out: most say that it is not valid",
    OPEN: "left out until adjudicated",
    WAITING: "left out: too few votes",
}

T = TypeVar("T")
Votes = Mapping[str, Sequence[Vote]]
"""Every annotator's votes that count, of all rounds."""


@dataclass(frozen=True)
class Decision:
    """What follows from the votes on one clip."""

    clip_id: str
    outcome: str  # of `OUTCOMES`
    answers: tuple[Answer, ...]
    label: Answer | None = None  # of a valid clip
    undecided: tuple[str, ...] = ()  # of valid, attitude, side, times
    adjudicated: bool = False


def without_stale(films: Films, votes: Votes) -> tuple[dict[str, list[Vote]], int]:
    """Votes on what can still be seen as it was seen, and the number of the others."""
    prints = {clip_id: film.fingerprint for clip_id, film in films.films.items()}
    fresh = {who: [v for v in given if prints.get(v.clip_id) == v.fingerprint] for who, given in votes.items()}
    return fresh, sum(map(len, votes.values())) - sum(map(len, fresh.values()))


def decide_all(films: Films, fresh: Votes, fewest: int = FEWEST_VOTES) -> list[Decision]:
    """A decision for every clip that can be judged, in order of ids."""
    answers: dict[tuple[str, str], list[Answer]] = {}
    for who in sorted(fresh):
        for vote in fresh[who]:
            assert vote.answer is not None  # what counts is no undo
            answers.setdefault((vote.clip_id, vote.round), []).append(vote.answer)
    return [
        decide(film, answers.get((clip_id, FIRST), []), answers.get((clip_id, ADJUDICATION), []), fewest)
        for clip_id, film in sorted(films.films.items())
    ]


def decide(film: Film, first: Sequence[Answer], adjudications: Sequence[Answer], fewest: int) -> Decision:
    """What most say of a clip; adjudications, where there are any, count alone and by the same rule."""
    counted = adjudications or first
    if not adjudications and len(first) < max(fewest, 1):
        return Decision(film.clip_id, WAITING, tuple(first))
    decision = _decide(film, counted)
    return replace(decision, answers=tuple(first), adjudicated=bool(adjudications))


def _decide(film: Film, answers: Sequence[Answer]) -> Decision:
    said = Decision(film.clip_id, OPEN, ())
    valid = majority([answer.valid for answer in answers])
    if valid is None:
        return replace(said, undecided=("valid",))
    if not valid:
        return replace(said, outcome=INVALID)
    agreeing = [answer for answer in answers if answer.valid]
    attitude = majority([answer.attitude for answer in agreeing])
    side = majority([answer.side for answer in agreeing]) if film.asks_side else film.row.speaker_side
    spans = [span_of(answer) for answer in agreeing]
    close = all(overlap(*pair) >= LEAST_OVERLAP for pair in combinations(spans, 2))
    first, after = (median_low(edge) for edge in zip(*spans, strict=True))
    open_ones = {"attitude": attitude is None, "side": film.asks_side and side is None}
    undecided = [name for name, is_open in {**open_ones, "times": not close or first >= after}.items() if is_open]
    label = Answer(True, (), first, after, side, attitude)
    return replace(said, undecided=tuple(undecided)) if undecided else replace(said, outcome=VALID, label=label)


def majority(values: Collection[T]) -> T | None:
    """What more than half say; None if there is no such thing."""
    value, number = Counter(values).most_common(1)[0]
    return value if 2 * number > len(values) else None


def span_of(answer: Answer) -> tuple[int, int]:
    assert answer.in_frame is not None and answer.out_frame is not None  # `Answer.of_json` sees to it
    return answer.in_frame, answer.out_frame


def labelled_rows(films: Films, decisions: Sequence[Decision]) -> list[ClipRow]:
    """The rows of the valid clips as their labels have them; a clip whose times change keeps its id.

    Where the speaker turns out to sit on the other side, the two people change roles, and with them their ids.
    """
    labels = {decision.clip_id: decision.label for decision in decisions if decision.label}
    return [
        _labelled(row, films.films[row.clip_id], labels[row.clip_id]) for row in films.rows if row.clip_id in labels
    ]


def _labelled(row: ClipRow, film: Film, label: Answer) -> ClipRow:
    first, after = span_of(label)
    start_s = row.span.frame_time(first)
    end_s = row.span.end_s if after == film.num_frames else row.span.frame_time(after)
    people = (row.speaker_id, row.listener_id)
    if film.asks_side and row.speaker_side in SIDES and label.side != row.speaker_side:
        people = (row.listener_id, row.speaker_id)
    span = Span(start_s, end_s)
    side = label.side if film.asks_side else row.speaker_side
    return replace(
        row, span=span, speaker_side=side, attitude=label.attitude, speaker_id=people[0], listener_id=people[1]
    )


def csv_cells(row: ClipRow) -> list[str]:
    """A row of clips.csv, with the clip's id; times exact where a decimal of nine places can be."""
    times = [_decimal(row.span.start_s), _decimal(row.span.end_s)]
    texts = [row.speaker_side, row.attitude, row.speaker_id, row.listener_id, row.split, row.clip_id]
    return [row.source_id, *times, *(text or "" for text in texts)]


def _decimal(seconds: Fraction) -> str:
    whole, places = divmod(round(seconds * 10**9), 10**9)
    return f"{whole}.{places:09d}".rstrip("0").rstrip(".")
