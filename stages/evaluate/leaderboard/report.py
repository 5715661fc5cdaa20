"""The report of an evaluation: everything that its files say, as data, and how numbers are written."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from schemas.column import other_role, plain_fields
from schemas.dataset import Predicted
from schemas.score import ALL, FORMAT_VERSION, NOT_STATED, REFERENCE_RUN, ClipScore, Comparable, Difference, Score
from stages.evaluate.evaluation import EvaluatedRun, Evaluation, Spread
from stages.evaluate.leaderboard.boards import Board, Standing, make_boards
from stages.evaluate.leaderboard.published import Metric, read_published
from stages.evaluate.leaderboard.ranking import Ranking, challenge_rankings
from stages.evaluate.metrics.definition import Definition, Whose
from stages.evaluate.metrics.registry import find_definition
from stages.evaluate.runs import Policy
from stages.evaluate.scoring import data_name, score_all

ZERO = 1e-9  # what a sum of float64 leaves of nothing


Films = dict[str, dict[str, Path]]
"""Clips that can be watched: id -> whose -> file, the reference and the speaker first."""


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """A metric on a split, of one attitude or all: a score a run where there is one, and the reference's own value."""

    metric: str
    split: str
    scores: tuple[Score | None, ...]
    best: tuple[bool, ...]
    goal: Score | None


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Metrics that were not computed for some runs, and why."""

    runs: tuple[str, ...]
    reason: str
    metrics: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """An evaluation, ready to be written."""

    data: str
    fitter: str
    splits: tuple[str, ...]
    policy: Policy
    seed: int
    names: list[str]
    about: dict[str, Predicted | None]
    notes: list[str]
    scores: list[Score]
    differences: list[Difference]
    clip_scores: list[ClipScore]
    not_computed: dict[tuple[str, str], str]
    boards: list[Board]
    rankings: list[Ranking]
    metrics: Mapping[str, Metric]
    films: Films

    @cached_property
    def _by_place(self) -> dict[tuple[str, str, str, str], Score]:
        return {(s.run, s.key.metric, s.key.split, s.key.attitude): s for s in self.scores}

    def find(self, run: str, metric: str, split: str, attitude: str = ALL) -> Score | None:
        """One score, if there is one."""
        return self._by_place.get((run, metric, split, attitude))

    def computed(self) -> list[Definition]:
        """The metrics that at least one run has."""
        found = dict.fromkeys(score.key.metric for score in self.scores if score.run != REFERENCE_RUN)
        return [find_definition(name) for name in found]

    def summary_rows(self) -> list[ScoreRow]:
        """A row a metric and split."""
        return [row for split in self.splits for row in self.rows(split, ALL)]

    def rows(self, split: str, attitude: str) -> list[ScoreRow]:
        """A row a metric that any run has."""
        made = []
        for metric in self.computed():
            found = [self.find(name, metric.id, split, attitude) for name in self.names]
            if any(found):
                goal = self.find(REFERENCE_RUN, metric.id, split, attitude)
                best = _best(metric, found, goal)
                made.append(ScoreRow(metric=metric.id, split=split, scores=tuple(found), best=best, goal=goal))
        return made

    def boards_beside_others(self) -> list[Board]:
        """Without those that hold our runs alone: the tables of scores show these."""
        return [board for board in self.boards if not board.ours or len(board.rows) > len(self.names)]

    def attitudes(self, split: str) -> list[str]:
        """The attitudes that listeners of a split have."""
        found = dict.fromkeys(score.key.attitude for score in self.scores if score.key.split == split)
        return [attitude for attitude in found if attitude != ALL]

    def clips(self, split: str) -> tuple[int, int]:
        """Clips and frames of a split, as the metric sees them that counts most."""
        found = [score for score in self.scores if score.key.split == split and score.key.attitude == ALL]
        return max((s.num_clips for s in found), default=0), max((s.num_frames for s in found), default=0)

    def missing(self) -> Iterator[Missing]:
        """What was not computed: every reason once for runs that lack the same metrics."""
        of_run: dict[tuple[str, str], list[str]] = defaultdict(list)
        for (run, metric), reason in self.not_computed.items():
            of_run[run, reason].append(metric)
        together: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
        for (run, reason), metrics in of_run.items():
            together[reason, tuple(metrics)].append(run)
        for (reason, lacking), runs in together.items():
            yield Missing(runs=tuple(runs), reason=reason, metrics=lacking)

    def to_json(self) -> dict[str, Any]:
        """What ``scores.json`` holds."""
        return {
            "format_version": FORMAT_VERSION,
            "data": self.data,
            "fitter": self.fitter,
            "splits": list(self.splits),
            "policy": asdict(self.policy),
            "seed": self.seed,
            "runs": [
                {"name": n, "predicted": asdict(who, dict_factory=plain_fields) if (who := self.about[n]) else {}}
                for n in self.names
            ],
            "notes": self.notes,
            "scores": [score.to_json() for score in self.scores],
            "differences": [difference.to_json() for difference in self.differences],
            "not_computed": [{"run": r, "metric": m, "reason": why} for (r, m), why in self.not_computed.items()],
            "rankings": [asdict(ranking) for ranking in self.rankings],
            "definitions": [definition_json(definition) for definition in self.computed()],
        }


def definition_json(definition: Definition) -> dict[str, Any]:
    """What a definition says of itself."""
    names = ("id", "name", "published_as", "formula", "source", "unit", "scale", "weights", "warning", "perfect")
    plain = {name: getattr(definition, name) for name in names}
    return {**plain, "pooling": definition.pooling.value, "direction": definition.direction.value}


def number_text(value: float) -> str:
    """Four digits; what rounding leaves of nothing is 0."""
    return "0" if abs(value) < ZERO else f"{value:.4g}"


def interval_text(score: Score | Difference | Standing | None) -> str:
    """Value with its interval, where it has one."""
    if score is None:
        return "not computed"
    if score.low != score.low:  # NaN: one clip has no interval
        return number_text(score.value)
    return f"{number_text(score.value)} [{number_text(score.low)}, {number_text(score.high)}]"


def _best(metric: Definition, scores: list[Score | None], goal: Score | None) -> tuple[bool, ...]:
    """Which of several runs are best; nobody where there is nothing to compare."""
    aim = goal.value if goal else None
    marks = [metric.direction.badness(score.value, aim) if score else math.inf for score in scores]
    compared = {mark for mark, score in zip(marks, scores, strict=True) if score}
    return tuple(len(compared) > 1 and mark == min(compared) for mark in marks)


def make_report(done: Evaluation, spread: Spread, seed: int) -> Report:
    """Scores, boards and rankings of an evaluation."""
    found = score_all(done, spread, seed)
    metrics, published = read_published()
    first_frame = [] if done.request.policy.first_frame == "count" else ["the first frame of every clip is left out"]
    runs = [one for one in done.runs if one.run.name != REFERENCE_RUN]
    return Report(
        data=data_name(done),
        fitter=str(done.fitter or ""),
        splits=done.request.splits,
        policy=done.request.policy,
        seed=seed,
        names=[one.run.name for one in runs],
        about={one.run.name: one.run.about for one in runs},
        notes=[*first_frame, *found.notes, *(note for one in done.runs for note in one.notes)],
        scores=found.scores,
        differences=found.differences,
        clip_scores=[row for one in runs for row in one.clip_scores()],
        not_computed={**done.not_computed, **found.undefined},
        boards=make_boards(found.scores, published, metrics),
        rankings=[one for split in done.request.splits for one in challenge_rankings(found.scores, split, published)],
        metrics=metrics,
        films=_films(runs, done.request.role),
    )


def _films(runs: Sequence[EvaluatedRun], role: str) -> Films:
    """The clips of which a run has a video: of its first sample."""
    films: Films = {}
    for one in runs:
        for task in (clip.task for clip in one.clips if clip.task.sample == 0 and Whose.PREDICTED in clip.task.videos):
            people = {Whose.REFERENCE: Whose.REFERENCE.value, Whose.SPEAKER: other_role(role)}
            own = {name: task.videos[whose] for whose, name in people.items() if whose in task.videos}
            films.setdefault(task.clip_id, own)[one.run.name] = task.videos[Whose.PREDICTED]
    return dict(sorted(films.items()))


def board_place(key: Comparable) -> str:
    """Where a board's numbers come from, in words."""
    attitude = "all attitudes" if key.attitude == ALL else key.attitude
    told = {"fitter": str(key.space), "size": key.resolution}
    made = [f"{what} {text}" if text == NOT_STATED else text for what, text in told.items()]
    return ", ".join(filter(None, (key.data, key.split, attitude, *made)))
