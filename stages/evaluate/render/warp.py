"""Piecewise affine warp: a triangulated picture redrawn with its vertices elsewhere."""

from __future__ import annotations

import cv2
import numpy as np

EDGE_PX = 3  # the outermost rows and columns often hold a seam, which would be repeated
FRACTION_BITS = 4  # of a pixel, in which OpenCV takes the corners of triangles
THIN_PX = 1  # a triangle of less height is drawn only where no other one is: its pixels are its neighbours'
SLACK_PX = 1  # by which a pixel that a triangle owns may look beyond that triangle's box in the old picture


class TriangleWarp:
    """A square picture cut into triangles, int (triangle, 3)."""

    def __init__(self, triangles: np.ndarray, side_px: int) -> None:
        self._triangles = triangles
        self._side_px = side_px
        self._y, self._x = np.mgrid[:side_px, :side_px].astype(np.float32)

    def source_map(self, source: np.ndarray, vertices: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Where every pixel of the new picture comes from: float32 (side, side, 2), x and y in px of the old one.

        ``source`` and ``vertices`` (vertex, 2) are the corners' places in the old and the new picture in px; what has
        more ``depth`` (vertex,) is nearer and drawn over what is far. Pixels that no triangle covers stay.
        """
        corners = vertices[self._triangles]  # (triangle, corner, 2)
        affine, height_px = _affine(source[self._triangles], corners)
        low, high = _boxes(source[self._triangles])
        order = np.lexsort((depth[self._triangles].mean(1), height_px >= THIN_PX))
        owner = np.full((self._side_px, self._side_px), len(affine) - 1, np.int32)
        fixed = np.round(corners * 2**FRACTION_BITS).astype(np.int32)
        for number in order[height_px[order] > 0]:
            cv2.fillConvexPoly(owner, fixed[number], int(number), cv2.LINE_8, FRACTION_BITS)
        planes = np.take(affine, owner, axis=0)  # (side, side, 6)
        x = planes[..., 0] * self._x + planes[..., 1] * self._y + planes[..., 2]
        y = planes[..., 3] * self._x + planes[..., 4] * self._y + planes[..., 5]
        # pixels on its edge lie partly outside a triangle; of a thin one that is squeezed the map leads far away there
        return np.clip(np.stack([x, y], -1), np.take(low, owner, axis=0), np.take(high, owner, axis=0))


def sample(picture: np.ndarray, source_map: np.ndarray) -> np.ndarray:
    """The picture at places (height, width, 2), its border repeated beyond it: PCHG's boundary inpainting."""
    height, width = picture.shape[:2]
    inside = np.clip(source_map, EDGE_PX, np.array([width, height], np.float32) - 1 - EDGE_PX)
    return cv2.remap(picture, inside, None, cv2.INTER_CUBIC)


def _affine(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps of triangles (triangle, corner, 2) from target to source, float32 (triangle + 1, 6); the targets' heights.

    The last map is the identity; triangles that are seen from their edge have no height.
    """
    corners = np.concatenate([target, np.ones_like(target[..., :1])], -1)
    doubled_area = np.abs(np.linalg.det(corners))
    flat = doubled_area < 2e-3  # px^2
    corners[flat] = np.eye(3)
    rows = np.linalg.solve(corners, source).transpose(0, 2, 1).reshape(-1, 6)
    identity = np.array([[1, 0, 0, 0, 1, 0]])
    longest = np.linalg.norm(target - np.roll(target, 1, axis=1), axis=-1).max(1)
    height_px = np.where(flat, 0, doubled_area / np.maximum(longest, 1e-6))
    return np.concatenate([rows, identity]).astype(np.float32), height_px


def _boxes(source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of triangles (triangle, corner, 2) with slack: least and greatest x and y, float32 (triangle + 1, 2) each.

    The last box, which belongs to the identity, is the plane.
    """
    low = np.concatenate([source.min(1) - SLACK_PX, [[-np.inf, -np.inf]]])
    high = np.concatenate([source.max(1) + SLACK_PX, [[np.inf, np.inf]]])
    return low.astype(np.float32), high.astype(np.float32)
