"""What surrounds the face: hair, ears, neck, shoulders and background, moved with the head.

Every pixel around the mesh is asked where it was in the reference. Beside the face's outline it comes along with the
outline; further out hair and skull do what the silhouette of a ball does, which moves, tilts and grows with the head
but looks the same when the head turns or nods. Still further out, and sooner below the chin, things let go of the head
and follow its shift in part, as shoulders do. At the picture's border nothing is fetched from beyond it: what moves
inwards is stretched a little instead.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial.distance import cdist

from stages.evaluate.render.face_mesh import CHIN, FOREHEAD, OUTLINE, SIDES, Rigid

LEAST_PX = 0.5  # of distance from a point of the outline
CELL_PX = 8  # between places that are computed; in between they are interpolated
NEAR = 0.45  # face heights from the outline up to which it has a say
HOLD, LET_GO = 0.35, 1.1  # face heights from the outline up to which all is head, and from which nothing is
HOLD_BELOW, LET_GO_BELOW = 0.0, 0.7  # the same below the chin
BODY_SHARE = 0.5  # of the head's shift that the rest follows
BORDER_SHARE = 0.2  # of the picture's side, within which what comes from beyond the border is stretched instead


class Surroundings:
    """The surroundings of one face, whose mesh ``points`` (478, 3) in px has in the reference picture."""

    def __init__(self, points: np.ndarray, side_px: int) -> None:
        self._centre = points[list(SIDES)].mean(0)
        self._height_px = float(np.linalg.norm(points[FOREHEAD, :2] - points[CHIN, :2]))
        self._side_px = side_px
        middles = (np.arange(-(-side_px // CELL_PX)) + 0.5) * CELL_PX - 0.5
        self._nodes = np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2)  # (node, 2)
        low, high = self._nodes, side_px - 1 - self._nodes
        self._free = [_smooth(away / (BORDER_SHARE * side_px)) for away in (low, high)]
        self._grid = np.mgrid[:side_px, :side_px][::-1].astype(np.float32)

    def places(self, source: np.ndarray, points: np.ndarray, moved: Rigid) -> np.ndarray:
        """Where every pixel comes from: float32 (2, side, side), x and y in px of the reference.

        ``source`` (36, 2) are the places of the outline's points there, ``points`` (478, 3) the mesh now and ``moved``
        is how the skull got from there to here. Inside of the outline the places mean nothing.
        """
        shift = self.shift(source, points, moved).reshape(len(self._nodes), 2)
        count = round(len(shift) ** 0.5)
        size = count * CELL_PX
        planes = [cv2.resize(plane, (size, size)) for plane in shift.T.reshape(2, count, count).astype(np.float32)]
        return self._grid + np.stack(planes)[:, : self._side_px, : self._side_px]

    def shift(self, source: np.ndarray, points: np.ndarray, moved: Rigid) -> np.ndarray:
        """From the nodes (node, 2) of the grid to where they come from, in px."""
        nodes, outline = self._nodes, points[list(OUTLINE), :2]
        centre = moved(self._centre[None])[0, :2]
        back = moved.flat().T / moved.scale**2  # the inverse of turn and scale

        def skull(places: np.ndarray) -> np.ndarray:
            return (places - centre) @ back.T + self._centre[:2]

        squared = cdist(nodes, outline, "sqeuclidean")
        near = np.maximum(squared, LEAST_PX**2).astype(np.float32) ** -1.5  # by inverse cubed distance
        near /= near.sum(1, keepdims=True)
        away = np.sqrt(squared.min(1)) / (moved.scale * self._height_px)
        along = _smooth(1 - away / NEAR)[:, None] * (near @ (source - skull(outline)))
        head = self._rigidity(points, away)[:, None]
        body = nodes - BODY_SHARE * (centre - self._centre[:2])
        shift = head * (skull(nodes) + along) + (1 - head) * body - nodes
        return np.minimum(shift, 0) * self._free[0] + np.maximum(shift, 0) * self._free[1]

    def _rigidity(self, points: np.ndarray, away: np.ndarray) -> np.ndarray:
        """How much each node belongs to the head, 0 to 1."""
        up = points[FOREHEAD, :2] - points[CHIN, :2]
        below = (points[CHIN, :2] - self._nodes) @ up / (up @ up)
        below = np.clip(below / LET_GO_BELOW + 0.5, 0, 1)  # 0 beside the face
        hold, let_go = HOLD + below * (HOLD_BELOW - HOLD), LET_GO + below * (LET_GO_BELOW - LET_GO)
        return _smooth((let_go - away) / (let_go - hold))


def _smooth(share: np.ndarray) -> np.ndarray:
    """0 up to 0 and 1 from 1 on, without a crease."""
    share = np.clip(share, 0, 1)
    return share**2 * (3 - 2 * share)
