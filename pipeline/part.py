"""The work on one part: run the stages of a group over its clips and write one column file a stage.

Knows nothing of Ray: `pipeline.run` and `pipeline.processes` give parts to workers, tests and the benchmark call a
worker directly.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.attempt import Answer, Died, as_outcome, ask
from pipeline.clip import Clip, Readers
from pipeline.dataset.storage import Location
from pipeline.dataset.store import Store
from pipeline.gpu import NO_GPU_SETTINGS, GpuSettings
from pipeline.ledger.diary import PRINT_DIGITS, Deaths, attempts_of
from pipeline.ledger.limits import Limits
from pipeline.ledger.watchdog import Watchdog
from pipeline.media.sandbox import CPU
from pipeline.plan import ClipTask, Part, Pipeline
from pipeline.registry import StageCode
from pipeline.stage import Reject, Stage
from schemas.column import portrait_of
from schemas.errors import UserError
from schemas.outcome import FAILED, OK, Outcome

SAVE_EVERY_S = 60.0  # a kill costs the clips since the last save, however long the part takes
THREADS = {"torch": "set_num_threads", "cv2": "setNumThreads"}  # library -> how it is told; it takes all cores untold
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
MAPPED_BYTES, TRIMMED_BYTES = 64 * 2**20, 128 * 2**20
SETUP = ""  # stands in a diary for the setup of a stage, where a clip's id stands for work on a clip


@dataclass(frozen=True)
class Job:
    """All that a worker must know, small enough to be sent to it."""

    root: Location
    codes: tuple[StageCode, ...]
    settings: Mapping[str, Mapping[str, Any]]
    run_id: str
    limits: Limits = Limits()
    portraits: bool = False  # whether pictures stand for some listeners
    gpu: GpuSettings = NO_GPU_SETTINGS


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
    """Holds the stages of one group, set up on first use, and runs them over parts.

    A stage that exceeds the job's limits takes this whole process down. Whoever started it starts another, which finds
    in the diary of the part what happened, and ``host`` it was on; ``lost_hosts`` names those that went with all that
    they were at.
    """

    def __init__(
        self,
        job: Job,
        stages: Sequence[str],
        device: str = "cpu",
        host: str = "",
        lost_hosts: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.pipeline = Pipeline(job.codes, job.settings, job.portraits, job.gpu)
        self.store = Store(job.root, journal=True)
        self.job = job
        self.names = tuple(stages)
        self.device, self.host, self.lost_hosts = device, host, lost_hosts
        self.decoder = job.gpu.decoder if device != "cpu" else CPU
        self.cpus = max(stage.cpus() for stage in self.pipeline.stages if stage.name in self.names)
        self.watchdog = Watchdog(job.limits.memory_bytes)
        self.ready: set[str] = set()
        self.readers = Readers(self.decoder)  # of the latest clip's source

    def run(self, part: Part) -> list[Done]:
        """Compute what is missing of this part. Files appear after each run of stages, and now and then within it.

        Raises
        ------
        Superseded : before anything of the next clip is written, when another worker was given the part meanwhile.
        """
        with self.store.taking(part.name):
            work = _PartWork(self, part)
            stages = [stage for stage in self.pipeline.stages if stage.name in self.names]
            for batched, run in groupby(stages, key=self.batches):
                for segment in ([stage] for stage in run) if batched else [list(run)]:
                    work.compute(segment)
                    work.write(segment)
        self.store.release_media(task.row.clip_id for task in part.clips)
        return work.done

    def batches(self, stage: Stage) -> bool:
        """Whether this worker asks a stage about all clips of a part together."""
        return type(stage).process_part is not Stage.process_part and self.device in stage.batches_on

    def end(self) -> None:
        """End its other processes, which do not outlive it in any case."""
        self.readers.close()
        self.watchdog.end()


def run_here(job: Job, pipeline: Pipeline, parts: Sequence[Part], device: str = "cpu") -> Iterator[list[Done]]:
    """A runner of a build in this process, one group of stages after the other."""
    for group in pipeline.groups(with_gpus=device != "cpu"):
        worker = PartWorker(job, group.stages, device if group.gpus else "cpu")
        try:
            for part in parts:
                yield worker.run(part)
        finally:
            worker.end()


def limit_threads(cpus: float) -> None:
    """Give the libraries that stages have loaded as many threads as their worker has cores.

    The engine imports none of them: what no `setup` has loaded is left alone.
    """
    for library, setter in THREADS.items():
        if library in sys.modules:
            getattr(sys.modules[library], setter)(max(round(cpus), 1))


def hold_memory() -> None:
    """Have what a worker process frees wait for its next allocation, where the C library is glibc.

    By itself it hands large pieces back at once, and the recogniser, whose layers ask for the same ones again and
    again, spends half of its time on page faults.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and libc.mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES):
        libc.mallopt(M_TRIM_THRESHOLD, TRIMMED_BYTES)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection: it would look again and again at what imports make to stay, a quarter of their time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _load_models(stage: Stage, device: str) -> None:
    try:
        with _uncollected():
            stage.setup(device)
    except Exception as error:
        own = [name for name in stage.weights() if "/" in name]  # registered files are known by their hash
        if not own or isinstance(error, UserError):
            raise
        raise UserError(
            f"stage {stage.name!r}: weights {', '.join(own)}: not files that it can load: "
            f"{type(error).__name__}: {error}; give others, or unset them"
        ) from error


