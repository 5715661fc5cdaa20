"""Data sets of listeners known by construction: shards and ``dataset.json`` as a build or a prediction writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.clip import CLIP_COLUMNS
from schemas.column import FRAME_AXIS, Column, per_role
from schemas.dataset import shard_name, shard_schema

FITTER = {"settings": {"fitter": "lab"}, "version": 1, "weights": {"lab_basis": "0123456789abcdef"}}
COLUMNS = per_role(
    Column("{role}_exp", "float32", (FRAME_AXIS, 64)),
    Column("{role}_angle", "float32", (FRAME_AXIS, 3), "rad"),
    Column("{role}_trans", "float32", (FRAME_AXIS, 3)),
    Column("{role}_blink", "bool", (FRAME_AXIS,)),
    Column("{role}_video", "string", media=True),
)


@dataclass(frozen=True)
class LabClip:
    """A clip: what the manifest says of it and its columns."""

    clip_id: str
    num_frames: int
    split: str = "test"
    attitude: str | None = "positive"
    values: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """The manifest's columns."""
        times = {"start_s": 0.0, "end_s": self.num_frames / 30, "num_frames": self.num_frames}
        people = {"speaker_id": "p", "listener_id": "q", "speaker_side": "left", "source_id": "lab"}
        return {"clip_id": self.clip_id, **times, "attitude": self.attitude, "split": self.split, **people}


def moving_clip(clip_id: str, num_frames: int, seed: int, **facts: Any) -> LabClip:
    """Two people whose coefficients wander, with a blink of the listener now and then."""
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {}
    for role in ("speaker", "listener"):
        walk = np.cumsum(rng.normal(size=(num_frames, 70)), axis=0) * 0.02
        values |= {f"{role}_exp": walk[:, :64], f"{role}_angle": walk[:, 64:67], f"{role}_trans": walk[:, 67:]}
        values[f"{role}_blink"] = np.arange(num_frames) % 40 < 4
    return LabClip(clip_id, num_frames, values=values, **facts)


def write_data_set(root: Path, clips: Sequence[LabClip], name: str = "lab", **description: Any) -> Path:
    """Write clips as a data set; only columns that all clips have."""
    columns = [column for column in COLUMNS if all(column.name in clip.values for clip in clips)]
    (root / "shards").mkdir(parents=True)
    shards = []
    for split in dict.fromkeys(clip.split for clip in clips):
        rows = [clip for clip in clips if clip.split == split]
        arrays = [pa.array([row.facts()[c.name] for row in rows], type=c.arrow_type) for c in CLIP_COLUMNS]
        arrays += [c.to_arrow(c.check(row.values[c.name], _length(row)) for row in rows) for c in columns]
        shards.append({"file": shard_name(split, 0, 1), "clips": len(rows)})
        pq.write_table(pa.table(arrays, schema=shard_schema(columns)), root / "shards" / shards[-1]["file"])
    content = {
        "name": name,
        "packed": [column.name for column in (*CLIP_COLUMNS, *columns)],
        "stages": {"threedmm": FITTER, "blink": {"version": 1, "settings": {}, "weights": {}}},
        "shards": shards,
        **description,
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def _length(clip: LabClip) -> int:
    return len(clip.values["listener_exp"]) if "listener_exp" in clip.values else clip.num_frames


def write_prediction(
    root: Path, clips: Sequence[LabClip], change: Callable[[str, np.ndarray], np.ndarray], **description: Any
) -> Path:
    """Write a prediction: the listeners of clips with every coefficient column changed."""
    names = ("listener_exp", "listener_angle", "listener_trans")
    made = []
    for clip in clips:
        values = {name: change(name, clip.values[name]) for name in names}
        blink = clip.values["listener_blink"][: len(values["listener_exp"])]
        made.append(replace(clip, values={**values, "listener_blink": blink}))
    return write_data_set(root, made, **{"predicted": {"listener": root.name}, **description})
