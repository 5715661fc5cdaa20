"""Toy stages and toy sources: builds that take milliseconds and go through the real engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.build import Build, BuildOptions, Runner
from pipeline.dataset.storage import Location, ObjectPath
from pipeline.ledger.report import RunReport
from pipeline.manifest.load import load_manifest
from pipeline.part import run_here
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


class ToyOfSources(ToyProject):
    """One without the toy stages, whose manifest says more of the second source; its clips are `rows`."""

    rows: tuple[str, ...]
    sources: str

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.stages = {}

    @property
    def manifest(self) -> Path:
        path = write_manifest(self.folder / "toy.toml", {"a": "a.bin", "b": "b.bin"})
        path.write_text(path.read_text().replace('path = "b.bin"\n', f'path = "b.bin"\n{self.sources}'))
        self.write_clips(self.rows)
        return path


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


def computed(report: RunReport) -> dict[str, int]:
    """Stage -> number of clips computed in this build, stages with none left out."""
    return {row["stage"]: row["computed"] for row in report.rows() if row["computed"]}


def shard_bytes(root: Path) -> dict[str, bytes]:
    """The shards of a data set, byte for byte."""
    return {path.name: path.read_bytes() for path in sorted((root / "shards").glob("*.parquet"))}