class _PartWork:
    """One part on its way through the stages of one worker."""

    def __init__(self, worker: PartWorker, part: Part) -> None:
        self.worker, self.part = worker, part
        self.pipeline, self.store = worker.pipeline, worker.store
        self.attempts = attempts_of(self.store, part.name, worker.job.run_id, worker.host)
        self.deaths = self.attempts.deaths(worker.lost_hosts)
        self.fingerprints = {task.row.clip_id: self.pipeline.fingerprints(task) for task in part.clips}
        self.outdated: dict[str, set[str]] = {}  # clips of a stage's rows with another fingerprint
        self.outcomes = {stage.name: self._stored(stage.name) for stage in self.pipeline.stages}
        self.new: dict[str, set[str]] = {stage.name: set() for stage in self.pipeline.stages}
        self.done: list[Done] = []
        self.saved = time.monotonic()
        self._columns: dict[str, dict[str, dict[str, Any]]] = {}

    def _stored(self, stage: str) -> dict[str, Outcome]:
        """Rows of the part's file that carry the wanted fingerprint; all others do not exist for us."""
        rows = self.store.read_outcomes(stage, self.part.name)
        wanted = {clip_id: of_stage[stage] for clip_id, of_stage in self.fingerprints.items()}
        self.outdated[stage] = {c for c, row in rows.items() if row.fingerprint != wanted.get(c)}
        return {c: row for c, row in rows.items() if c not in self.outdated[stage]}

    def compute(self, segment: Sequence[Stage]) -> None:
        """Run neighbouring stages clip by clip; a stage that batches stands alone in its segment."""
        if len(segment) == 1 and self.worker.batches(segment[0]):
            self._compute_batch(segment[0])
            return
        for task in self.part.clips:
            clip = None
            for stage in segment:
                if self._wants(stage, task):
                    clip = clip or self._next(task)
                    self._load(clip, stage)
                    self._attempt(stage, [clip])
            if clip is not None:
                clip.close()
            if time.monotonic() - self.saved > SAVE_EVERY_S:
                self.write(segment)

    def _compute_batch(self, stage: Stage) -> None:
        clips = [self._open(task) for task in self.part.clips if self._wants(stage, task)]
        for clip in clips:
            self._load(clip, stage)
        suspects = [clip for clip in clips if self._deaths(stage, clip).ever]
        innocent = [clip for clip in clips if clip not in suspects]
        for batch in (innocent, *([clip] for clip in suspects)):  # who killed the worker is found out alone
            if batch:
                self._attempt(stage, batch)
        for clip in clips:
            clip.close()

    def _wants(self, stage: Stage, task: ClipTask) -> bool:
        """Whether this stage has to work on this clip: no row yet, and every earlier stage was content with it."""
        clip_id = task.row.clip_id
        if clip_id in self.outcomes[stage.name]:
            return False
        return all(row is not None and row.ok for row in self._earlier(stage, clip_id))

    def _earlier(self, stage: Stage, clip_id: str) -> Iterator[Outcome | None]:
        """What the stages before this one said of a clip."""
        stages = self.pipeline.stages[: self.pipeline.stages.index(stage)]
        return (self.outcomes[other.name].get(clip_id) for other in stages)

    def _stops_before(self, stage: Stage, clip_id: str) -> bool:
        return any(row is not None and not row.ok for row in self._earlier(stage, clip_id))

    def _next(self, task: ClipTask) -> Clip:
        """The next clip that this worker opens, with the readers of the one before if they have one source."""
        clip = self._open(task, self.worker.readers)
        self.worker.readers.hand_on(clip)
        return clip

    def _open(self, task: ClipTask, readers: Readers | None = None) -> Clip:
        scratch = self.store.scratch / f"{self.worker.job.run_id}-{self.store.writer}" / task.row.clip_id
        place = (self.store.local, scratch)
        return Clip(task.row.columns(), task.row.span, task.source, *place, task.sounds, self.worker.decoder, readers)

    def _load(self, clip: Clip, stage: Stage) -> None:
        """Bring the columns that the stage reads into the clip, from memory or from the files of earlier stages."""
        portraits = (portrait_of(column) for name in stage.reads() if (column := self.pipeline.columns.get(name)))
        for name in (*stage.reads(), *(column.name for column in portraits if column)):
            writer = self.pipeline.writer.get(name)
            if writer is not None and name not in clip.values:
                row = self.outcomes[writer][clip.clip_id]
                clip.values[name] = row.values[name] if name in row.values else self._read(writer, name)[clip.clip_id]
                if self.pipeline.columns[name].media and clip.values[name] is not None:
                    self.store.fetch_media(clip.values[name], self.part.name)

    def _read(self, writer: str, column: str) -> dict[str, Any]:
        if column not in self._columns:
            rows = self.store.read_columns(writer, self.part.name, [self.pipeline.columns[column]])
            self._columns[column] = {clip_id: values[column] for clip_id, values in rows.items()}
        return self._columns[column]

    def _attempt(self, stage: Stage, clips: Sequence[Clip]) -> None:
        """One go of a stage at clips; those that took their worker down too often get none."""
        limits, lethal = self.worker.job.limits, self._deaths(stage, clips[0])
        abouts = [self.attempts.about(stage.name, clip.clip_id, self._fingerprint(stage, clip)) for clip in clips]
        if lethal.now >= limits.attempts or lethal.ever >= limits.attempts_in_all:
            row = self._record(stage, clips[0], Answer(Died(lethal, limits, clips[0].num_frames)), 0.0)
            self.attempts.give_up(abouts[0], row.outcome)
            return
        self._set_up(stage)
        started = time.perf_counter()
        with self._watched(abouts, sum(limits.seconds(clip.num_frames) for clip in clips)):
            answers = ask(stage, clips)
        self.store.require_held(self.part.name)
        seconds = (time.perf_counter() - started) / len(clips)
        for clip, about, answer in zip(clips, abouts, answers, strict=True):
            row = self._record(stage, clip, answer, seconds)
            frames = answer.said.frames if isinstance(answer.said, Reject) else ()
            self.attempts.end(about, row.outcome, seconds, frames)

    def _deaths(self, stage: Stage, clip: Clip) -> Deaths:
        return self.deaths.get((stage.name, clip.clip_id, self._fingerprint(stage, clip)[:PRINT_DIGITS]), Deaths())

    def _fingerprint(self, stage: Stage, clip: Clip) -> str:
        return self.fingerprints[clip.clip_id][stage.name]

    @contextmanager
    def _watched(self, abouts: Sequence[Mapping[str, Any]], limit_s: float) -> Iterator[None]:
        """A stage at work: the diary and the watchdog know of it before it begins."""
        for about in abouts:
            self.attempts.start(about)
        with self.worker.watchdog.watching(limit_s, self.attempts.path, [dict(about) for about in abouts]):
            yield

    def _set_up(self, stage: Stage) -> None:
        """Load the stage's models, once a worker."""
        if stage.name in self.worker.ready:
            return
        limits, lethal = self.worker.job.limits, self.deaths.get((stage.name, SETUP, ""), Deaths())
        if lethal.now >= limits.attempts:  # no clip is at fault, and none can be computed
            raise RuntimeError(f"stage {stage.name!r}: setup() ended {lethal.now} worker processes: {lethal.outcome}")
        about = self.attempts.about(stage.name, SETUP, "")
        outcome = FAILED
        try:
            with self._watched([about], limits.seconds(0)):
                _load_models(stage, self.worker.device)
            outcome = OK
        finally:
            self.attempts.end(about, outcome, 0.0)
        self.worker.ready.add(stage.name)
        limit_threads(self.worker.cpus)

    def _record(self, stage: Stage, clip: Clip, answer: Answer, seconds: float) -> Outcome:
        """Turn an answer into a row; media files move to their place here, before the row that names them."""
        row = as_outcome(stage, self.pipeline.written[stage.name], clip, answer, self._fingerprint(stage, clip))
        if row.ok:
            row.values.update(self._publish_media(stage, clip, row.values))
            clip.values.update(row.values)
        self.outcomes[stage.name][clip.clip_id] = row
        self.new[stage.name].add(clip.clip_id)
        self.done.append(Done(stage.name, clip.clip_id, row.outcome, row.reason, seconds, clip.num_frames))
        return row

    def _publish_media(self, stage: Stage, clip: Clip, values: Mapping[str, Any]) -> dict[str, str]:
        media = [c.name for c in self.pipeline.written[stage.name] if c.media and values[c.name] is not None]
        if media and not self.new[stage.name]:
            # From here on the part's file would describe media that are about to change: keep only what stays true.
            self._rewrite(stage, only_stored=True)
        return {name: self.store.publish_media(clip.clip_id, Path(values[name])) for name in media}

    def write(self, segment: Sequence[Stage]) -> None:
        """Write the column file of every stage that has new rows, or old ones that nobody wants any more."""
        self.store.require_held(self.part.name)
        for stage in segment:
            rows = self.outcomes[stage.name]
            unreached = [clip_id for clip_id in rows if self._stops_before(stage, clip_id)]
            for clip_id in unreached:  # no build would compute them again, so nobody could repair them
                del rows[clip_id]
            if self.new[stage.name] or unreached or self.outdated.pop(stage.name, set()) - rows.keys():
                self._rewrite(stage)
        self.saved = time.monotonic()

    def _rewrite(self, stage: Stage, *, only_stored: bool = False) -> None:
        rows = self.outcomes[stage.name]
        kept = [row for clip_id, row in rows.items() if clip_id not in self.new[stage.name]]
        columns = self.pipeline.written[stage.name]
        old = self.store.read_columns(stage.name, self.part.name, columns) if kept else {}
        whole = [Outcome(r.clip_id, r.fingerprint, r.outcome, r.reason, r.detail, old[r.clip_id]) for r in kept]
        if not only_stored:
            whole += [rows[clip_id] for clip_id in self.new[stage.name]]
        elif not self.store.column_file(stage.name, self.part.name).is_file():
            return
        self._remove_media(stage, whole)
        if not whole and not only_stored:
            self.store.column_file(stage.name, self.part.name).unlink(missing_ok=True)
            return
        metadata = {**self.pipeline.identity[stage.name], "code_sha256": self.pipeline.codes[stage.name].sha256}
        self.store.write_columns(stage.name, self.part.name, columns, whole, metadata)

    def _remove_media(self, stage: Stage, rows: Sequence[Outcome]) -> None:
        """Delete the media of rows that are about to go: of clips turned away, of columns that are written no more."""
        if self.store.column_file(stage.name, self.part.name).is_file():
            before = self.store.named_media(stage.name, self.part.name)
            kept = {value for row in rows for value in row.values.values() if isinstance(value, str)}
            for relative in set().union(*before.values()) - kept:
                (self.store.root / relative).unlink(missing_ok=True)
