"""What surrounds the face: hair, ears, neck, shoulders and background, moved by the face's outline.

A grid of points around the outline of the mesh. Points of the head move as the outline does: by the affine map that
fits its motion best, and near it also by what that map leaves over. Further out, and sooner below the chin, they let
go and follow the head's shift in part, as shoulders do. All of this is linear in the outline's points.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial import Delaunay

from stages.evaluate.render.face_mesh import CHIN, FOREHEAD, OUTLINE

SPACING_SHARE = 0.09  # of the face's height, between points of the grid
MARGIN_SHARE = 0.35  # of the picture's side, by which the grid reaches beyond it
HOLD, LET_GO = 0.35, 1.1  # face heights from the outline up to which the head is rigid, and from which it has no say
HOLD_BELOW, LET_GO_BELOW = 0.0, 0.7  # the same below the chin
BODY_SHARE = 0.5  # of the head's shift that the rest follows


class Surroundings:
    """The grid around one face, whose mesh ``points`` (478, 2 or 3) in px has in the reference picture.

    ``vertices`` (vertex, 2) are the grid's points there, without the outline's. In ``triangles`` int (triangle, 3)
    numbers below 36 are the outline's points, in order, then come the grid's.
    """

    def __init__(self, points: np.ndarray, side_px: int) -> None:
        outline = points[list(OUTLINE), :2]
        up = points[FOREHEAD, :2] - points[CHIN, :2]
        height_px = float(np.linalg.norm(up))
        steps = np.arange(-MARGIN_SHARE * side_px, (1 + MARGIN_SHARE) * side_px, SPACING_SHARE * height_px)
        grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
        away_px = _outside_px(outline, grid)
        beyond = away_px > SPACING_SHARE * height_px / 2
        self.vertices, away = grid[beyond], away_px[beyond] / height_px
        every = np.concatenate([outline, self.vertices])
        found = Delaunay(every).simplices
        self.triangles = found[_outside_px(outline, every[found].mean(1)) > 0]
        self._outline, self._away = outline, away
        self._head = self._rigidity(points[CHIN, :2], up / height_px, height_px)[:, None]
        self._weights = self._influence()

    def move(self, outline: np.ndarray) -> np.ndarray:
        """The grid's points (vertex, 2) when the outline's points lie at (36, 2)."""
        body = self.vertices + BODY_SHARE * (outline.mean(0) - self._outline.mean(0))
        return self._head * (self._weights @ outline) + (1 - self._head) * body

    def _rigidity(self, chin: np.ndarray, up: np.ndarray, height_px: float) -> np.ndarray:
        """How much each point belongs to the head, 0 to 1."""
        below = np.clip((chin - self.vertices) @ up / height_px / LET_GO_BELOW + 0.5, 0, 1)  # 0 beside the face
        hold, let_go = HOLD + below * (HOLD_BELOW - HOLD), LET_GO + below * (LET_GO_BELOW - LET_GO)
        share = np.clip((let_go - self._away) / (let_go - hold), 0, 1)
        return share**2 * (3 - 2 * share)

    def _influence(self) -> np.ndarray:
        """The outline's say in every point, (vertex, 36): affine fit, and its rest by inverse cubed distance."""
        outline = np.concatenate([self._outline, np.ones((len(OUTLINE), 1))], 1)
        fit = np.linalg.pinv(outline)  # (3, 36)
        affine = np.concatenate([self.vertices, np.ones((len(self.vertices), 1))], 1) @ fit
        distance = np.linalg.norm(self.vertices[:, None] - self._outline, axis=-1)
        near = distance**-3.0
        near /= near.sum(1, keepdims=True)
        return affine + near @ (np.eye(len(OUTLINE)) - outline @ fit)


def _outside_px(outline: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance of points (n, 2) from the outline, negative inside."""
    contour = outline.astype(np.float32)
    return np.array([-cv2.pointPolygonTest(contour, (float(x), float(y)), True) for x, y in points])
