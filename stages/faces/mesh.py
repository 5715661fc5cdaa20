"""FaceMesh with irises on one face through a video (Kartynnik et al. 2019; Grishchenko et al. 2020)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_POINTS = 478  # 468 of the mesh, 5 of the right and 5 of the left iris
MESH_POINTS = 468
SETTLING_LOOKS = 3  # at one frame; points move by 2 px of 384 from the detector's square to the tracker's, then .5
BLANK = np.zeros((192, 192, 3), np.uint8)  # nothing to see; the side is the model's input size
# A point of MediaPipe's in Protocol Buffers' encoding: its tag and length, then a byte of a tag before each number.
POINT = np.dtype({"names": ["x", "y", "z"], "formats": 3 * ["<f4"], "offsets": [3, 8, 13], "itemsize": 17})


@contextmanager
def _nothing_drawn() -> Iterator[None]:
    """Have MediaPipe's import find no matplotlib, with which it can draw: half of what its import costs."""
    empty = {name: ModuleType(name) for name in ("matplotlib", "matplotlib.pyplot") if name not in sys.modules}
    sys.modules.update(empty)
    try:
        yield
    finally:
        for name in empty:
            del sys.modules[name]


class Tracker:
    """FaceMesh following one face through one video after another."""

    def __init__(self, min_detection: float, min_presence: float) -> None:
        with _nothing_drawn():
            from mediapipe.python.solutions.face_mesh import FaceMesh

        self._mesh = FaceMesh(
            max_num_faces=1,
            refine_landmarks=True,
            min_detection_confidence=min_detection,
            min_tracking_confidence=min_presence,
        )

    def look(self, rgb: np.ndarray) -> np.ndarray | None:
        """The points in one frame, float32 (478, 3) in px, or None; z has MediaPipe's scale, that of x.

        Looks where the face was at the last look, or runs the detector if there was none.
        """
        faces = self._mesh.process(rgb).multi_face_landmarks
        if not faces:
            return None
        height, width = rgb.shape[:2]
        points = np.frombuffer(faces[0].SerializeToString(), POINT)  # point by point it costs a tenth of the whole look
        return np.stack([points["x"] * width, points["y"] * height, points["z"] * width], axis=1, dtype=np.float32)

    def forget(self) -> None:
        """Lose the face. All that the graph remembers is where it was, so this is as good as a new tracker."""
        if self.look(BLANK) is not None:  # with a min_presence of almost 0; otherwise not, as a reset costs 40 ms
            self._mesh.reset()

    def follow(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray | None]:
        """The points in every frame of a video. Where a track breaks, the detector has a look at the same frame."""
        self.forget()
        points = None
        for rgb in frames:
            points = None if points is None else self.look(rgb)
            if points is None:
                points = self._settle(rgb)
            yield points

    def _settle(self, rgb: np.ndarray) -> np.ndarray | None:
        """Detect a face and look again until the points no longer depend on the detector's square."""
        for _ in range(SETTLING_LOOKS):
            points = self.look(rgb)
            if points is None:
                break
        return points


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
