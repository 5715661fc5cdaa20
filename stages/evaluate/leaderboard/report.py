"""The report of an evaluation: everything that its files say, and the writing of them.

OUT/scores.json          scores, differences, rankings, what was not computed, definitions, settings
OUT/scores.parquet       a row a run, sample, clip and metric
OUT/leaderboard.md       the same for people
OUT/leaderboard.html     one page with charts; plays the clips of OUT/media/<clip_id>/ where they were rendered
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.dataset.store import Store
from schemas.dataset import Predicted
from schemas.score import ALL, FORMAT_VERSION, REFERENCE_RUN, ClipScore, Comparable, Difference, Score, clip_score_table
from stages.evaluate.evaluation import Evaluation, Measured, Spread
from stages.evaluate.leaderboard.boards import Board, Ranking, challenge_rankings, make_boards
from stages.evaluate.leaderboard.published import Metric, read_published
from stages.evaluate.metrics.definition import Definition, Direction
from stages.evaluate.metrics.registry import find_definition
from stages.evaluate.runs import Policy
from stages.evaluate.scoring import score_all

ZERO = 1e-9  # what a sum of float64 leaves of nothing


@dataclass(frozen=True)
class Film:
    """A clip that can be watched: whose -> file, the reference and the speaker first."""

    clip_id: str
    split: str
    attitude: str | None
    files: Mapping[str, Path]


@dataclass(frozen=True)
class Row:
    """A metric on a split, all attitudes together, with a cell a run."""

    metric: str
    split: str
    attitude: str
    cells: tuple[str, ...]
    best: tuple[bool, ...]
    goal: str


@dataclass(frozen=True)
class Missing:
    """Metrics that were not computed for some runs, and why."""

    runs: tuple[str, ...]
    reason: str
    metrics: tuple[str, ...]


@dataclass
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
    films: list[Film] = field(default_factory=list)

    def find(self, run: str, metric: str, split: str, attitude: str = ALL) -> Score | None:
        """One score, if there is one."""
        return self._by_place.get((run, metric, split, attitude))

    def __post_init__(self) -> None:
        self._by_place = {(s.run, s.key.metric, s.key.split, s.key.attitude): s for s in self.scores}

    def computed(self) -> list[Definition]:
        """The metrics that at least one run has."""
        found = dict.fromkeys(score.key.metric for score in self.scores if score.run != REFERENCE_RUN)
        return [find_definition(name) for name in found]

    def summary_rows(self) -> list[Row]:
        """A row a metric and split."""
        return [row for split in self.splits for row in self.rows(split, ALL)]

    def rows(self, split: str, attitude: str) -> list[Row]:
        """A row a metric: value and interval of every run, with the best marked."""
        made = []
        for metric in self.computed():
            found = [self.find(name, metric.id, split, attitude) for name in self.names]
            if not any(found):
                continue
            goal = self.find(REFERENCE_RUN, metric.id, split, attitude)
            cells = tuple(interval_text(score) if score else "not computed" for score in found)
            best = _best(metric, found, goal)
            made.append(Row(metric.id, split, attitude, cells, best, number_text(goal.value) if goal else ""))
        return made

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
            yield Missing(tuple(runs), reason, lacking)

    def to_json(self) -> dict[str, Any]:
        """What ``scores.json`` holds."""
        return {
            "format_version": FORMAT_VERSION,
            "data": self.data,
            "fitter": self.fitter,
            "splits": list(self.splits),
            "policy": asdict(self.policy),
            "seed": self.seed,
            "runs": [{"name": n, "predicted": asdict(who) if (who := self.about[n]) else {}} for n in self.names],
            "notes": self.notes,
            "scores": [score.to_json() for score in self.scores],
            "differences": [_flat(difference) for difference in self.differences],
            "not_computed": [{"run": r, "metric": m, "reason": why} for (r, m), why in self.not_computed.items()],
            "rankings": [asdict(ranking) for ranking in self.rankings],
            "definitions": [definition_json(definition) for definition in self.computed()],
        }


def _flat(difference: Difference) -> dict[str, Any]:
    fields = asdict(difference)
    key = fields.pop("key")
    return {"first": fields.pop("first"), "second": fields.pop("second"), **key, **fields}


def definition_json(definition: Definition) -> dict[str, Any]:
    """What a definition says of itself."""
    names = ("id", "name", "published_as", "formula", "source", "unit", "scale", "weights", "warning", "perfect")
    plain = {name: getattr(definition, name) for name in names}
    return {**plain, "pooling": definition.pooling.value, "direction": definition.direction.value}


def number_text(value: float) -> str:
    """Four digits; what rounding leaves of nothing is 0."""
    return "0" if abs(value) < ZERO else f"{value:.4g}"


def interval_text(score: Score | Difference) -> str:
    """Value with its interval, where it has one."""
    if score.low != score.low:  # NaN: one clip has no interval
        return number_text(score.value)
    return f"{number_text(score.value)} [{number_text(score.low)}, {number_text(score.high)}]"


def _best(metric: Definition, scores: list[Score | None], goal: Score | None) -> tuple[bool, ...]:
    """Which of several runs are best; nobody where there is nothing to compare."""

    def badness(score: Score) -> float:
        if metric.direction is Direction.REFERENCE:
            return abs(score.value - goal.value) if goal else 0.0
        return score.value if metric.direction is Direction.LOWER else -score.value

    marks = [badness(score) for score in scores if score]
    if len(set(marks)) < 2:
        return (False,) * len(scores)
    return tuple(score is not None and badness(score) == min(marks) for score in scores)


def make_report(done: Evaluation, spread: Spread, seed: int) -> Report:
    """Scores, boards and rankings of an evaluation."""
    scores, differences = score_all(done, spread, seed)
    metrics, published = read_published()
    runs = [measured for measured in done.measured if measured.run.name != REFERENCE_RUN]
    return Report(
        data=done.description.name,
        fitter=str(done.fitter or ""),
        splits=done.request.splits,
        policy=done.request.policy,
        seed=seed,
        names=[measured.run.name for measured in runs],
        about={measured.run.name: measured.run.about for measured in runs},
        notes=[*done.notes, *(note for measured in done.measured for note in measured.notes)],
        scores=scores,
        differences=differences,
        clip_scores=[row for measured in runs for row in measured.clip_scores()],
        not_computed=done.not_computed,
        boards=make_boards(scores, published, metrics),
        rankings=[ranking for split in done.request.splits for ranking in challenge_rankings(scores, split)],
        metrics=metrics,
        films=_films(runs),
    )


def _films(runs: list[Measured]) -> list[Film]:
    """The clips of which a run has a video: of its first sample."""
    films: dict[str, Film] = {}
    for measured in runs:
        folder = measured.run.samples[0].videos
        for clip in measured.clips[0] if measured.clips and folder else []:
            video = folder / f"{clip.clip_id}.mp4"
            own = {name: path for name, path in (("reference", clip.video), ("speaker", clip.speaker_video)) if path}
            film = films.setdefault(clip.clip_id, Film(clip.clip_id, clip.split, clip.attitude, own))
            if video.is_file():
                films[clip.clip_id] = Film(
                    clip.clip_id, clip.split, clip.attitude, {**film.files, measured.run.name: video}
                )
    return [films[clip_id] for clip_id in sorted(films)]


def write_report(report: Report, out: Path) -> None:
    """Write all files; those of an earlier evaluation are replaced."""
    from stages.evaluate.leaderboard.markdown import leaderboard_markdown
    from stages.evaluate.leaderboard.page import leaderboard_html

    store = Store(out)
    out.mkdir(parents=True, exist_ok=True)
    links = {film.clip_id: _link_media(film, out) for film in report.films}
    with store.new_file(out / "scores.parquet") as temporary:
        pq.write_table(clip_score_table(report.clip_scores), temporary, compression="zstd")
    store.write_text(out / "leaderboard.md", leaderboard_markdown(report))
    store.write_text(out / "leaderboard.html", leaderboard_html(report, links))
    store.write_text(out / "scores.json", json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n")
    store.clear_scratch()


def _link_media(film: Film, out: Path) -> dict[str, str]:
    """The film's files beside the page, linked where the disk allows and else copied: whose -> relative path."""
    folder = out / "media" / film.clip_id
    folder.mkdir(parents=True, exist_ok=True)
    links = {}
    for number, (name, path) in enumerate(film.files.items()):
        target = folder / f"{number}.mp4"  # names of runs are no file names
        target.unlink(missing_ok=True)
        try:
            os.link(path.resolve(), target)
        except OSError:
            shutil.copyfile(path, target)
        links[name] = target.relative_to(out).as_posix()
    return links


def board_place(key: Comparable) -> str:
    """Where a board's numbers come from, in words."""
    parts = [key.data, key.split, "all attitudes" if key.attitude == ALL else key.attitude, key.space, key.resolution]
    return ", ".join(part for part in parts if part)
