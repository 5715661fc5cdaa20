"""The work on one part: run the stages of a group over its clips and write one column file a stage.

Knows nothing of Ray: `pipeline.run` gives parts to workers, tests and the benchmark call a worker directly.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.clip import Clip
from pipeline.ledger import attempts_of
from pipeline.object_storage import Location
from pipeline.plan import ClipTask, Part, Pipeline
from pipeline.registry import StageCode
from pipeline.stage import Reject, Stage
from pipeline.store import Store
from schemas.column import Column, ColumnError
from schemas.ledger import CRASHED, FAILED, REJECTED, Outcome

MAX_ATTEMPTS = 2  # a clip whose worker died this often in one run is recorded as crashed


@dataclass(frozen=True)
class Job:
    """All that a worker must know, small enough to be sent to it."""

    root: Location
    codes: tuple[StageCode, ...]
    settings: Mapping[str, Mapping[str, Any]]
    run_id: str


@dataclass(frozen=True)
class Done:
    """What one stage took for one clip; the driver adds these up for the run table."""

    stage: str
    clip_id: str
    outcome: str
    reason: str
    seconds: float
    num_frames: int


class PartWorker:
    """Holds the stages of one group, set up on first use, and runs them over parts."""

    def __init__(self, job: Job, stages: Sequence[str], device: str = "cpu") -> None:
        self.pipeline = Pipeline(job.codes, job.settings)
        self.store = Store(job.root)
        self.job = job
        self.names = tuple(stages)
        self.device = device
        self._ready: set[str] = set()

    def run(self, part: Part) -> list[Done]:
        """Compute what is missing of this part. Files appear as each run of stages has finished all clips."""
        work = _PartWork(self, part)
        stages = [stage for stage in self.pipeline.stages if stage.name in self.names]
        for batched, run in groupby(stages, key=_is_batched):
            for segment in ([stage] for stage in run) if batched else [list(run)]:
                work.compute(segment)
                work.write(segment)
        self.store.release_media(task.row.clip_id for task in part.clips)
        return work.done

    def ready(self, stage: Stage) -> Stage:
        """The stage with its models loaded."""
        if stage.name not in self._ready:
            stage.setup(self.device)
            self._ready.add(stage.name)
        return stage


def _is_batched(stage: Stage) -> bool:
    return type(stage).process_part is not Stage.process_part


class _PartWork:
    """One part on its way through the stages of one worker."""

    def __init__(self, worker: PartWorker, part: Part) -> None:
        self.worker, self.part = worker, part
        self.pipeline, self.store = worker.pipeline, worker.store
        self.attempts = attempts_of(self.store, part.name, worker.job.run_id)
        self.unfinished = self.attempts.unfinished()
        self.prints = {task.row.clip_id: self.pipeline.fingerprints(task) for task in part.clips}
        self.outcomes = {stage.name: self._stored(stage.name) for stage in self.pipeline.stages}
        self.new: dict[str, set[str]] = {stage.name: set() for stage in self.pipeline.stages}
        self.done: list[Done] = []
        self._columns: dict[str, dict[str, dict[str, Any]]] = {}

    def _stored(self, stage: str) -> dict[str, Outcome]:
        """Rows of the part's file that carry the wanted fingerprint; all others do not exist for us."""
        rows = self.store.read_outcomes(stage, self.part.name)
        return {c: row for c, row in rows.items() if c in self.prints and row.fingerprint == self.prints[c][stage]}

    def compute(self, segment: Sequence[Stage]) -> None:
        """Run neighbouring stages clip by clip; a stage that batches stands alone in its segment."""
        if len(segment) == 1 and _is_batched(segment[0]):
            self._compute_batch(segment[0])
            return
        for task in self.part.clips:
            clip = None
            for stage in segment:
                if not self._wants(stage, task):
                    continue
                clip = clip or self._open(task)
                self._load(clip, stage)
                self._record(stage, clip, *self._process(stage, clip))
            if clip is not None:
                clip.close()

    def _wants(self, stage: Stage, task: ClipTask) -> bool:
        """Whether this stage has to work on this clip: no row yet, and every earlier stage was content with it."""
        clip_id = task.row.clip_id
        if clip_id in self.outcomes[stage.name]:
            return False
        earlier = self.pipeline.stages[: self.pipeline.stages.index(stage)]
        rows = [self.outcomes[other.name].get(clip_id) for other in earlier]
        return all(row is not None and row.ok for row in rows)

    def _open(self, task: ClipTask) -> Clip:
        scratch = self.store.scratch / self.worker.job.run_id / task.row.clip_id
        return Clip(task.row.columns(), task.row.span, task.source, self.store.local, scratch)

    def _load(self, clip: Clip, stage: Stage) -> None:
        """Bring the columns that the stage reads into the clip, from memory or from the files of earlier stages."""
        for name in stage.reads:
            writer = self.pipeline.writer.get(name)
            if writer is not None and name not in clip.values:
                row = self.outcomes[writer][clip.clip_id]
                clip.values[name] = row.values[name] if name in row.values else self._read(writer, name)[clip.clip_id]
                if self.pipeline.columns[name].media and clip.values[name] is not None:
                    self.store.fetch_media(clip.values[name])

    def _read(self, writer: str, column: str) -> dict[str, Any]:
        if column not in self._columns:
            rows = self.store.read_columns(writer, self.part.name, [self.pipeline.columns[column]])
            self._columns[column] = {clip_id: values[column] for clip_id, values in rows.items()}
        return self._columns[column]

    def _process(self, stage: Stage, clip: Clip) -> tuple[Any, float]:
        """The stage's answer for one clip, an exception included, and the seconds it took."""
        if self.unfinished[stage.name, clip.clip_id] >= MAX_ATTEMPTS:
            return _Crashed(f"the worker process died {MAX_ATTEMPTS} times on this clip"), 0.0
        ready = self.worker.ready(stage)
        self.attempts.start(stage.name, clip.clip_id)
        started = time.perf_counter()
        try:
            answer: Any = ready.process(clip)
        except Exception as error:  # becomes a row of the ledger: one bad clip never costs another
            answer = error
        return answer, time.perf_counter() - started

    def _compute_batch(self, stage: Stage) -> None:
        tasks = [task for task in self.part.clips if self._wants(stage, task)]
        if not tasks:
            return
        clips = [self._open(task) for task in tasks]
        for clip in clips:
            self._load(clip, stage)
            self.attempts.start(stage.name, clip.clip_id)
        ready = self.worker.ready(stage)
        started = time.perf_counter()
        try:
            answers: list[Any] = list(ready.process_part(clips))
        except Exception as error:
            answers = [error] * len(clips)
        seconds = (time.perf_counter() - started) / len(clips)
        for clip, answer in zip(clips, answers, strict=True):
            self._record(stage, clip, answer, seconds)
            clip.close()

    def _record(self, stage: Stage, clip: Clip, answer: Any, seconds: float) -> None:
        """Turn an answer into a row; media files move to their place here, before the row that names them."""
        fingerprint = self.prints[clip.clip_id][stage.name]
        row = _as_outcome(stage, clip, answer, fingerprint)
        if row.ok:
            row.values.update(self._publish_media(stage, clip, row.values))
            clip.values.update(row.values)
        self.outcomes[stage.name][clip.clip_id] = row
        self.new[stage.name].add(clip.clip_id)
        self.attempts.end(stage.name, clip.clip_id, row.outcome, seconds)
        self.done.append(Done(stage.name, clip.clip_id, row.outcome, row.reason, seconds, clip.num_frames))

    def _publish_media(self, stage: Stage, clip: Clip, values: Mapping[str, Any]) -> dict[str, str]:
        media = [column.name for column in stage.writes if column.media and values[column.name] is not None]
        if media and not self.new[stage.name]:
            # From here on the part's file would describe media that are about to change: keep only what stays true.
            self._rewrite(stage, only_stored=True)
        return {name: self.store.publish_media(clip.clip_id, Path(values[name])) for name in media}

    def write(self, segment: Sequence[Stage]) -> None:
        """Write the column file of every stage that has new rows."""
        for stage in segment:
            if self.new[stage.name]:
                self._rewrite(stage)

    def _rewrite(self, stage: Stage, *, only_stored: bool = False) -> None:
        rows = self.outcomes[stage.name]
        kept = [row for clip_id, row in rows.items() if clip_id not in self.new[stage.name]]
        old = self.store.read_columns(stage.name, self.part.name, stage.writes) if kept else {}
        whole = [Outcome(r.clip_id, r.fingerprint, r.outcome, r.reason, r.detail, old[r.clip_id]) for r in kept]
        if not only_stored:
            whole += [rows[clip_id] for clip_id in self.new[stage.name]]
        elif not self.store.column_file(stage.name, self.part.name).is_file():
            return
        metadata = {**self.pipeline.identity[stage.name], "code_sha256": self.pipeline.codes[stage.name].sha256}
        self.store.write_columns(stage.name, self.part.name, stage.writes, whole, metadata)


