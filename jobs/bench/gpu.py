"""The stages on a GPU beside this machine's CPU, and how far their numbers part: ``--only gpu --device cuda``.

The same clips are built twice, each time in one process that begins with nothing loaded. On the GPU go all stages that
have a way to run there, decoding too; a first clip warms it up.
"""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jobs.bench.stages import FRAME_MS, Sample, measure_build
from jobs.bench.timing import Times
from pipeline.dataset.store import Store
from pipeline.media.sandbox import NVDEC
from pipeline.part import run_here
from pipeline.plan import Pipeline
from pipeline.registry import find_stages
from pipeline.tables import aligned
from schemas.errors import UserError

ON_GPU: dict[str, dict[str, Any]] = {"gpu": {"stages": ["face", "landmarks"], "decoder": NVDEC}}
QUERY = ("utilization.gpu", "utilization.decoder", "memory.used")
LOOK_S = 0.5


def gpu_tables(sample: Sample, folder: Path, device: str) -> tuple[str, Times]:
    """What stages take here and on a device, and where their columns part. With ``cpu`` for both it tries itself."""
    if device != "cpu":
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                f"--device {device}: torch {torch.__version__} finds no CUDA device; run it on a machine that has one "
                "and torch's CUDA build, or try the section with --device cpu"
            )
    outs, taken = (folder / "here", folder / "there"), []
    for out, where in zip(outs, ("cpu", device), strict=True):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh, _watched() as used:
            taken.append(fresh.submit(_measured, sample, out, where).result())
    here, there = taken
    rows = [["stage", "cpu, ms a frame", f"{device}, ms a frame", f"{device}, x real time", "faster by"]]
    rows += ([stage, *_cells(here[stage], there[stage])] for stage in here)
    rows.append(["all stages", *_cells(sum(here.values()), sum(there.values()))])
    peaks = ", ".join(f"{name} {max(values):g}" for name, values in used.items()) or "nobody to ask (nvidia-smi)"
    text = (
        f"{sample.video.name}: {len(sample.spans)} clips of {sample.spans[0].num_frames} frames, one process each\n\n"
        f"{aligned(rows)}\n\n{difference_table(*outs)}\n\nhighest of {device}: {peaks}"
    )
    return text, {f"{stage} on {device}": ms for stage, ms in there.items()}


def _cells(here_ms: float, there_ms: float) -> list[str]:
    return [f"{here_ms:.2f}", f"{there_ms:.2f}", f"{FRAME_MS / there_ms:.1f}", f"{here_ms / there_ms:.2f}"]


def _measured(sample: Sample, folder: Path, device: str) -> dict[str, float]:
    """Stage -> milliseconds a frame."""
    overrides = ON_GPU if device != "cpu" else {}
    runner = partial(run_here, device=device)
    if device != "cpu":
        warm = replace(sample, spans=sample.spans[:2])
        measure_build(warm, folder.with_name(f"{folder.name}-warm"), runner, overrides=overrides)
    return measure_build(sample, folder, runner, overrides=overrides).ms_a_frame()


def difference_table(one: Path, other: Path) -> str:
    """By how much the columns of two builds of the same clips part; those that are equal are counted."""
    pipeline = Pipeline(find_stages(), {})
    here, there = (_columns(folder / "out", pipeline) for folder in (one, other))
    gaps = {name: _gap([*values.values()], [there[name][clip] for clip in values]) for name, values in here.items()}
    rows = [["column", "unit", "median difference", "largest"]]
    rows += ([name, pipeline.columns[name].unit, *gap] for name, gap in gaps.items() if gap)
    return f"{aligned(rows)}\n{sum(not gap for gap in gaps.values())} other columns are equal"


def _gap(values: list[Any], others: list[Any]) -> list[str]:
    """How far the values of a column part: in numbers, or in words; empty where they are equal."""
    if all(_same(*pair) for pair in zip(values, others, strict=True)):
        return []
    if any(np.shape(one) != np.shape(other) for one, other in zip(values, others, strict=True)):
        return ["another number of them", ""]
    if not all(np.asarray(value).dtype.kind == "f" for value in values):
        return ["other values", ""]
    pairs = zip(values, others, strict=True)
    apart = np.concatenate([np.abs(np.subtract(one, other, dtype=np.float64)).ravel() for one, other in pairs])
    return [f"{np.nanmedian(apart):.2g}", f"{np.nanmax(apart):.2g}"]


def _same(one: Any, other: Any) -> bool:
    numbers = np.asarray(one).dtype.kind in "fiub"
    return bool(np.array_equal(one, other, equal_nan=True)) if numbers else bool(np.all(one == other))


def _columns(out: Path, pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """Column -> clip -> value, of all columns that are no files."""
    store, found = Store(out), defaultdict[str, dict[str, Any]](dict)
    for file in store.column_files():
        stage = file.parent.name
        columns = [column for column in pipeline.written[stage] if not column.media]
        for clip_id, values in store.read_columns(stage, file.stem, columns).items():
            for name, value in values.items():
                found[name][clip_id] = value
    return found


@contextmanager
def _watched() -> Iterator[dict[str, list[float]]]:
    """What nvidia-smi says of the first GPU meanwhile, in its own units; nothing where there is no such program."""
    seen, ended = defaultdict[str, list[float]](list), threading.Event()
    program = shutil.which("nvidia-smi")

    def watch() -> None:
        while program and not ended.wait(LOOK_S):
            command = [program, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits", "--id=0"]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split(",")
            for name, value in zip(QUERY, said, strict=False):
                if value.strip().replace(".", "").isdigit():
                    seen[name].append(float(value))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()
