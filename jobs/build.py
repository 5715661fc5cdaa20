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
from functools import partial
from pathlib import Path

from jobs.command import MANIFEST, NO_RAY, add_place, command, option
from pipeline import processes, run
from pipeline.build import Build, BuildOptions, Runner
from pipeline.dataset.lock import locked
from pipeline.dataset.storage import location
from pipeline.ledger.progress import clock_time
from pipeline.ledger.report import RunReport, plan_table
from pipeline.ledger.survey import Survey
from pipeline.manifest.load import load_manifest
from pipeline.part import Done, Job
from pipeline.plan import Part, Pipeline
from pipeline.registry import find_stages
from pipeline.settings import as_plain, describe, parse_overrides


def _place(options: argparse.Namespace, pipeline: Pipeline, found: Survey) -> tuple[str, Runner]:
    """Where the parts are run, in words, and what runs them there."""
    workers = processes.worker_pool(pipeline, len(found.todo), options.workers).copies
    seconds = processes.expected_s(found.frames, workers)
    on_gpu = processes.has_gpu() and any(group.gpus for group in pipeline.groups(with_gpus=True))
    address = options.address or (NO_RAY if processes.ray_is_felt(seconds) and not on_gpu else "local")
    about = f"about {clock_time(seconds)} of work here"
    if address == NO_RAY:
        runner = partial(processes.run_parts, workers=options.workers)
        return f"{about}; worker processes: {workers}, no Ray", runner
    return f"{about}; Ray: {address}", partial(_on_ray, options, address)


def _on_ray(
    options: argparse.Namespace, address: str, job: Job, pipeline: Pipeline, parts: Sequence[Part]
) -> Iterator[list[Done]]:
    """A runner that connects to Ray only when there is something to run."""
    run.connect(address, options.workers)
    try:
        yield from run.run_parts(job, pipeline, parts, options.workers, options.wait_s)
    finally:
        run.disconnect()


def survey_and_run(build: Build, options: argparse.Namespace, units: str) -> RunReport | None:
    """Run what is to do, once it was said; None where ``--plan`` asked for no more. ``units`` are what parts hold."""
    found = build.survey()
    for damage in build.mended:
        print(f"warning: {damage}; computed again", file=sys.stderr)
    count = sum(len(part.clips) for part in found.todo)
    place, runner = _place(options, build.pipeline, found)
    todo = f"{count} {units} in {len(found.todo)} parts to compute, {place}"
    if options.plan:
        print("\n".join([plan_table(build.pipeline, found), todo]))
        return None
    if found.todo:
        print(todo, flush=True)
        processes.exit_when_terminated()
    return build.run(found, runner)


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
    add_place,
    option("--wait-s", type=float, default=0.0, help="how long a cluster may take to add the first nodes"),
    epilog=_settings_help,
)
def main(options: argparse.Namespace) -> int:
    """Build a data set from a manifest."""
    manifest = load_manifest(options.manifest)
    for warning in manifest.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    stages = (path.resolve() for path in options.stage)
    words = (
        str(options.manifest.resolve()),
        *(f"--set={word}" for word in options.set),
        *(f"--stage={p}" for p in stages),
    )
    choices = BuildOptions(parse_overrides(options.set), tuple(options.redo), words)
    out = location(options.out)
    with locked(out) as ours:
        build = Build(manifest, ours, find_stages(options.stage), choices)
        for name, why in build.left_out.items():
            print(f"warning: the stage {name} is left out: {why}", file=sys.stderr)
        for stage in build.pipeline.stages:
            print(f"[stages.{stage.name}] version {stage.version} {json.dumps(as_plain(stage.settings))}")
        report = survey_and_run(build, options, "clips")
    if report is None:
        return 0
    print("\n".join([report.table(), *report.missing_lines(), report.summary()]))
    return 0 if report.enough else 1
