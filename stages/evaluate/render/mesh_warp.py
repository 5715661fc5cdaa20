"""The embedded renderer: the reference picture, warped by the morphable model's mesh under predicted coefficients.

Nothing is learnt or invented but a dark mouth: skin and hair are the reference's, moved. The face is warped triangle by
triangle and its surroundings go along smoothly; eyeballs and teeth show through the mesh's holes. What
the reference does not show (the other side of a turned head, wrinkles, light that changes) does not appear.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from stages.evaluate.render.face_mesh import OUTLINE, Rigid, mesh_of, triangles
from stages.evaluate.render.fusion import Fusion, Segmenter, without_person
from stages.evaluate.render.lids import shut, unrolled
from stages.evaluate.render.openings import Openings
from stages.evaluate.render.rim import Rim
from stages.evaluate.render.scene import Scene
from stages.evaluate.render.surroundings import Surroundings
from stages.evaluate.render.warp import TriangleWarp, sample
from stages.morphable.basis import Basis

MOST_TURN_RAD = math.radians(20)  # of a reference; a head that turns back from further has a cheek of streaks
NEAR_SHARE = 1.25  # of the face's outline, within which all is the head
REACH_PX = 4  # around the segmented person: hair, and what it tints


class MeshWarp:
    """The renderer for coefficients that `landmark_gn` fitted with this basis."""

    def __init__(self, basis: Basis) -> None:
        self._basis = basis
        self._segmenter = Segmenter()

    def render(self, scene: Scene) -> Iterator[np.ndarray]:
        (pose,) = mesh_of(scene.pose, self._basis, scene.side_px)
        portrait = Portrait(scene.picture, pose, self._segmenter.background(scene.picture))
        for points, closed in zip(mesh_of(scene.motion, self._basis, scene.side_px), scene.closed, strict=True):
            yield portrait.draw(points, float(closed))


class Portrait:
    """One person's reference picture, uint8 RGB (side, side, 3), ready to be moved.

    ``points`` (478, 3) in px are the mesh that the coefficients of that picture give, ``background`` bool (side, side)
    is what is background in it.
    """

    def __init__(self, reference: np.ndarray, points: np.ndarray, background: np.ndarray) -> None:
        self._reference, self._points = reference, points
        self._background = _away_from(points, background)
        self._fusion = Fusion(without_person(reference, self._background), np.ones_like(self._background))
        self._surroundings = Surroundings(points, len(reference))
        self._rim = Rim(points)
        self._openings = Openings(reference, points)
        self._warp = TriangleWarp(triangles(), len(reference))

    def draw(self, points: np.ndarray, closed: float = 0.0) -> np.ndarray:
        """The picture, uint8 RGB (side, side, 3), with the mesh at (478, 3) in px.

        ``closed`` is how far a blink closes the eyes beyond what the mesh says, 0 to 1.
        """
        points = shut(points, closed)
        moved = Rigid.between(self._points, points)
        source = self._rim.covered(unrolled(self._points, points), points)
        places = self._surroundings.places(source[list(OUTLINE)], points, moved)
        self._warp.draw(places, source, points[:, :2], points[:, 2])
        face = self._openings.draw(sample(self._reference, places), points, moved)
        background = sample(self._background.view(np.uint8), places, cv2.INTER_NEAREST)
        return self._fusion.fuse(face, background.view(bool))


def _away_from(points: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The background without the face and what is close around the person, whatever the segmentation says."""
    person = (~background).astype(np.uint8)
    outline = points[list(OUTLINE), :2]
    near = outline.mean(0) + NEAR_SHARE * (outline - outline.mean(0))
    cv2.fillPoly(person, [near.round().astype(np.int32)], 1)
    size = 2 * REACH_PX + 1
    return cv2.dilate(person, np.ones((size, size), np.uint8)) == 0
