"""The engine's own cost: ``python -m jobs.study.simulate --clips 10000``, a build whose stages do next to nothing.

Makes a manifest of so many clips in a temporary folder and builds them with stages that write small columns, builds
again with nothing to do, checks the data set and looks for clips to retry. Prints for every step seconds, seconds of
processor time (busy), microseconds of it a clip, and the most memory that the driver has held until then. Stages run
in this process, with ``--ray`` on a private Ray; with ``--made-up`` their files are written as they would leave them,
without running them: what the driver does is the same. The figures of docs/scale.md were made with it.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jobs.command import command, option
from jobs.retry import set_free
from pipeline import run
from pipeline.build import Build, BuildOptions, Runner
from pipeline.dataset.check import check_dataset
from pipeline.dataset.storage import Location
from pipeline.dataset.store import Store
from pipeline.manifest.clips_csv import CSV_COLUMNS
from pipeline.manifest.load import load_manifest
from pipeline.manifest.write import manifest_text, write_csv
from pipeline.part import Done, Job, run_here
from pipeline.plan import Part, Pipeline
from pipeline.registry import find_stages
from schemas.errors import UserError
from schemas.outcome import FAILED, OK, Outcome

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
PACK = {"pack": {"max_shard_mb": 1}}  # some thousand of these clips a shard, as there are of real ones in 512 MB
MIB = 2**20


@dataclass(frozen=True)
class Step:
    """What one step took, and the most memory that this process has held until its end."""

    seconds: float
    busy_s: float  # of processor time, with that of child processes that have ended
    peak_mib: float


@dataclass
class Figures:
    """Every step in order, told as soon as it has ended, and the files of the data set."""

    clips: int
    steps: dict[str, Step] = field(default_factory=dict)
    files: int = 0
    column_files: int = 0
    size_bytes: int = 0
    findings: list[str] = field(default_factory=list)  # of the check: none
    begun: tuple[float, float] = field(default_factory=lambda: (time.perf_counter(), _busy_s()))

    def step(self, name: str) -> None:
        """The step that ends now."""
        now = time.perf_counter(), _busy_s()
        peak_mib = _peak_kib() * 1024 / MIB
        self.steps[name] = step = Step(now[0] - self.begun[0], now[1] - self.begun[1], peak_mib)
        cells = f"{step.seconds:9.2f}{step.busy_s:9.2f}{1e6 * step.busy_s / self.clips:9.0f}{peak_mib:9.0f}"
        print(f"{name:34}{cells}", flush=True)
        self.begun = time.perf_counter(), _busy_s()


def _peak_kib() -> int:
    """The most memory that this program has held; Linux counts what its parent held in ``ru_maxrss``."""
    lines = Path("/proc/self/status").read_text().splitlines() if sys.platform == "linux" else []
    told = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return told[0] if told else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _busy_s() -> float:
    return sum(
        u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def make_project(folder: Path, clips: int) -> Path:
    """Sources of a few bytes and a manifest of so many clips; returns the manifest."""
    names = [f"s{number:06d}" for number in range(-(-clips // CLIPS_A_SOURCE))]
    places = (divmod(number, CLIPS_A_SOURCE) for number in range(clips))
    rows = ((names[source], start, start + 1, "left", "", "p", "q", "train") for source, start in places)
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


def simulate(folder: Path, clips: int, stages: list[Path], runner: Runner = run_here) -> Figures:
    """Build the clips once, and once more with nothing to do; check them and look for those that failed."""
    manifest, codes, root = make_project(folder, clips), find_stages(stages, folder=folder / "none"), folder / "out"
    figures = Figures(clips)

    def timed(job: Job, pipeline: Pipeline, parts: Sequence[Part]) -> Iterator[list[Done]]:
        yield from runner(job, pipeline, parts)
        figures.step("run the stages")

    for again in ("", ", nothing to do"):
        loaded = load_manifest(manifest)
        figures.step(f"read the manifest{again}")
        build = Build(loaded, root, codes, BuildOptions(PACK))
        found = build.survey()
        figures.step(f"survey{again}")
        build.run(found, timed)
        figures.step(f"survey again, pack, describe{again}" if not again else f"describe{again}")
        del loaded, build, found
    figures.findings += check_dataset(root)
    figures.step("check")
    set_free(Store(root), [FAILED])
    figures.step("look for clips to retry")
    sizes = {path: path.stat().st_size for path in root.rglob("*") if path.is_file()}
    figures.files, figures.size_bytes = len(sizes), sum(sizes.values())
    figures.column_files = sum(path.parent.parent.name == "columns" for path in sizes)
    return figures


def on_ray(job: Job, pipeline: Pipeline, parts: Sequence[Part]) -> Iterator[list[Done]]:
    """A runner on a private Ray with as many workers as fit."""
    run.connect("local", None)
    try:
        yield from run.run_parts(job, pipeline, parts, None)
    finally:
        run.disconnect()


class _Hasty(Store):
    """A store that neither flushes nor takes notes."""

    def publish(self, temporary: Path, path: Location) -> None:
        assert isinstance(path, Path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(path)


def made_up(job: Job, pipeline: Pipeline, parts: Sequence[Part]) -> Iterator[list[Done]]:
    """A runner that writes what the stages of `make_stages` would, without running them."""
    store = _Hasty(job.root)
    value = np.zeros(8, np.float32)
    for part in parts:
        prints = {task.row.clip_id: pipeline.fingerprints(task) for task in part.clips}
        for name, columns in pipeline.written.items():
            values = dict.fromkeys((column.name for column in columns), value)
            rows = [Outcome(clip_id, own[name], values=values) for clip_id, own in prints.items()]
            store.write_columns(name, part.name, columns, rows, pipeline.identity[name])
        yield [
            Done(name, task.row.clip_id, OK, "", 0.0, task.row.num_frames)
            for name in pipeline.written
            for task in part.clips
        ]


@command(
    option("--clips", type=int, default=1000, help="clips of the data set"),
    option("--stages", type=int, default=4, help="stages that every clip passes"),
    option("--sleep", type=float, default=0.0, help="seconds that a stage sleeps over a clip"),
    option("--ray", action="store_true", help="run the stages on a private Ray"),
    option("--made-up", action="store_true", help="write the stages' files without running them"),
)
def main(options: argparse.Namespace) -> None:
    """Measure the engine's own cost."""
    if options.clips < 1 or options.stages < 1:
        raise UserError("--clips, --stages: expected one or more")
    if options.ray and options.made_up:
        raise UserError("--ray --made-up: expected one of them; what is made up is run nowhere")
    runner = on_ray if options.ray else made_up if options.made_up else run_here
    print(f"{options.clips} clips, {options.stages} stages")
    print(f"{'step':34}{'seconds':>9}{'busy':>9}{'us/clip':>9}{'MiB':>9}")
    with tempfile.TemporaryDirectory() as name:
        stages = make_stages(Path(name), options.stages, options.sleep)
        figures = simulate(Path(name), options.clips, stages, runner)
    print(f"{figures.files} files, {figures.column_files} of columns, {figures.size_bytes / 1e6:.1f} MB")
    print("\n".join([f"{len(figures.findings)} findings of the check", *figures.findings[:5]]))
