"""The points of FaceMesh with irises (Kartynnik et al. 2019; Grishchenko et al. 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_POINTS = 478  # 468 of the mesh, 5 of the right and 5 of the left iris
MESH_POINTS = 468
SETTLING_LOOKS = 3  # at one frame; points move by 2 px of 384 from the detector's square to the tracker's, then .5


def face_boxes(landmarks: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Boxes x1, y1, x2, y2 of a face's mesh, (frame, 4) in px, from landmarks (frame, 478, 3).

    In frames that are not valid a box lies between those before and after.
    """
    mesh = landmarks[valid, :MESH_POINTS, :2].astype(np.float64)
    known = np.concatenate([mesh.min(axis=1), mesh.max(axis=1)], axis=1)
    frames = np.arange(len(landmarks))
    return np.stack([np.interp(frames, frames[valid], edge) for edge in known.T], axis=1)


def outline(points: NDArray[np.floating[Any]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The convex outline of points (point, 2) in px, filled, in a picture of (height, width)."""
    import cv2

    filled = np.zeros(size, np.uint8)
    cv2.fillConvexPoly(filled, cv2.convexHull(np.rint(points).astype(np.int32)), 1)
    return filled.astype(bool)
