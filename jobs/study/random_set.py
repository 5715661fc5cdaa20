"""A data set of random numbers, with a real one's columns and size: ``python -m jobs.study.random_set --out DIR``.

For measuring trainers: by default it has ViCo's 483 clips and 95 minutes. Every numeric column that shards hold by
default is there, under its own type and shape; the values drift and mean nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.signal import lfilter

from jobs.command import command, option
from pipeline.clock import frames_in, seconds_of
from pipeline.dataset.write import write_dataset
from pipeline.plan import Pipeline, select
from pipeline.registry import find_stages
from schemas.clip import ATTITUDES
from schemas.column import FRAME_AXIS, Column
from schemas.dataset import RANDOM, Maker
from schemas.errors import UserError

VICO_CLIPS, VICO_FRAMES = 483, frames_in(95 * 60 + 22)  # Zhou et al., ECCV 2022, Table 2: 95 min 22 s
SHORTEST_FRAMES = frames_in(1)  # ViCo's clips last 1 to 71 s
SHARES = {"train": 0.8, "test": 0.1, "ood": 0.1}
SMOOTH = 0.95  # what a frame keeps of the one before
FRAMES_A_TOKEN = 9
BLINK_SHARE = 0.05  # of the frames in which eyes are closed


@dataclass(frozen=True)
class Extent:
    """How large the set is."""

    clips: int = VICO_CLIPS
    frames: int = VICO_FRAMES
    people: int = 76
    seed: int = 0


def write_random_set(out: Path, extent: Extent, settings: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Write shards and ``dataset.json`` into a folder; ``settings`` of stages decide on columns, as in a build."""
    if extent.clips < 1 or extent.frames < extent.clips * SHORTEST_FRAMES:
        raise UserError(
            f"expected a clip or more of {SHORTEST_FRAMES} frames at least, found {extent}: --clips, --frames"
        )
    rng = np.random.default_rng(extent.seed)
    pipeline = Pipeline(select(find_stages(), None, settings), settings)
    columns = [column for column in pipeline.columns.values() if column.is_numeric and not column.heavy]
    rows = []
    for split, lengths in _lengths(extent, rng).items():
        clips = [_row(f"{split}{i:04d}", length, columns, rng) for i, length in enumerate(lengths)]
        people = rng.integers(0, extent.people, (len(clips), 2))
        for row, (speaker, listener) in zip(clips, people, strict=True):
            side = "ood" if split == "ood" else "seen"
            row |= {"split": split, "speaker_id": f"{side}-s{speaker}", "listener_id": f"{side}-l{listener}"}
        rows += clips
    stages = {name: Maker(**{**identity, "weights": {}}) for name, identity in pipeline.identity.items()}
    write_dataset(out, rows, columns, name="random_numbers", kind=RANDOM, stages=stages, identity=asdict(extent))


def _lengths(extent: Extent, rng: np.random.Generator) -> dict[str, list[int]]:
    """Frames of the clips of every split; all together ``extent.frames``."""
    parts = rng.exponential(1.0, extent.clips)
    free = extent.frames - extent.clips * SHORTEST_FRAMES
    ends = np.round(np.cumsum(parts) / parts.sum() * free).astype(int)
    lengths = SHORTEST_FRAMES + np.diff(ends, prepend=0)
    bounds = np.round(np.cumsum(list(SHARES.values())) * extent.clips).astype(int)
    return {split: part.tolist() for split, part in zip(SHARES, np.split(lengths, bounds[:-1]), strict=True)}


def _row(clip_id: str, frames: int, columns: Sequence[Column], rng: np.random.Generator) -> dict[str, Any]:
    """A clip without its people."""
    manifest = {"clip_id": clip_id, "source_id": clip_id, "start_s": 0.0, "end_s": float(seconds_of(frames))}
    manifest["num_frames"] = frames
    labels = {"attitude": str(rng.choice(ATTITUDES)), "speaker_side": "left"}
    return {**manifest, **labels, **{column.name: _value(column, frames, rng) for column in columns}}


def _value(column: Column, frames: int, rng: np.random.Generator) -> np.ndarray:
    sizes = {FRAME_AXIS: frames, "token": frames // FRAMES_A_TOKEN + 1}
    shape = [axis if isinstance(axis, int) else sizes[axis] for axis in column.axes]
    if column.name.endswith("_valid"):
        return np.ones(shape, bool)
    if pa.types.is_integer(column.element_type):
        return np.arange(frames) // (FRAMES_A_TOKEN if column.name.endswith("frame_token") else 1)
    if column.element_type == pa.bool_():
        return rng.random(shape) < BLINK_SHARE
    noise = rng.normal(size=shape)
    return lfilter([np.sqrt(1 - SMOOTH**2)], [1, -SMOOTH], noise, axis=0) if column.per_frame else np.asarray(noise)


@command(
    option("--out", type=Path, required=True, help="the folder that is written"),
    option("--clips", type=int, default=VICO_CLIPS, help=f"how many (default: ViCo's {VICO_CLIPS})"),
    option("--frames", type=int, default=VICO_FRAMES, help=f"of all clips (default: {VICO_FRAMES})"),
    option("--seed", type=int, default=0),
)
def main(options: argparse.Namespace) -> None:
    """Write random numbers."""
    write_random_set(options.out, Extent(options.clips, options.frames, seed=options.seed))
    print(f"{options.out}: {options.clips} clips of {options.frames} frames")
