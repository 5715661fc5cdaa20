"""Measure the project: ``python -m jobs.bench``.

Stages and metrics beside the published scripts, Ray's share of a build, fitters, and the trainer.
All figures come from one run on one machine, so that their ratios hold where the machine is shared and noisy. The
default video is the demo's, enlarged to 1920x1080; ``--video`` measures another.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from jobs.bench.fitters import fitter_table
from jobs.bench.metrics import metric_table
from jobs.bench.stages import Sample, build_tables, demo_sample
from jobs.bench.trainer import trainer_table
from jobs.command import command, option
from pipeline.clock import Span
from schemas.errors import UserError


def _build_tables(options: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.video:
            if options.end is None or not options.video.is_file():
                raise UserError(
                    f"--video {options.video}: expected an existing file and --end, where its clip ends in seconds"
                )
            spans = (Span(options.start, options.end),) * options.clips
            sample = Sample(options.video.resolve(), spans, options.speaker_side)
        else:
            sample = demo_sample(folder, options.clips)
        return build_tables(sample, folder)


@command(
    option("--video", type=Path, help="a two-person video (default: the demo at 1920x1080)"),
    option("--start", type=Fraction, default=Fraction(0), help="start of the clip in seconds"),
    option("--end", type=Fraction, help="end of the clip in seconds"),
    option("--speaker-side", default="left", help="left or right"),
    option("--clips", type=int, default=12, help="how often the clip is built; the first warms up"),
    option("--only", nargs="+", help="stages, fitters, metrics, trainer (default: all)"),
)
def main(options: argparse.Namespace) -> None:
    """Measure the project."""
    sections: dict[str, Callable[[], str]] = {
        "stages": lambda: _build_tables(options),
        "fitters": fitter_table,
        "metrics": metric_table,
        "trainer": trainer_table,
    }
    if unknown := set(options.only or ()) - set(sections):
        raise UserError(f"--only: no section {', '.join(sorted(unknown))}; there are {', '.join(sections)}")
    print(f"{platform.machine()}, {os.cpu_count()} cores")
    for name in options.only or sections:
        print(f"\n{sections[name]()}", flush=True)
