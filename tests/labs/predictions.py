"""Data sets of listeners known by construction: shards and ``dataset.json`` as a build or a prediction writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset.write import write_dataset
from schemas.column import FRAME_AXIS, Column, per_role
from schemas.dataset import PREDICTED, RANDOM, Maker, Predicted

FITTER = Maker("threedmm", 1, {"fitter": "lab"}, {"lab_basis": "0123456789abcdef"})
COLUMNS = per_role(
    Column("{role}_exp", "float32", (FRAME_AXIS, 64)),
    Column("{role}_angle", "float32", (FRAME_AXIS, 3), "rad"),
    Column("{role}_trans", "float32", (FRAME_AXIS, 3)),
    Column("{role}_blink", "bool", (FRAME_AXIS,)),
    Column("{role}_video", "string", media=True),
)


@dataclass(frozen=True)
class LabClip:
    clip_id: str
    num_frames: int
    split: str = "test"
    attitude: str | None = "positive"
    values: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        return facts(self.clip_id, self.num_frames, attitude=self.attitude, split=self.split) | self.values


def facts(clip_id: str, num_frames: int, **others: Any) -> dict[str, Any]:
    """The manifest's columns of a clip."""
    times = {"start_s": 0.0, "end_s": num_frames / 30, "num_frames": num_frames}
    people = {"speaker_id": "p", "listener_id": "q", "speaker_side": "left", "source_id": "lab"}
    return {"clip_id": clip_id, **times, **people, "attitude": "neutral", "split": "test", **others}


def moving_clip(clip_id: str, num_frames: int, seed: int, **facts: Any) -> LabClip:
    """Two people whose coefficients wander, with a blink of the listener now and then."""
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {}
    for role in ("speaker", "listener"):
        walk = np.cumsum(rng.normal(size=(num_frames, 70)), axis=0) * 0.02
        values |= {f"{role}_exp": walk[:, :64], f"{role}_angle": walk[:, 64:67], f"{role}_trans": walk[:, 67:]}
        values[f"{role}_blink"] = np.arange(num_frames) % 40 < 4
    return LabClip(clip_id, num_frames, values=values, **facts)


def write_data_set(
    root: Path, clips: Sequence[LabClip], name: str = "lab", made: Maker = FITTER, predicted: Predicted | None = None
) -> Path:
    """Write clips as a data set; only columns that all clips have."""
    columns = [column for column in COLUMNS if all(column.name in clip.values for clip in clips)]
    rows, stages = [clip.row() for clip in clips], {"threedmm": made, "blink": Maker("blink", 1)}
    kind = PREDICTED if predicted else RANDOM
    write_dataset(root, rows, columns, name=name, kind=kind, stages=stages, predicted=predicted)
    return root


def write_prediction(
    root: Path, clips: Sequence[LabClip], change: Callable[[str, np.ndarray], np.ndarray], made: Maker = FITTER
) -> Path:
    """Write a prediction: the listeners of clips with every coefficient column changed, also in length."""
    changed = []
    for clip in clips:
        names = ("listener_exp", "listener_angle", "listener_trans")
        values = {name: change(name, clip.values[name]) for name in names}
        length = len(values["listener_exp"])
        values["listener_blink"] = clip.values["listener_blink"][:length]
        changed.append(replace(clip, num_frames=length, values=values))
    return write_data_set(root, changed, made=made, predicted=Predicted(listener=root.name))
