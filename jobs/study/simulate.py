"""The engine's own cost: ``python -m jobs.study.simulate --clips 10000``, a build whose stages do next to nothing.

Makes a manifest of so many clips in a temporary folder and builds them with stages that write small columns, in this
process, without Ray. Prints what a plan, the build, a second build with nothing to do and the driver's memory cost.
The figures of docs/scale.md were made with it.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.command import command, option
from pipeline.build import Build, BuildOptions, Runner
from pipeline.manifest.clips_csv import CSV_COLUMNS
from pipeline.manifest.load import load_manifest
from pipeline.manifest.write import manifest_text, write_csv
from pipeline.part import Done, Job, run_here
from pipeline.plan import Part, Pipeline
from pipeline.registry import find_stages
from pipeline.tables import aligned
from schemas.errors import UserError

STAGE = '''"""A stage that writes a little; it reads what the one before it wrote."""
import time
import numpy as np
from pipeline.stage import Stage
from schemas.column import Column


class Simulated(Stage):
    reads = ("{reads}",)
    writes = (Column("{name}", "float32", (8,)),)

    def process(self, clip):
        {work}
        return {{"{name}": np.zeros(8, np.float32)}}
'''
CLIPS_A_SOURCE = 100


@dataclass
class Figures:
    """Seconds of every step, in order."""

    steps: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def step(self, name: str) -> None:
        """The step that ends now."""
        self.steps[name] = time.perf_counter() - self.started
        self.started = time.perf_counter()


def make_project(folder: Path, clips: int) -> Path:
    """Sources of a few bytes and a manifest of so many clips; returns the manifest."""
    names = [f"s{number:06d}" for number in range(-(-clips // CLIPS_A_SOURCE))]
    places = [divmod(number, CLIPS_A_SOURCE) for number in range(clips)]
    rows = [(names[source], start, start + 1, "left", "", "p", "q", "train") for source, start in places]
    for name in names:
        (folder / f"{name}.bin").write_text(name)
    write_csv(folder / "clips.csv", CSV_COLUMNS, rows)
    sources = [{"id": name, "path": f"{name}.bin", "licence": "none"} for name in names]
    manifest = folder / "simulated.toml"
    manifest.write_text(manifest_text({"name": "simulated", "clips": "clips.csv"}, sources))
    return manifest


def make_stages(folder: Path, count: int, sleep_s: float) -> list[Path]:
    """Files of stages that read each other in a row."""
    files = []
    work = f"time.sleep({sleep_s})" if sleep_s else "pass"  # even sleep(0) lets another process have the core
    for number in range(count):
        reads = f"stage_{number - 1}" if number else "source"
        files.append(folder / f"stage_{number}.py")
        files[-1].write_text(STAGE.format(name=f"stage_{number}", reads=reads, work=work))
    return files


def simulate(folder: Path, clips: int, stages: list[Path]) -> Figures:
    """Build the clips once, and once more with nothing to do."""
    manifest, codes = make_project(folder, clips), find_stages(stages, folder=folder / "none")
    figures = Figures()
    for again in ("", ", nothing to do"):
        loaded = load_manifest(manifest)
        figures.step(f"read the manifest{again}")
        build = Build(loaded, folder / "out", codes, BuildOptions())
        found = build.survey()
        figures.step(f"survey{again}")
        build.run(found, _runner(figures, again))
        figures.step(f"survey again, pack, describe{again}" if not again else f"describe{again}")
    return figures


def _runner(figures: Figures, again: str) -> Runner:
    def runner(job: Job, pipeline: Pipeline, parts: Sequence[Part]) -> Iterator[list[Done]]:
        yield from run_here(job, pipeline, parts)
        figures.step(f"run the stages{again}")

    return runner


@command(
    option("--clips", type=int, default=1000, help="clips of the data set"),
    option("--stages", type=int, default=4, help="stages that every clip passes"),
    option("--sleep", type=float, default=0.0, help="seconds that a stage sleeps over a clip"),
)
def main(options: argparse.Namespace) -> None:
    """Measure the engine's own cost."""
    if options.clips < 1 or options.stages < 1:
        raise UserError("--clips, --stages: expected one or more")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = simulate(folder, options.clips, make_stages(folder, options.stages, options.sleep))
        sizes = [path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file()]
    rows = [[step, f"{s:.2f}", f"{1e6 * s / options.clips:.0f}"] for step, s in figures.steps.items()]
    print(f"{options.clips} clips, {options.stages} stages")
    print(aligned([["step", "seconds", "us a clip"], *rows]))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory at most {memory:.0f} MiB; {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB")
