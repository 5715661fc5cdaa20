"""Measure the project: ``python -m jobs.bench``, and what became slower since: ``--against out/bench.json``.

Stages and metrics beside the published scripts, Ray's share of a build, fitters, the trainer, and mining a film.
All figures come from one run on one machine, so that their ratios hold where the machine is shared and noisy, and
every time stands beside decoding the film in the same run. The default video is the demo's, enlarged to 1920x1080;
``--video`` measures another in its place, ``--film`` one more beside it. ``--fill out/bench.json`` puts results into
README.md and docs/speed.md. Exit status: 0, or 1 if a time became slower than in the results of ``--against``.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from subprocess import CalledProcessError

from jobs.bench.fitters import fitter_table
from jobs.bench.gpu import gpu_tables
from jobs.bench.metrics import metric_table
from jobs.bench.mining import mining_table
from jobs.bench.pages import fill
from jobs.bench.results import Results, Section, changes, changes_table, require_alike
from jobs.bench.stages import Sample, build_tables, demo_sample, film_tables
from jobs.bench.timing import Times, decoding_s
from jobs.bench.trainer import trainer_table
from jobs.command import command, option
from pipeline.clock import Span
from schemas.errors import UserError

RESULTS = Path("out", "bench.json")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "media"  # footage that is no part of the project
REAL = (SHARED / "a_dyadic" / "l2l_teaser_colbert_conan.mp4", Fraction("3.5"), Fraction(8))  # 1080p, left one speaks
Measure = Callable[[], tuple[str, Times]]
ON_FILM = {"stages": build_tables, "film": film_tables}
WITHOUT_FILM: dict[str, Measure] = {"fitters": fitter_table, "metrics": metric_table, "trainer": trainer_table}
SECTIONS = (*ON_FILM, *WITHOUT_FILM, "mine")
GPU = "gpu"  # a section that is asked for


def _sample(options: argparse.Namespace, folder: Path) -> Sample:
    if not options.video:
        return demo_sample(folder, options.clips)
    return _of_film("--video", options.video, options.start, options.end, options)


def _real_sample(options: argparse.Namespace) -> Sample | None:
    """The second film; None if there is none."""
    if options.film:
        path, start, end = options.film
        try:
            return _of_film("--film", Path(path), Fraction(start), Fraction(end), options)
        except ValueError:
            raise UserError(
                f"--film {path} {start} {end}: expected a film, and its clip's start and end in seconds"
            ) from None
    return _of_film("--film", *REAL, options) if REAL[0].is_file() else None


def _of_film(name: str, film: Path, start: Fraction, end: Fraction | None, options: argparse.Namespace) -> Sample:
    if end is None or end <= start or not film.is_file():
        raise UserError(f"{name} {film}: expected an existing file and where its clip ends in seconds, after its start")
    return Sample(film.resolve(), (Span(start, end),) * options.clips, options.speaker_side)


def beside_decoding(sample: Sample, measure: Measure) -> Section:
    """What a part of the benchmark measures, and what decoding a frame of the clip takes, before it and after it."""
    span = sample.spans[0]
    try:
        before_s = decoding_s(sample.video, span=span)
    except CalledProcessError:
        raise UserError(f"{sample.video}: cannot be read; name another film") from None
    text, times = measure()
    decoding_ms = 1000 * (before_s + decoding_s(sample.video, span=span)) / 2 / span.num_frames
    return Section(times, decoding_ms, f"{sample.video.name}, {span.num_frames} frames", text)


def _measure(part: str, sample: Sample, folder: Path, device: str) -> Measure:
    on_film = {GPU: partial(gpu_tables, device=device), **ON_FILM}
    return WITHOUT_FILM.get(part) or (lambda: on_film[part](sample, folder / part))


@command(
    option("--video", type=Path, help="a two-person video (default: the demo at 1920x1080)"),
    option("--start", type=Fraction, default=Fraction(0), help="start of the clip in seconds"),
    option("--end", type=Fraction, help="end of the clip in seconds"),
    option("--speaker-side", default="left", help="left or right"),
    option("--film", nargs=3, metavar=("FILM", "START", "END"), help="one more (default: of ../shared)"),
    option("--clips", type=int, default=12, help="how often the clip is built; the first warms up"),
    option("--minutes", type=int, default=10, help="length of the film that is mined"),
    option("--device", default="cpu", help="cpu or cuda: what the section gpu sets beside the CPU"),
    option("--only", nargs="+", help=f"{', '.join((*SECTIONS, GPU))} (default: all; gpu with --device cuda)"),
    option("--out", type=Path, default=RESULTS, metavar="FILE", help=f"where the results go (default: {RESULTS})"),
    option("--against", type=Path, metavar="FILE", help="results of an earlier run: say what became slower"),
    option("--fill", type=Path, metavar="FILE", help="measure nothing: put these results into README.md and docs/"),
)
def main(options: argparse.Namespace) -> int:
    """Measure the project."""
    if options.fill:
        print("\n".join(map(str, fill(Results.read(options.fill)))) or "nothing has changed")
        return 0
    if unknown := set(options.only or ()) - {*SECTIONS, GPU}:
        raise UserError(f"--only: no section {', '.join(sorted(unknown))}; there are {', '.join((*SECTIONS, GPU))}")
    if options.device not in ("cpu", "cuda"):
        raise UserError(f"--device {options.device}: expected cpu or cuda")
    real = _real_sample(options)
    if real is None and "film" in (options.only or ()):
        raise UserError(f"--only film: expected --film FILM START END; {REAL[0]} is not there")
    names = options.only or [name for name in SECTIONS if real or name != "film"]
    if not options.only and options.device != "cpu":
        names.append(GPU)
    sections: dict[str, Section] = {}
    results = Results(time.strftime("%Y-%m-%d"), platform.machine(), os.cpu_count() or 1, sections)
    earlier = Results.read(options.against) if options.against else None
    if earlier:
        require_alike(earlier, results)  # now, not in an hour
    print(f"{results.machine}, {results.cores} cores")
    with tempfile.TemporaryDirectory() as name:
        sample = _sample(options, Path(name)) if {*names} - {"film", "mine"} else None
        for part in names:
            if part == "mine":
                sections[part] = mining_table(options.video, options.minutes)
            elif chosen := real if part == "film" else sample:
                sections[part] = beside_decoding(chosen, _measure(part, chosen, Path(name), options.device))
            print(f"\n{sections[part].table()}", flush=True)
            results.write(options.out)  # what is measured is kept, whatever comes after it
    print(f"\n{options.out}: these results, for --against and --fill")
    if earlier is None:
        return 0
    found = list(changes(earlier, results))
    print(f"\n{changes_table(found)}")
    return int(any(change.is_slower for change in found))
