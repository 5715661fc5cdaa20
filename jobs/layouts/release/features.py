"""Feature files as the published baseline reads them: 45 acoustic features, and 3DMM coefficients in its own order.

``angle.exp.trans`` is angle 3, expression 64, translation 3, crop 3; ``id.gamma.tex`` is identity 80, light 27, texture
80. What a fitter does not give is left out, never filled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from schemas.column import ROLES
from schemas.dataset import Description
from schemas.errors import UserError

ACOUSTIC_DIM = 45
MOTION = (("angle", 3), ("exp", 64), ("trans", 3), ("crop", 3))
LOOKS = (("id", 80), ("gamma", 27), ("tex", 80))
FILES = {"angle.exp.trans": MOTION, "id.gamma.tex": LOOKS}


class Features:
    """The features of a data set on their way into ``example/features``.

    Parameters
    ----------
    folder : where they go.
    description : the data set's.
    """

    def __init__(self, folder: Path, description: Description) -> None:
        self.folder = folder
        self._types = {column.name: column.type for column in description.columns}
        self._packed = set(description.packed)
        self.parts = [name for name, columns in FILES.items() if all(map(self._has, ROLES, [columns] * len(ROLES)))]
        self._moments: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = defaultdict(list)  # of training clips
        if "acoustic" not in self._packed:
            raise UserError("the data set has no column 'acoustic': build it with the stage acoustic")

    def _has(self, role: str, columns: tuple[tuple[str, int], ...]) -> bool:
        names = [(f"{role}_{name}", size) for name, size in columns]
        return all(name in self._packed and f"[{size}]" in self._types[name] for name, size in names)

    @property
    def columns(self) -> list[str]:
        """The columns to read for them."""
        names = [name for part in self.parts for name, _ in FILES[part]]
        return ["acoustic", *(f"{role}_{name}" for role in ROLES for name in names)]

    def write(self, row: Mapping[str, Any]) -> None:
        """Write the files of one clip."""
        acoustic = row["acoustic"].astype(np.float32)
        path = self.folder / "audio_feats" / f"{row['clip_id']}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, acoustic)
        training = row["split"] == "train"
        if training:
            self._moments["audio_feats"].append(_moments(acoustic))
        for role in ROLES if self.parts else ():
            coefficients = {part: _joined(row, role, FILES[part]) for part in self.parts}
            _save(self.folder / "video_feats" / f"{row['clip_id']}.{role}.bin", coefficients)
            if training and "angle.exp.trans" in coefficients:
                self._moments["video_feats"].append(_moments(coefficients["angle.exp.trans"]))

    def write_statistics(self) -> None:
        """Write mean and unbiased standard deviation of the training clips, speakers and listeners together."""
        for name, moments in self._moments.items():
            counts, means, squares = map(np.array, zip(*moments, strict=True))
            mean = np.average(means, axis=0, weights=counts)
            squares = squares.sum(axis=0) + counts @ np.square(means - mean)
            deviation = np.sqrt(squares / max(counts.sum() - 1, 1))
            _save(self.folder / f"{name}_mean_std.bin", {"mean": mean, "std": deviation})


def _moments(rows: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Count, mean and summed squares about it of rows (frame, D), from which clips are joined (Chan et al. 1983)."""
    rows = rows.astype(np.float64)
    return len(rows), rows.mean(axis=0), np.square(rows - rows.mean(axis=0)).sum(axis=0)


def _joined(row: Mapping[str, Any], role: str, columns: tuple[tuple[str, int], ...]) -> np.ndarray:
    """The columns side by side, float32 (frame, D); what is one vector a clip stands in every frame."""
    count = row["num_frames"]
    values = [np.broadcast_to(row[f"{role}_{name}"], (count, size)) for name, size in columns]
    return np.concatenate(values, axis=1).astype(np.float32)


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name as `torch.save` does, in float32."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name: np.asarray(value, np.float32) for name, value in arrays.items()}, path)
