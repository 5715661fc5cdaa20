"""Piecewise affine warp: a triangulated picture redrawn with its vertices elsewhere."""

from __future__ import annotations

import cv2
import numpy as np

EDGE_PX = 3  # the outermost rows and columns often hold a seam, which would be repeated
FRACTION_BITS = 4  # of a pixel, in which OpenCV takes the corners of triangles
THIN_PX = 1  # a triangle of less height is drawn only where no other one is: its pixels are its neighbours'
SLACK_PX = 1  # by which a pixel that a triangle owns may look beyond that triangle's box in the old picture
FLAT_PX2 = 2e-3  # doubled area of a triangle that is seen from its edge


class TriangleWarp:
    """Part of a square picture cut into triangles, int (triangle, 3)."""

    def __init__(self, triangles: np.ndarray, side_px: int) -> None:
        self._triangles = triangles
        self._side_px = side_px
        self._y, self._x = np.mgrid[:side_px, :side_px].astype(np.float32)

    def draw(self, places: np.ndarray, source: np.ndarray, vertices: np.ndarray, depth: np.ndarray) -> None:
        """Write into ``places`` where the pixels of the triangles come from; what no triangle covers stays.

        ``places`` float32 (2, side, side) are x and y, in px of the old picture, of every pixel of the new one.
        ``source`` and ``vertices`` (vertex, 2) are the corners' places in the old and the new picture; what has more
        ``depth`` (vertex,) is nearer and drawn over what is far.
        """
        low = np.floor(vertices.min(0)).clip(0, self._side_px).astype(int)
        high = np.ceil(vertices.max(0) + 1).clip(0, self._side_px).astype(int)
        if (low >= high).any():
            return
        box = np.s_[low[1] : high[1], low[0] : high[0]]
        owner = self._owners(vertices - low, depth, (high - low)[::-1])
        x, y = self._x[box], self._y[box]
        planes, edges = _maps(source[self._triangles], vertices[self._triangles])
        mine = owner >= 0
        for axis in (0, 1):
            across, down, shift = (np.take(plane, owner) for plane in planes[axis])
            found = cv2.add(cv2.add(cv2.multiply(across, x), cv2.multiply(down, y)), shift)
            # pixels on its edge lie partly outside a triangle; where a thin one is squeezed the map leads far away
            least, most = (np.take(edge, owner) for edge in edges[axis])
            np.copyto(places[axis][box], cv2.min(cv2.max(found, least), most), where=mine)

    def _owners(self, vertices: np.ndarray, depth: np.ndarray, size: np.ndarray) -> np.ndarray:
        """The number of the triangle that each pixel shows, int32 (height, width), -1 for none."""
        corners = vertices[self._triangles]
        height_px = _heights(corners)
        order = np.lexsort((depth[self._triangles].mean(1), height_px >= THIN_PX))
        order = order[height_px[order] > 0]
        owner = np.full(tuple(size), -1, np.int32)
        fixed = np.round(corners * 2**FRACTION_BITS).astype(np.int32)
        for number, polygon in zip(order.tolist(), fixed[order], strict=True):
            cv2.fillConvexPoly(owner, polygon, number, cv2.LINE_8, FRACTION_BITS)
        return owner


def sample(picture: np.ndarray, places: np.ndarray, how: int = cv2.INTER_CUBIC) -> np.ndarray:
    """The picture at places (2, height, width), its border repeated beyond it: PCHG's boundary inpainting."""
    height, width = picture.shape[:2]
    x = cv2.min(cv2.max(places[0], EDGE_PX), width - 1 - EDGE_PX)
    y = cv2.min(cv2.max(places[1], EDGE_PX), height - 1 - EDGE_PX)
    return cv2.remap(picture, x, y, how)


def _maps(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Affine maps of triangles (triangle, corner, 2) from target to source, and the boxes that they stay in.

    float32 (2, 3, triangle): for x and y the factors of x, of y and the rest; float32 (2, 2, triangle): for x and y the
    least and the greatest. Triangles that are seen from their edge have maps that mean nothing.
    """
    (ax, ay), (bx, by) = ((target[:, corner] - target[:, 0]).T for corner in (1, 2))
    area = ax * by - ay * bx
    area = np.where(np.abs(area) < FLAT_PX2, 1, area)
    first, second = ((source[:, corner] - source[:, 0]).T for corner in (1, 2))  # (2, triangle)
    across, down = (by * first - ay * second) / area, (ax * second - bx * first) / area
    shift = source[:, 0].T - across * target[:, 0, 0] - down * target[:, 0, 1]
    edges = np.stack([source.min(1).T - SLACK_PX, source.max(1).T + SLACK_PX], 1)
    return np.stack([across, down, shift], 1).astype(np.float32), edges.astype(np.float32)


def _heights(corners: np.ndarray) -> np.ndarray:
    """The least height in px of triangles (triangle, corner, 2); 0 for those that are seen from their edge."""
    (ax, ay), (bx, by) = ((corners[:, corner] - corners[:, 0]).T for corner in (1, 2))
    doubled_area = np.abs(ax * by - ay * bx)
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max(1)
    return np.where(doubled_area < FLAT_PX2, 0, doubled_area / np.maximum(longest, 1e-6))
