"""A build from manifest to data set: plan, run what is missing, pack, describe. The whole flow on one screen."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.dataset.card import describe_dataset, write_card
from pipeline.dataset.checksums import LISTS
from pipeline.dataset.damage import Damage, clear_damage, find_damage
from pipeline.dataset.labels import carry_labels, read_labels
from pipeline.dataset.storage import Location
from pipeline.dataset.store import Store
from pipeline.dataset.write import PackSettings, plan_shards, write_shards
from pipeline.gpu import GpuSettings
from pipeline.ledger.limits import Limits
from pipeline.ledger.progress import RunCounts, RunStart, shown
from pipeline.ledger.report import RunReport
from pipeline.ledger.survey import Survey, assign_parts, survey, write_ledger
from pipeline.manifest.load import Manifest
from pipeline.part import Done, Job
from pipeline.plan import ClipTask, Part, Pipeline, select, without_weights
from pipeline.registry import StageCode
from pipeline.settings import merge, resolve
from pipeline.sources.download import DownloadSettings
from pipeline.sources.hashes import source_hashes
from pipeline.sources.missing import absent_clips, withdraw_clips
from pipeline.weights import resolve_all
from schemas.errors import UserError

OF_OWN_SOUNDS = ("sounds", "voice")  # stages that need no naming where sources name each person's own sound
Runner = Callable[[Job, Pipeline, Sequence[Part]], Iterator[list[Done]]]
"""Runs parts and yields what was done: on Ray, `pipeline.run`, in `pipeline.processes`, or in `part.run_here`."""


@dataclass(frozen=True)
class BuildOptions:
    """What the command line adds to the manifest."""

    overrides: dict[str, dict[str, object]] = field(default_factory=dict)
    redo: tuple[str, ...] = ()
    words: tuple[str, ...] = ()  # the command line itself, without the place; `jobs.repair` gives it again


class Build:
    """One data set on its way. Made once, asked for its plan, then run.

    Making it raises `UserError` for anything wrong that can be known before the first clip.
    """

    COMMAND, RESULT = "jobs.build", "clips published"  # as `jobs.status` calls them

    def __init__(self, manifest: Manifest, root: Location, codes: Sequence[StageCode], options: BuildOptions) -> None:
        settings = merge(manifest.settings, options.overrides)
        self.manifest = manifest
        self.store = Store(root.resolve(), journal=True)
        self.left_out = self._without_weights(codes, settings)
        if any(source.sounds for source in manifest.sources.values()) and manifest.stages is None:
            known = {code.name for code in codes}
            settings = {**{name: {} for name in OF_OWN_SOUNDS if name in known}, **settings}
        chosen = select(codes, manifest.stages, settings, self.left_out)
        self.pack_settings: PackSettings = resolve("pack", PackSettings, settings.pop("pack", {}))
        resolve("download", DownloadSettings, settings.pop("download", {}))  # jobs.download's: told here if wrong
        limits = resolve("limits", Limits, settings.pop("limits", {}))
        gpu = resolve("gpu", GpuSettings, settings.pop("gpu", {}))
        if unknown := set(gpu.stages) - {code.name for code in codes}:
            there_are = ", ".join(code.name for code in codes)
            raise UserError(f"[stages.gpu] stages: unknown stage {min(unknown)!r}; stages: {there_are}")
        portraits = any(source.pair and source.pair.portrait for source in manifest.sources.values())
        self.pipeline = Pipeline(chosen, settings, portraits, gpu)
        self.words = options.words
        self.mended: list[Damage] = []  # files that are computed again because they were lost or cut off
        self.job = Job(self.store.root, tuple(chosen), settings, new_run_id(), limits, portraits, gpu)
        resolve_all([name for stage in self.pipeline.stages for name in stage.weights()])
        self.labels = read_labels(manifest)
        self._redo(options.redo)

    def _without_weights(self, codes: Sequence[StageCode], settings: Mapping[str, Any]) -> dict[str, str]:
        """Stage -> why this build does without it. A data set that has its columns keeps them: there it is an error."""
        left_out = without_weights(codes, settings) if self.manifest.stages is None else {}
        held = {path.parent.name for path in self.store.column_files()} if left_out else set()
        return {name: why for name, why in left_out.items() if name not in held}

    def _redo(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.pipeline.codes:
                raise UserError(f"--redo {name}: unknown stage; stages: {', '.join(self.pipeline.codes)}")
        for name in self.pipeline.downstream(names):
            self.store.drop_columns(name)

    def survey(self) -> Survey:
        """What is done and what is to do, from the files; those whose size is not what was written are cleared."""
        self._clear_damage(opened="columns/")
        absent = absent_clips(self.manifest, self.store)
        clips = [clip for clip in self.manifest.clips if clip.clip_id not in absent]
        sources = {name: self.manifest.sources[name] for name in sorted({clip.source_id for clip in clips})}
        hashes = source_hashes(self.store, sources.values())
        files = {name: source.resolved() for name, source in sources.items()}
        sounds = {name: source.resolved_sounds() for name, source in sources.items()}
        names = [clip.source_id for clip in clips]
        tasks = [ClipTask(clip, files[n], hashes[n], sounds[n]) for clip, n in zip(clips, names, strict=True)]
        found = self.store, self.pipeline, assign_parts(self.store, tasks), absent
        try:
            return survey(*found)
        except UserError:  # a column file cannot be read
            if not self._clear_damage():
                raise
            return survey(*found)

    def _clear_damage(self, opened: str = "") -> list[Damage]:
        damage = (one for one in find_damage(self.store.root, quick=True, opened=opened) if one.name not in LISTS)
        cleared = clear_damage(self.store, damage)
        self.mended += cleared
        return cleared

    def run(self, before: Survey, runner: Runner) -> RunReport:
        """Compute what `before` lacks, pack and describe; returns the report with the final state."""
        self.store.clear_scratch()
        report = RunReport(self.manifest, self.pipeline, before)
        with self._announced(before) as start:
            while report.after.todo:
                left = report.after
                left.ledger.clear()  # the one after the run will be written
                with shown(RunCounts(self.store, start)):
                    for done in runner(self.job, self.pipeline, left.todo):
                        report.add(done)
                report.after = survey(self.store, self.pipeline, before.parts, before.absent)
                if report.after.todo and report.after.waiting.total() >= left.waiting.total():
                    lost = report.after.todo[0].name
                    raise RuntimeError(f"{self.store.root}: {lost} was computed, and rows are missing; run it again")
            self._publish(report, report.after)
            self.store.seal()
            self.store.clear_scratch()
        return report

    @contextmanager
    def _announced(self, before: Survey) -> Iterator[RunStart]:
        """``ledger/started.json`` says what this run is about, and how it ended if it did not reach its end."""
        names = [stage.name for stage in self.pipeline.stages]
        settled, waiting = ({name: count[name] for name in names} for count in (before.settled, before.waiting))
        run = self.job.run_id, self.manifest.name
        start = RunStart(*run, settled, waiting, self.words, command=self.COMMAND, result=self.RESULT)
        start.write(self.store)
        try:
            yield start
        except BaseException as error:
            with suppress(OSError, UserError):  # the very disk that is full, or a data set that is ours no more
                replace(start, stopped=f"{type(error).__name__}: {error}").write(self.store)
            raise

    def _publish(self, report: RunReport, found: Survey) -> None:
        withdraw_clips(self.manifest, self.store, found.absent)
        published = [task for part in found.parts for task in part.clips if task.row.clip_id in found.published]
        shards = plan_shards(self.pipeline, published, self.pack_settings)
        write_ledger(self.store, found.ledger)
        report.shards_written = write_shards(self.store, self.pipeline, shards, self.pack_settings, found.published)
        report.shards = len(shards)
        description = describe_dataset(self.manifest, self.pipeline, found, shards, self.pack_settings)
        carry_labels(self.store, self.labels)
        write_card(self.store, description, [task.row for task in published], self.labels)
        report.write(self.store, self.job.run_id, self.words)


def new_run_id() -> str:
    """A name for this run that no other has, whatever the clock says."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"