class _Crashed(Exception):
    """Stands for the answer of a stage that took its process down."""


def _as_outcome(stage: Stage, clip: Clip, answer: Any, fingerprint: str) -> Outcome:
    """A stage's answer as a row: its columns checked, or the reason why there are none."""
    if isinstance(answer, Reject):
        if answer.reason in stage.rejects:
            return Outcome(clip.clip_id, fingerprint, REJECTED, answer.reason, answer.detail)
        answer = ValueError(f"stage {stage.name!r} rejected with {answer.reason!r}, which its `rejects` does not list")
    if not isinstance(answer, Exception):
        try:
            return Outcome(clip.clip_id, fingerprint, values=_checked(stage, clip, answer))
        except ColumnError as error:
            answer = error
    outcome = CRASHED if isinstance(answer, _Crashed) else FAILED
    detail = "" if answer.__traceback__ is None else "".join(traceback.format_exception(answer))[-2000:]
    reason = str(answer) if outcome == CRASHED else f"{type(answer).__name__}: {answer}"
    return Outcome(clip.clip_id, fingerprint, outcome, reason[:200], detail)


def _checked(stage: Stage, clip: Clip, answer: Any) -> dict[str, Any]:
    """The columns of one clip in their declared types; every declared column and no other."""
    declared = {column.name for column in stage.writes}
    if not isinstance(answer, dict) or set(answer) != declared:
        found = sorted(answer) if isinstance(answer, dict) else type(answer).__name__
        raise ColumnError(f"stage {stage.name!r} must return the columns {sorted(declared)}, found {found}")
    return {column.name: _check_value(column, clip, answer[column.name]) for column in stage.writes}


def _check_value(column: Column, clip: Clip, value: Any) -> Any:
    if column.media and not (value is None or Path(value).is_file()):
        raise ColumnError(f"column {column.name!r}: no file {value}; write it to clip.output(...) first")
    return column.check(value, clip.num_frames)
