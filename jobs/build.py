"""Build a data set from a manifest: ``python -m jobs.build MANIFEST --out DIR``.

Runs the same on a laptop and under ``ray job submit --working-dir . -- python -m jobs.build ...``. A second build does
only what is missing. Exit status: 0 the yield is reached, 1 it is not, 2 manifest, settings or weights are wrong
or the disk is full.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobs.command import MANIFEST, add_address, command, option
from pipeline import run
from pipeline.build import Build, BuildOptions, Runner
from pipeline.dataset.lock import locked
from pipeline.dataset.storage import location
from pipeline.ledger.report import plan_table
from pipeline.manifest.load import load_manifest
from pipeline.part import Done, Job
from pipeline.plan import Part, Pipeline
from pipeline.registry import find_stages
from pipeline.settings import as_plain, describe, parse_overrides


def _on_ray(options: argparse.Namespace) -> Runner:
    """A runner that connects to Ray only when there is something to run."""

    def runner(job: Job, pipeline: Pipeline, parts: Sequence[Part]) -> Iterator[list[Done]]:
        run.connect(options.address, options.workers)
        try:
            yield from run.run_parts(job, pipeline, parts, options.workers, options.wait_s)
        finally:
            run.disconnect()

    return runner


def _settings_help() -> str:
    lines = ["settings:"]
    for code in find_stages():
        for key, default, meaning in describe(code.load().Settings):
            lines.append(f"  {code.name}.{key} = {default}\n      {meaning}")
    return "\n".join(lines)


@command(
    MANIFEST,
    option("--out", required=True, metavar="DIR", help="where the data set goes: a folder, or s3://bucket/prefix"),
    option("--plan", action="store_true", help="say what would be done and stop"),
    option("--set", action="append", default=[], metavar="STAGE.KEY=VALUE", help="change a setting"),
    option("--redo", action="append", default=[], metavar="STAGE", help="compute a stage and its readers anew"),
    option("--stage", action="append", default=[], type=Path, metavar="FILE.py", help="add a stage from a file"),
    option("--workers", type=int, help="copies of each group of stages (default: as many as fit)"),
    add_address,
    option("--wait-s", type=float, default=0.0, help="how long a cluster may take to add the first nodes"),
    epilog=_settings_help,
)
def main(options: argparse.Namespace) -> int:
    """Build a data set from a manifest."""
    manifest = load_manifest(options.manifest)
    for warning in manifest.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    choices = BuildOptions(parse_overrides(options.set), tuple(options.redo))
    out = location(options.out)
    with locked(out):
        build = Build(manifest, out, find_stages(options.stage), choices)
        for stage in build.pipeline.stages:
            print(f"[stages.{stage.name}] version {stage.version} {json.dumps(as_plain(stage.settings))}")
        found = build.survey()
        if options.plan:
            print(plan_table(build.pipeline, found))
            return 0
        if found.todo:
            clips = sum(len(part.clips) for part in found.todo)
            print(f"{clips} clips in {len(found.todo)} parts to compute, Ray: {options.address}", flush=True)
        report = build.run(found, _on_ray(options))
    print("\n".join([report.table(), *report.missing_lines(), report.summary()]))
    return 0 if report.enough else 1
