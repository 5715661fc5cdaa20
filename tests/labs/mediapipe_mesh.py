"""FaceMesh as MediaPipe's own graph runs it: what ours is held against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from stages.faces.mesh import SETTLING_LOOKS

BLANK = np.zeros((192, 192, 3), np.uint8)  # nothing to see


class MediaPipeTracker:
    """MediaPipe following one face through one video after another."""

    def __init__(self, min_detection: float, min_presence: float) -> None:
        from mediapipe.python.solutions.face_mesh import FaceMesh

        self._mesh = FaceMesh(
            max_num_faces=1,
            refine_landmarks=True,
            min_detection_confidence=min_detection,
            min_tracking_confidence=min_presence,
        )

    def look(self, rgb: np.ndarray) -> np.ndarray | None:
        """The points in one frame, float32 (478, 3) in px, or None, where the face was before or is detected."""
        faces = self._mesh.process(rgb).multi_face_landmarks
        if not faces:
            return None
        height, width = rgb.shape[:2]
        points = [(point.x * width, point.y * height, point.z * width) for point in faces[0].landmark]
        return np.array(points, np.float32)

    def follow(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray | None]:
        """The points in every frame of a video."""
        self.look(BLANK)
        points = None
        for rgb in frames:
            points = None if points is None else self.look(rgb)
            for _ in range(SETTLING_LOOKS if points is None else 0):
                points = self.look(rgb)
            yield points
