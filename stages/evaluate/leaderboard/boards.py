"""Boards: numbers that may be ranked, because they share definition, data, split, attitude, space, scale, resolution.

Our runs stand on the board of their own key; a published number joins them where nothing that it states differs. What
it leaves out (the size of pictures, the fitter) keeps it from no board, and a flag says so. Papers name a fitter but no
hash of its weights, so that of a space the fitter alone is compared. Without a rank stand numbers with a
flag that says they were copied, averaged over sets or cannot be right, and ours beside published ones that differ.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from schemas.score import ALL, NOT_STATED, REFERENCE_RUN, Comparable, Score, ScoreSpace
from stages.evaluate.leaderboard.published import Metrics, PublishedScore
from stages.evaluate.metrics.definition import Direction


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A line of a board: one of our runs, or a published method with its source."""

    name: str
    value: float | None
    low: float = math.nan
    high: float = math.nan
    source: str = ""
    flags: tuple[tuple[str, str], ...] = ()
    ranked: bool = True
    rank: int | None = None


@dataclass(frozen=True)
class Board:
    """Rows that may be compared, best first; ``goal`` is the reference's own value where closeness to it counts."""

    key: Comparable
    rows: tuple[Standing, ...]
    goal: float | None = None

    @property
    def ours(self) -> bool:
        """Whether one of our runs is compared on it."""
        return any(row.ranked and not row.source for row in self.rows)


def make_boards(scores: Sequence[Score], published: Sequence[PublishedScore], metrics: Metrics) -> list[Board]:
    """All boards, ours first, in the order of the metrics."""
    rows: dict[Comparable, list[Standing]] = defaultdict(list)
    goals = {score.key: score.value for score in scores if score.run == REFERENCE_RUN}
    for score in scores:
        if score.run != REFERENCE_RUN:
            rows[score.key].append(_standing(score))
    ours: dict[tuple[str, str, str], list[Comparable]] = defaultdict(list)
    for key in rows:
        ours[_place(key)].append(key)
    for number in published:
        if number.method == "GT" and number.value is not None:
            goals.setdefault(number.key, number.value)
        row = Standing(
            name=number.method,
            value=number.value,
            source=number.source,
            flags=number.flags,
            ranked=number.may_be_ranked and number.method != "GT",
        )
        joined = [key for key in ours.get(_place(number.key), []) if not why_apart(key, number.key)]
        for key in joined or [number.key]:
            rows[key].append(row)
    for key in rows.keys() - {key for keys in ours.values() for key in keys}:
        rows[key] += _beside(key, scores)
    order = {id: position for position, id in enumerate(metrics)}
    boards = [_board(key, found, metrics[key.metric].better, goals.get(key)) for key, found in rows.items()]
    return sorted(boards, key=lambda board: (not board.ours, order[board.key.metric], board.key.attitude != ALL))


def _standing(score: Score) -> Standing:
    return Standing(name=score.run, value=score.value, low=score.low, high=score.high)


def _beside(key: Comparable, scores: Sequence[Score]) -> list[Standing]:
    """Our runs on the same split and attitude as a board of the published, without a rank."""
    rows = []
    for score in scores:
        if _place(score.key) == _place(key) and score.run != REFERENCE_RUN:
            flags = ((f"not comparable: other {', '.join(why_apart(score.key, key))}", score.key.data),)
            rows.append(replace(_standing(score), flags=flags, ranked=False))
    return rows


def named_fitter(key: Comparable) -> Comparable:
    """A key as a paper could state it: the fitter without version and hash."""
    return replace(key, space=key.space.as_published())


def _place(key: Comparable) -> tuple[str, str, str]:
    return key.metric, key.split, key.attitude


def _board(key: Comparable, rows: Sequence[Standing], better: Direction, goal: float | None) -> Board:
    """Rows with ranks, ties sharing the better one; those without a rank last."""
    can = better is not Direction.REFERENCE or goal is not None
    ranked = sorted((row for row in rows if row.ranked and can), key=lambda row: better.badness(row.value, goal))
    marks = [better.badness(row.value, goal) for row in ranked]
    if len(ranked) > 1:  # one alone is no first
        ranked = [replace(row, rank=1 + marks.index(mark)) for row, mark in zip(ranked, marks, strict=True)]
    return Board(key, (*ranked, *(row for row in rows if not (row.ranked and can))), goal)


def why_apart(ours: Comparable, theirs: Comparable) -> list[str]:
    """The fields in which two keys differ, their places in a table (split, attitude) aside, where both state them."""
    stated, names = named_fitter(ours), ("data", "space", "scale", "pooling", "resolution")
    unstated = (NOT_STATED, ScoreSpace(NOT_STATED))
    return [n for n in names if getattr(theirs, n) not in unstated and getattr(stated, n) != getattr(theirs, n)]
