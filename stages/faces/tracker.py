"""FaceMesh with irises through videos, by what runs it here: see `stages.faces.mesh_batch`, which needs torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from stages.faces.mesh_batch import MeshTracker


class Tracker:
    """FaceMesh following one face through one video after another, on one core of the CPU."""

    def __init__(self, min_detection: float, min_presence: float) -> None:
        self._heads = tracker_on("cpu", min_detection, min_presence, heads=1)

    def follow(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32] | None]:
        """The points in every frame of a video, float32 (478, 3) in px, or None; z has the scale of x.

        Where a track breaks, the detector has a look at the same frame.
        """
        for (points,) in self._heads.along([frame] for frame in frames):
            yield points if np.isfinite(points[0, 0]) else None


def tracker_on(device: str, min_detection: float, min_presence: float, heads: int) -> MeshTracker:
    """What follows so many heads side by side on a device, on ``"cpu"`` in half of the time of MediaPipe's own graph.

    On a GPU they may be as many as there are.
    """
    from pipeline.weights import find_weights
    from stages.faces.mesh_batch import MeshTracker, OnCpu, OnTorch

    files = find_weights("mediapipe_face_mesh").paths()
    engine = OnCpu(*files, at_once=heads) if device == "cpu" else OnTorch(*files, device)
    return MeshTracker(engine, min_detection, min_presence)
