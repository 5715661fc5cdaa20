"""Piecewise affine warp: a triangulated picture redrawn with its vertices elsewhere."""

from __future__ import annotations

import cv2
import numpy as np

EDGE_PX = 3  # the outermost rows and columns often hold a seam, which would be repeated
FRACTION_BITS = 4  # of a pixel, in which OpenCV takes the corners of triangles


class TriangleWarp:
    """A square picture cut into triangles, int (triangle, 3)."""

    def __init__(self, triangles: np.ndarray, side_px: int) -> None:
        self._triangles = triangles
        self._side_px = side_px
        self._y, self._x = np.mgrid[:side_px, :side_px].astype(np.float32)

    def source_map(self, source: np.ndarray, vertices: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Where every pixel of the new picture comes from: float32 (side, side, 2), x and y in px of the old one.

        Parameters
        ----------
        source, vertices : (vertex, 2), the corners' places in the old and the new picture, x and y in px.
        depth : (vertex,), the larger the nearer; what is near is drawn over what is far. Pixels that no triangle covers
            stay where they were.
        """
        corners = vertices[self._triangles]  # (triangle, corner, 2)
        affine, area = _affine(source[self._triangles], corners)
        order = np.argsort(depth[self._triangles].mean(1), kind="stable")
        owner = np.full((self._side_px, self._side_px), len(affine) - 1, np.int32)
        fixed = np.round(corners * 2**FRACTION_BITS).astype(np.int32)
        for number in order[area[order] > 0]:
            cv2.fillConvexPoly(owner, fixed[number], int(number), cv2.LINE_8, FRACTION_BITS)
        planes = np.take(affine, owner, axis=0)  # (side, side, 6)
        x = planes[..., 0] * self._x + planes[..., 1] * self._y + planes[..., 2]
        y = planes[..., 3] * self._x + planes[..., 4] * self._y + planes[..., 5]
        return np.stack([x, y], -1)


def sample(picture: np.ndarray, source_map: np.ndarray) -> np.ndarray:
    """The picture at places (height, width, 2), its border repeated beyond it: PCHG's boundary inpainting."""
    height, width = picture.shape[:2]
    inside = np.clip(source_map, EDGE_PX, np.array([width, height], np.float32) - 1 - EDGE_PX)
    return cv2.remap(picture, inside, None, cv2.INTER_CUBIC)


def _affine(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps of triangles (triangle, corner, 2), float32 (triangle + 1, 6), from target to source; and the targets' area.

    The last map is the identity.
    """
    corners = np.concatenate([target, np.ones_like(target[..., :1])], -1)
    area = np.abs(np.linalg.det(corners)) / 2
    flat = area < 1e-3  # px^2: seen from its edge
    corners[flat] = np.eye(3)
    rows = np.linalg.solve(corners, source).transpose(0, 2, 1).reshape(-1, 6)
    identity = np.array([[1, 0, 0, 0, 1, 0]])
    return np.concatenate([rows, identity]).astype(np.float32), np.where(flat, 0, area)
