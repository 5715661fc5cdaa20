"""A build from manifest to data set: plan, run what is missing, pack, describe. The whole flow on one screen."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from pipeline.dataset.card import describe_dataset, write_card
from pipeline.dataset.storage import Location
from pipeline.dataset.store import Store
from pipeline.dataset.write import PackSettings, plan_shards, write_shards
from pipeline.ledger.limits import Limits
from pipeline.ledger.progress import RunCounts, RunStart, shown
from pipeline.ledger.report import RunReport
from pipeline.ledger.survey import Survey, assign_parts, survey, write_ledger
from pipeline.manifest.load import Manifest
from pipeline.part import Done, Job
from pipeline.plan import ClipTask, Part, Pipeline, select
from pipeline.registry import StageCode
from pipeline.settings import merge, resolve
from pipeline.sources.download import DownloadSettings
from pipeline.sources.hashes import source_hashes
from pipeline.sources.missing import absent_clips, withdraw_clips
from pipeline.weights import resolve_all
from schemas.errors import UserError

Runner = Callable[[Job, Pipeline, Sequence[Part]], Iterator[list[Done]]]
"""Runs parts and yields what was done: `pipeline.run.run_parts`, or a plain loop in tests."""


@dataclass(frozen=True)
class BuildOptions:
    """What the command line adds to the manifest."""

    overrides: dict[str, dict[str, object]] = field(default_factory=dict)
    redo: tuple[str, ...] = ()


class Build:
    """One data set on its way. Made once, asked for its plan, then run.

    Making it raises `UserError` for anything wrong that can be known before the first clip.
    """

    def __init__(self, manifest: Manifest, root: Location, codes: Sequence[StageCode], options: BuildOptions) -> None:
        settings = merge(manifest.settings, options.overrides)
        chosen = select(codes, manifest.stages, settings)
        self.manifest = manifest
        self.store = Store(root.resolve())
        self.pack_settings: PackSettings = resolve("pack", PackSettings, settings.pop("pack", {}))
        resolve("download", DownloadSettings, settings.pop("download", {}))  # jobs.download's: told here if wrong
        limits = resolve("limits", Limits, settings.pop("limits", {}))
        self.pipeline = Pipeline(chosen, settings)
        self.job = Job(self.store.root, tuple(chosen), settings, new_run_id(), limits)
        resolve_all([name for stage in self.pipeline.stages for name in stage.weights()])
        self._redo(options.redo)

    def _redo(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.pipeline.codes:
                raise UserError(f"--redo {name}: unknown stage; stages: {', '.join(self.pipeline.codes)}")
        for name in self.pipeline.downstream(names):
            self.store.drop_columns(name)

    def survey(self) -> Survey:
        """What is done and what is to do, from the files."""
        absent = absent_clips(self.manifest, self.store)
        clips = [clip for clip in self.manifest.clips if clip.clip_id not in absent]
        sources = {name: self.manifest.sources[name] for name in sorted({clip.source_id for clip in clips})}
        hashes = source_hashes(self.store, sources.values())
        files = {name: source.resolved() for name, source in sources.items()}
        tasks = [ClipTask(clip, files[clip.source_id], hashes[clip.source_id]) for clip in clips]
        return survey(self.store, self.pipeline, assign_parts(self.store, tasks), absent)

    def run(self, before: Survey, runner: Runner) -> RunReport:
        """Compute what `before` lacks, pack and describe; returns the report with the final state."""
        self.store.clear_scratch()
        report = RunReport(self.manifest, self.pipeline, before)
        with self._announced(before) as start:
            if before.todo:
                with shown(RunCounts(self.store, start)):
                    for done in runner(self.job, self.pipeline, before.todo):
                        report.add(done)
                report.after = survey(self.store, self.pipeline, before.parts, before.absent)
            self._publish(report, report.after)
            self.store.clear_scratch()
        return report

    @contextmanager
    def _announced(self, before: Survey) -> Iterator[RunStart]:
        """``ledger/started.json`` says what this run is about, and how it ended if it did not reach its end."""
        names = [stage.name for stage in self.pipeline.stages]
        settled, waiting = ({name: count[name] for name in names} for count in (before.settled, before.waiting))
        start = RunStart(self.job.run_id, self.manifest.name, settled, waiting)
        start.write(self.store)
        try:
            yield start
        except BaseException as error:
            with suppress(OSError):  # the very disk that is full
                replace(start, stopped=f"{type(error).__name__}: {error}").write(self.store)
            raise

    def _publish(self, report: RunReport, found: Survey) -> None:
        withdraw_clips(self.manifest, self.store, found.absent)
        published = [task for part in found.parts for task in part.clips if task.row.clip_id in found.published]
        shards = plan_shards(self.pipeline, published, self.pack_settings)
        write_ledger(self.store, found.ledger())
        report.shards_written = write_shards(self.store, self.pipeline, shards, self.pack_settings, found.published)
        report.shards = len(shards)
        description = describe_dataset(self.manifest, self.pipeline, found, shards, self.pack_settings)
        write_card(self.store, description, published)
        report.write(self.store, self.job.run_id)


def new_run_id() -> str:
    """A name for this run that no other has, whatever the clock says."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"
