"""Small data sets for the tests of the trainer, their damage, and runs on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file

from jobs.study.random_set import Extent, write_random_set
from pipeline.dataset.read import read_description, read_shard
from pipeline.dataset.store import Store
from pipeline.dataset.write import write_description, write_shard
from schemas.coefficients import Layout
from schemas.column import Column
from schemas.dataset import Description
from stages.train.listener import Batch, Sizes
from stages.train.loop import Worker, train
from stages.train.registry import find_listener
from stages.train.run_folder import RunFolder, begin_run

CPU = Worker(torch.device("cpu"))
SIZES = Sizes(Layout("paper70"), audio=45, attitudes=3)


def small_set(
    root: Path,
    clips: int = 16,
    frames: int = 1400,
    seed: int = 0,
    fitter: str = "landmark_gn",
    stages: Sequence[str] = (),
) -> Path:
    """A data set of random numbers, with columns of opt-in ``stages``: 80 % of the clips are for training."""
    settings = {"fitter": fitter, "weights": "basis_media_v1"}  # random numbers need nobody's own weights
    extent = Extent(clips, frames, people=4, seed=seed)
    write_random_set(root, extent, {"threedmm": settings, **{stage: {} for stage in stages}})
    return root


def changed(root: Path, out: Path, column: str, change: Callable[[Any], Any], like: Column | None = None) -> Path:
    """A copy of a data set in which one column's value of every clip is changed; ``like`` is its new declaration."""
    shutil.copytree(root, out)
    store = Store(out)
    for shard in read_description(out).shards:
        table = read_shard(out, shard)
        at = table.schema.get_field_index(column)
        field = like.field() if like else table.schema.field(at)
        values = pa.array([change(value) for value in table[column].to_pylist()], type=field.type)
        write_shard(store, shard.file, [table.set_column(at, field, values)], shard.fingerprint)
    store.seal()
    return out


def described(root: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a data set whose ``dataset.json`` says something else."""
    shutil.copytree(root, out)
    content = read_description(out).to_json()
    change(content)
    write_description(Store(out), Description.of_json(content))
    return out


def planned(root: Path, out: Path, listener: str = "vico_lstm", preset: str = "", **settings: Any) -> RunFolder:
    folder = RunFolder(out)
    begin_run([root], listener, preset, {"epochs": 2, "batch_size": 8, **settings}, folder)
    return folder


def trained(root: Path, out: Path, listener: str = "vico_lstm", preset: str = "", **settings: Any) -> RunFolder:
    folder = planned(root, out, listener, preset, **settings)
    train(folder, CPU)
    return folder


def weights_of(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.last)


def rows_of(folder: RunFolder) -> list[dict[str, float]]:
    """Figures of every epoch, without the speed."""
    lines = [line.split(",") for line in (folder.root / "curves.csv").read_text().splitlines()]
    rows = [dict(zip(lines[0], map(float, line), strict=True)) for line in lines[1:]]
    return [{name: value for name, value in row.items() if name != "windows_a_second"} for row in rows]


def listener(name: str, sizes: Sizes = SIZES, preset: str = "", **settings: Any) -> Any:
    """A listener with fresh weights, in evaluation mode."""
    kind = find_listener(name)
    torch.manual_seed(0)
    return kind(kind.Settings(**{**kind.presets.get(preset, {}), **settings}), sizes).eval()


def random_batch(sizes: Sizes = SIZES, clips: int = 2, frames: int = 50, seed: int = 0) -> Batch:
    """Windows of noise in which every frame counts."""
    rng, widths = np.random.default_rng(seed), [sizes.coefficients, sizes.coefficients, sizes.audio]
    noise = [torch.from_numpy(rng.normal(size=(clips, frames, width)).astype(np.float32)) for width in widths]
    listener, speaker, audio = noise
    attitude, mask = torch.arange(clips) % sizes.attitudes, torch.ones(clips, frames, dtype=torch.bool)
    return Batch(speaker, listener, audio, reference=listener[:, 0], attitude=attitude, mask=mask)
