"""A build from manifest to data set: plan, run what is missing, pack, describe. The whole flow on one screen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.absent import absent_clips, withdraw_clips
from pipeline.card import describe_dataset, write_description
from pipeline.config import ManifestError, merge, resolve
from pipeline.download import DownloadSettings
from pipeline.ledger import assign_parts, write_ledger
from pipeline.manifest import Manifest
from pipeline.object_storage import Location
from pipeline.pack import PackSettings, plan_shards, write_shards
from pipeline.part import Done, Job
from pipeline.plan import ClipTask, Part, Pipeline, select
from pipeline.registry import StageCode
from pipeline.report import Progress, RunReport
from pipeline.sources import source_hashes
from pipeline.store import Store
from pipeline.survey import Survey, survey
from pipeline.weights import resolve_all

Runner = Callable[[Job, Pipeline, Sequence[Part]], Iterator[list[Done]]]
"""Runs parts and yields what was done: `pipeline.run.run_parts`, or a plain loop in tests."""


@dataclass(frozen=True)
class BuildOptions:
    """What the command line adds to the manifest."""

    overrides: dict[str, dict[str, object]] = field(default_factory=dict)
    redo: tuple[str, ...] = ()


class Build:
    """One data set on its way. Made once, asked for its plan, then run.

    Raises
    ------
    ManifestError, WeightsError : anything wrong that can be known before the first clip.
    """

    def __init__(self, manifest: Manifest, root: Location, codes: Sequence[StageCode], options: BuildOptions) -> None:
        settings = merge(manifest.settings, options.overrides)
        chosen = select(codes, manifest.stages, settings)
        self.manifest = manifest
        self.store = Store(root.resolve())
        self.pack_settings: PackSettings = resolve("pack", PackSettings, settings.pop("pack", {}))
        resolve("download", DownloadSettings, settings.pop("download", {}))  # jobs.download's: told here if wrong
        self.pipeline = Pipeline(chosen, settings)
        self.job = Job(self.store.root, tuple(chosen), settings, f"{int(time.time())}-{os.getpid()}")
        resolve_all([name for stage in self.pipeline.stages for name in stage.weights])
        self._redo(options.redo)

    def _redo(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.pipeline.codes:
                raise ManifestError(f"--redo {name}: unknown stage; stages: {', '.join(self.pipeline.codes)}")
        for name in self.pipeline.downstream(names):
            self.store.drop_columns(name)

    def survey(self) -> Survey:
        """What is done and what is to do, from the files."""
        self.absent = absent_clips(self.manifest, self.store)
        sources = {clip.source_id for clip in self.manifest.clips if clip.clip_id not in self.absent}
        hashes = source_hashes(self.store, [self.manifest.sources[source_id] for source_id in sorted(sources)])
        self.tasks = [
            ClipTask(clip, self.manifest.sources[clip.source_id].resolved(), hashes[clip.source_id])
            for clip in self.manifest.clips
            if clip.clip_id not in self.absent
        ]
        self.parts = assign_parts(self.store, self.tasks)
        return self._survey()

    def _survey(self) -> Survey:
        found = survey(self.store, self.pipeline, self.parts)
        found.add_absent(self.absent)
        return found

    def run(self, before: Survey, runner: Runner) -> RunReport:
        """Compute what `before` lacks, pack and describe; returns the report with the final state."""
        self.store.clear_scratch()
        report = RunReport(self.manifest, self.pipeline, before)
        if before.todo:
            with Progress(sum(len(part.clips) for part in before.todo)) as progress:
                for done in runner(self.job, self.pipeline, before.todo):
                    report.add(done)
                    progress.advance(done)
        report.after = self._survey() if before.todo else before
        self._publish(report)
        self.store.clear_scratch()
        return report

    def _publish(self, report: RunReport) -> None:
        found = report.after
        withdraw_clips(self.manifest, self.store, self.absent)
        published = [task for task in self.tasks if task.row.clip_id in found.published]
        shards = plan_shards(self.pipeline, published, self.pack_settings)
        write_ledger(self.store, found.ledger())
        report.shards_written = write_shards(self.store, self.pipeline, shards, self.pack_settings, found.published)
        report.shards = len(shards)
        description = describe_dataset(self.manifest, self.pipeline, found, shards, self.pack_settings)
        write_description(self.store, description, published)
        report.write(self.store, self.job.run_id)
