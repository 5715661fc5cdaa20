"""Toy stages and toy sources: builds that take milliseconds and go through the real engine, and a runner for them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

from pipeline.build import Build, BuildOptions, Runner
from pipeline.dataset.storage import Location, ObjectPath
from pipeline.ledger.report import RunReport
from pipeline.manifest.load import load_manifest
from pipeline.part import Done, Job, PartWorker, run_here
from pipeline.plan import Part, Pipeline
from pipeline.registry import find_stages

WAVE = '''"""A column that depends on the clip and on a setting; long clips are rejected."""
from dataclasses import dataclass
import numpy as np
from pipeline.stage import Reject, Stage, setting
from schemas.column import Column


class Wave(Stage):
    reads = ("source",)
    writes = (Column("wave", "float32", ("frame", 2)),)
    rejects = {"too_long": "longer than two seconds"}

    @dataclass(frozen=True)
    class Settings:
        gain: float = setting(1.0, "height of the wave")

    def process(self, clip):
        if clip.num_frames > 60:
            raise Reject("too_long", f"{clip.num_frames} frames, at most 60")
        ramp = np.arange(2 * clip.num_frames, dtype=np.float32).reshape(-1, 2)
        return {"wave": self.settings.gain * ramp}
'''

PEAK = '''"""A column computed from another stage's column, and a file."""
from pipeline.stage import Stage
from schemas.column import Column


class Peak(Stage):
    reads = ("wave",)
    writes = (Column("peak", "float32"), Column("note", "string", media=True))

    def process(self, clip):
        note = clip.output("note.txt")
        note.write_text(f"{clip.clip_id} {clip['wave'].max()}")
        return {"peak": clip["wave"].max(), "note": note}
'''

LENGTH = '''"""A column that reads nothing of other stages."""
import numpy as np
from pipeline.stage import Stage
from schemas.column import Column


class Length(Stage):
    reads = ("num_frames",)
    writes = (Column("length", "int32"),)

    def process(self, clip):
        return {"length": np.int32(clip.num_frames)}
'''

FOR_EVER = 20  # workers for one part; the engine must have given up on a clip long before
HEADER = "source,start_s,end_s,speaker_side,attitude,speaker_id,listener_id,split"
ROWS = (
    "a,0,1,left,positive,p,q,train",
    "a,1.5,2.5,left,neutral,p,q,train",
    "a,3,9,left,negative,p,q,test",
    "b,0,2,right,,r,s,ood",
)


class ToyProject:
    """A folder with toy sources, stages and a manifest; one that another process has made stays as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stages = {path.stem: path for path in sorted((folder / "stages").glob("*.py"))}
        if not self.stages:
            for name in ("a", "b"):
                (folder / f"{name}.bin").write_bytes(name.encode())
            self.write_clips(ROWS)
            self.add_stage("wave", WAVE)
            self.add_stage("peak", PEAK)

    def write_clips(self, rows: Sequence[str]) -> None:
        (self.folder / "clips.csv").write_text("\n".join([HEADER, *rows]) + "\n")

    def add_stage(self, name: str, text: str) -> None:
        (self.folder / "stages").mkdir(exist_ok=True)
        self.stages[name] = self.folder / "stages" / f"{name}.py"
        self.stages[name].write_text(text)

    @property
    def manifest(self) -> Path:
        return write_manifest(self.folder / "toy.toml", {"a": "a.bin", "b": "b.bin"}, more="min_yield = 0.5\n")

    def arguments(self, out: str, *more: str) -> list[str]:
        """A command line of `jobs.build` for the toy stages alone: files outside the tree hold them."""
        manifest = self.folder / "cli.toml"
        manifest.write_text(self.manifest.read_text().replace("min_yield", f"stages = {[*self.stages]}\nmin_yield"))
        stages = [item for path in self.stages.values() for item in ("--stage", str(path))]
        address = out if "://" in out else str(self.folder / out)
        return [str(manifest), "--out", address, *stages, *more]

    def prepare(self, out: str | Location = "out", options: BuildOptions | None = None) -> Build:
        codes = find_stages(list(self.stages.values()), folder=self.folder / "none")
        root = out if isinstance(out, ObjectPath) else self.folder / out
        return Build(load_manifest(self.manifest), root, codes, options or BuildOptions())

    def build(
        self, out: str | Location = "out", options: BuildOptions | None = None, runner: Runner = run_here
    ) -> RunReport:
        """A build, with one worker in this process unless told otherwise."""
        build = self.prepare(out, options)
        return build.run(build.survey(), runner)


def write_manifest(
    path: Path, sources: Mapping[str, str], rows: Sequence[str] = (), more: str = "", place: str = "path"
) -> Path:
    """A manifest of sources (id -> file or URL), with the rows of its ``clips.csv``; ``more`` are further keys."""
    if rows:
        (path.parent / "clips.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    tables = "".join(f'[[sources]]\nid = "{n}"\n{place} = "{at}"\nlicence = "none"\n' for n, at in sources.items())
    path.write_text(f'[dataset]\nname = "{path.stem}"\nclips = "clips.csv"\n{more}{tables}')
    return path


def build_own_stages(manifest: Path, out: Path) -> tuple[Build, RunReport]:
    """A build of the project's own stages with one worker in this process."""
    build = Build(load_manifest(manifest), out, find_stages(), BuildOptions())
    return build, build.run(build.survey(), run_here)


def in_worker_processes(job: Job, pipeline: Pipeline, parts: Sequence[Part]) -> Iterator[list[Done]]:
    """Without Ray, as Ray does: a worker process that dies is started again, without end of patience."""
    for part in parts:
        yield _until_done(job, [stage.name for stage in pipeline.stages], part)


def _until_done(job: Job, stages: list[str], part: Part) -> list[Done]:
    for _ in range(FOR_EVER):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as worker, suppress(BrokenProcessPool):
            return worker.submit(_work, job, stages, part).result()
    raise AssertionError(f"{part.name}: {FOR_EVER} workers died of it")


def _work(job: Job, stages: list[str], part: Part) -> list[Done]:
    return PartWorker(job, stages).run(part)


def computed(report: RunReport) -> dict[str, int]:
    """Stage -> number of clips computed in this build, stages with none left out."""
    return {row["stage"]: row["computed"] for row in report.rows() if row["computed"]}


def shard_bytes(root: Path) -> dict[str, bytes]:
    """The shards of a data set, byte for byte."""
    return {path.name: path.read_bytes() for path in sorted((root / "shards").glob("*.parquet"))}
