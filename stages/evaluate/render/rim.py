"""The rim of a face: skin that the reference shows from its edge, or not at all, and that a turn brings to the front.

What the picture has there is a pixel or two of hair and background. Where they would be spread over a cheek, the skin
beside them is taken instead.
"""

from __future__ import annotations

import numpy as np

from stages.evaluate.render.face_mesh import triangles
from stages.morphable.basis import NUM_POINTS

SEEN = 0.3  # cosine between line of sight and normal from which a point is well seen in the reference
GAIN = 0.3  # of that cosine, by which a point must turn to the front to take all of its texture from another


class Rim:
    """The rim of one reference's mesh (478, 3)."""

    def __init__(self, points: np.ndarray) -> None:
        self._facing = facing(points)
        beside = neighbours()
        hidden = (self._facing < SEEN) & (beside.sum(1) > 0)
        self._hidden = np.flatnonzero(hidden)
        mean = beside / np.maximum(beside.sum(1, keepdims=True), 1)
        inside = np.eye(len(self._hidden)) - mean[np.ix_(hidden, hidden)]
        self._instead = np.linalg.solve(inside, mean[np.ix_(hidden, ~hidden)])  # (hidden, seen), rows add up to 1
        self._seen = np.flatnonzero(~hidden)

    def covered(self, source: np.ndarray, points: np.ndarray) -> np.ndarray:
        """``source`` (478, 2), where the texture of a mesh that now lies at ``points`` comes from, without the rim."""
        hidden = self._hidden
        share = np.clip((facing(points)[hidden] - self._facing[hidden]) / GAIN, 0, 1)[:, None]
        covered = source.copy()
        covered[hidden] += share * (self._instead @ source[self._seen] - source[hidden])
        return covered


def facing(points: np.ndarray) -> np.ndarray:
    """How much each point of a mesh (478, 3) faces the viewer, (478,): 1 in full, 0 from its edge or in no triangle."""
    faces = triangles()
    a, b, c = points[faces.T]
    (ax, ay, az), (bx, by, bz) = (b - a).T, (c - a).T
    normals = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
    every = faces.ravel()
    x, y, z = (np.bincount(every, normal.repeat(3), NUM_POINTS) for normal in normals)
    return z / np.maximum(np.sqrt(x**2 + y**2 + z**2), 1e-9)


def neighbours() -> np.ndarray:
    """Which points share an edge of the mesh, float64 (478, 478) of 0 and 1."""
    beside = np.zeros((NUM_POINTS, NUM_POINTS))
    for first, second in ((0, 1), (1, 2), (2, 0)):
        pairs = triangles()[:, [first, second]]
        beside[pairs[:, 0], pairs[:, 1]] = beside[pairs[:, 1], pairs[:, 0]] = 1
    return beside
