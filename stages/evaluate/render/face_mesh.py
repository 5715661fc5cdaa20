"""The face mesh that pictures are warped by: its triangles and holes, and where coefficients put its points.

The 468 points and their edges are MediaPipe's (Kartynnik et al., 2019; in the mediapipe wheel, Apache-2.0), with 10
more for the irises. The mesh has three holes: the eyes and the mouth.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from stages.evaluate.render.scene import Motion
from stages.morphable.basis import NUM_POINTS, Basis, BasisError
from stages.morphable.camera import placement_of
from stages.morphable.rotation import rotation_matrix


@dataclass(frozen=True)
class Slit:
    """A hole of the mesh between an upper and a lower edge; both run from one corner to the other, corners included."""

    upper: tuple[int, ...]
    lower: tuple[int, ...]


@dataclass(frozen=True)
class Eye(Slit):
    """An eye with the points on the crease above its upper lid, corners left out, and the centre of its iris."""

    crease: tuple[int, ...]
    iris: int


RIGHT_EYE = Eye(
    (33, 246, 161, 160, 159, 158, 157, 173, 133),
    (33, 7, 163, 144, 145, 153, 154, 155, 133),
    (247, 30, 29, 27, 28, 56, 190),
    468,
)
LEFT_EYE = Eye(
    (263, 466, 388, 387, 386, 385, 384, 398, 362),
    (263, 249, 390, 373, 374, 380, 381, 382, 362),
    (467, 260, 259, 257, 258, 286, 414),
    473,
)
EYES = (RIGHT_EYE, LEFT_EYE)  # the subject's right first
MOUTH = Slit((78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308), (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308))
CHIN, FOREHEAD = 152, 10
SIDES = (127, 234, 356, 454)  # beside the ears, between which the skull has its middle
# Points that go with the skull whatever the face does: forehead, temples, bridge of the nose, corners of the eyes
SKULL = (*(10, 338, 297, 332, 284, 251, 389, 109, 67, 103, 54, 21, 162), *SIDES, *(33, 133, 362, 263, 168, 6, 197, 195))
# The face's outline from the forehead's middle, clockwise in the picture of a face that looks at the viewer
OUTLINE = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)  # fmt: skip


@dataclass(frozen=True)
class Rigid:
    """How a head moved: ``x -> scale * rotation @ x + shift``, in px of a picture with its depth."""

    rotation: np.ndarray  # (3, 3)
    scale: float
    shift: np.ndarray  # (3,)

    @staticmethod
    def between(reference: np.ndarray, points: np.ndarray) -> Rigid:
        """The motion that takes the skull of a mesh (478, 3) to that of another one best (Umeyama, PAMI 1991)."""
        before, after = reference[list(SKULL)], points[list(SKULL)]
        a, b = before - before.mean(0), after - after.mean(0)
        left, strength, right = np.linalg.svd(b.T @ a)
        strength[2] *= np.sign(np.linalg.det(left @ right))
        left[:, 2] *= np.sign(np.linalg.det(left @ right))
        rotation, scale = left @ right, float(strength.sum() / np.square(a).sum())
        return Rigid(rotation, scale, after.mean(0) - scale * rotation @ before.mean(0))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) after the motion."""
        return self.scale * points @ self.rotation.T + self.shift

    def flat(self) -> np.ndarray:
        """Scale and tilt in the picture plane alone, (2, 2)."""
        (a, b), (c, d) = self.rotation[:2, :2]
        cosine, sine = a + d, c - b
        return self.scale * np.array([[cosine, -sine], [sine, cosine]]) / np.hypot(cosine, sine)


@lru_cache(maxsize=1)
def triangles() -> np.ndarray:
    """The mesh's triangles, int (852, 3): three points with an edge between any two of them, clockwise in a picture.

    At each nostril three triangles stand around a fourth that is none of the mesh: all of its edges have a third one.
    """
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION

    edges = {(min(edge), max(edge)) for edge in FACEMESH_TESSELATION}
    beside: dict[int, set[int]] = {}
    for first, second in edges:
        beside.setdefault(first, set()).add(second)
        beside.setdefault(second, set()).add(first)
    third = {edge: beside[edge[0]] & beside[edge[1]] for edge in edges}
    found = {tuple(sorted((*edge, point))) for edge, points in third.items() for point in points}
    real = [(a, b, c) for a, b, c in found if min(len(third[a, b]), len(third[b, c]), len(third[a, c])) <= 2]
    return _clockwise(sorted(real))


def _clockwise(triangles: list[tuple[int, ...]]) -> np.ndarray:
    """The same triangles, all turned one way round: that of the outline."""
    sides = {frozenset(side): side for side in itertools.pairwise(OUTLINE)}  # -> the way in which it is run through
    left, turned = deque(triangles), {}
    while left:
        triangle = left.popleft()
        a, b, c = triangle
        known = [sides[side] for side in map(frozenset, ((a, b), (b, c), (c, a))) if side in sides]
        if not known:
            left.append(triangle)
            continue
        if known[0] not in ((a, b), (b, c), (c, a)):
            a, b = b, a
        turned[triangle] = (a, b, c)
        for first, second in ((a, b), (b, c), (c, a)):
            sides.setdefault(frozenset((first, second)), (second, first))  # its neighbour runs the other way
    return np.array([turned[triangle] for triangle in triangles])


def mesh_of(motion: Motion, basis: Basis, side_px: int) -> np.ndarray:
    """The mesh in pictures of that side, float64 (frame, 478, 3) in px: x right, y down, z towards the viewer.

    `BasisError` where the basis does not have MediaPipe's points, one for one.
    """
    if not np.array_equal(basis.point, np.arange(NUM_POINTS)):
        raise BasisError(f"basis {basis.name!r}: drawing needs all {NUM_POINTS} points, found {len(basis.point)}")
    angle, trans, crop = (torch.from_numpy(x.astype(np.float64)) for x in (motion.angle, motion.trans, motion.crop))
    place = placement_of(crop, trans)
    shape = basis.shape(motion.identity.astype(np.float64), motion.exp.astype(np.float64))
    posed = shape @ rotation_matrix(angle).mT.numpy() * place.scale_px.numpy()[:, None, None]
    posed[..., :2] += place.origin_px.numpy()[:, None]
    posed[..., 1] = side_px - 1 - posed[..., 1]
    return posed
