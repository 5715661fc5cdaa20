"""A data set of random numbers with the columns and the size of a real one: ``python -m jobs.random_set --out DIR``.

For measuring trainers and trying them out: by default it has ViCo's 483 clips and 95 minutes. Every numeric column that
is not heavy is there under its own type and shape; values are slow random walks, people have resting faces of their own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.clock import FPS, SAMPLE_RATE_HZ
from pipeline.pack import ROW_GROUP_CLIPS
from pipeline.plan import Pipeline, digest
from pipeline.registry import find_stages
from pipeline.store import Store
from schemas.clip import ATTITUDES, CLIP_COLUMNS, SPLITS
from schemas.column import FRAME_AXIS, Column
from schemas.shard import shard_name, shard_schema

VICO_CLIPS, VICO_FRAMES = 483, 95 * 60 * FPS + 22 * FPS  # Zhou et al., ECCV 2022, Table 2: 95 min 22 s
SHORTEST_FRAMES = FPS  # ViCo's clips last 1 to 71 s
SHARES = {"train": 0.8, "test": 0.1, "ood": 0.1}
SMOOTH = 0.95  # what a frame keeps of the one before
FRAMES_A_TOKEN = 9


@dataclass(frozen=True)
class Extent:
    """How large the set is."""

    clips: int = VICO_CLIPS
    frames: int = VICO_FRAMES
    people: int = 76
    seed: int = 0


def write_random_set(out: Path, extent: Extent) -> None:
    """Write shards and ``dataset.json`` into a folder."""
    rng = np.random.default_rng(extent.seed)
    pipeline = Pipeline(find_stages(), {})
    columns = [c for c in pipeline.columns.values() if c.is_numeric and not c.heavy]
    rows = [_row(i, length, columns, rng) for i, length in enumerate(_lengths(extent, rng))]
    return rows
