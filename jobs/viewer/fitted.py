"""The fitted face model in the picture, and how far it lies from the landmarks: from columns alone.

Only landmark_gn's coefficients can be laid over the crop: it fits in the crop's pixels, and its basis is at hand.
`jobs.preview` draws these points; the viewer draws them too, and sorts clips by their error.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.weights import find_weights
from schemas.coefficients import STAGE
from schemas.column import FRAME_AXIS, Column
from schemas.dataset import Description
from stages.threedmm import CROP_SIDE_PX

NUM_POINTS = 478
NEEDED = ("exp", "identity", "angle", "trans", "crop")  # columns of a role


def fitted_column(role: str) -> Column:
    """The column that `fitted_points` makes."""
    meaning = f"FaceMesh points where the fitted model has them, over the {role}'s crop: x right, y down"
    return Column(f"{role}_model", "float32", (FRAME_AXIS, NUM_POINTS, 2), "px", meaning)


def error_column(role: str) -> Column:
    """The column that `fit_error` makes."""
    meaning = f"mean distance of the {role}'s fitted model from the landmarks, of the face box's diagonal"
    return Column(f"{role}_fit_error", "float32", (FRAME_AXIS,), "1", meaning)


def is_fitted(description: Description) -> bool:
    """Whether a data set's coefficients can be laid over its pictures."""
    return STAGE in description.stages and description.stages[STAGE].settings.get("fitter") == "landmark_gn"


def fitted_points(columns: Mapping[str, Any], description: Description, role: str) -> np.ndarray:
    """The model's points in the crop: float32 (frame, 478, 2) in px, NaN where the model has no point.

    ``columns`` holds a role's coefficients, `NEEDED`. `WeightsError` if the basis is not at hand.
    """
    import torch

    from stages.morphable.camera import placement_of
    from stages.morphable.rotation import rotation_matrix

    (name,) = description.stages[STAGE].weights
    basis = _basis(find_weights(name).paths()[0])
    shape = basis.shape(columns[f"{role}_identity"], columns[f"{role}_exp"])
    angle, crop, trans = (torch.from_numpy(columns[f"{role}_{name}"].copy()) for name in ("angle", "crop", "trans"))
    place = placement_of(crop, trans)
    posed = shape @ rotation_matrix(angle).numpy().transpose(0, 2, 1) * place.scale_px.numpy()[:, None, None]
    flat = posed[..., :2] + place.origin_px.numpy()[:, None]
    flat[..., 1] = CROP_SIDE_PX - 1 - flat[..., 1]
    points = np.full((len(flat), NUM_POINTS, 2), np.nan, np.float32)
    points[:, basis.point] = flat
    return points


def fit_error(model: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Mean distance of the model from landmarks (frame, 478, 2), of the box's diagonal: float32 (frame,)."""
    seen = np.isfinite(landmarks).all(axis=(1, 2))
    error = np.full(len(landmarks), np.nan, np.float32)
    points = landmarks[seen]
    diagonal = np.linalg.norm(points.max(axis=1) - points.min(axis=1), axis=1) if len(points) else np.zeros(0)
    distance = np.linalg.norm(model[seen] - points, axis=2)
    fitted = np.isfinite(distance)
    with np.errstate(all="ignore"):
        error[seen] = np.where(fitted, distance, 0).sum(axis=1) / fitted.sum(axis=1) / diagonal
    return error


@lru_cache(maxsize=1)
def mesh_edges() -> dict[str, list[tuple[int, int]]]:
    """FaceMesh's lines as pairs of points: all triangles, the contours of eyes, brows, lips and face, the irises."""
    from mediapipe.python.solutions import face_mesh_connections as mesh

    lines = {"tesselation": mesh.FACEMESH_TESSELATION, "contours": mesh.FACEMESH_CONTOURS}
    return {name: sorted(pairs) for name, pairs in (lines | {"irises": mesh.FACEMESH_IRISES}).items()}


@lru_cache(maxsize=2)
def _basis(path: Path) -> Any:
    from stages.morphable.basis import load_basis

    return load_basis(path)
