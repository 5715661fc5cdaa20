"""Stage ``landmarks``: 478 points of both faces in every frame, by MediaPipe FaceMesh with iris refinement.

Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019, and Grishchenko et al.,
"Attention Mesh", 2020; both models come inside the mediapipe wheel (Apache-2.0). In this version the graph holds no
temporal filter: against the detector run on every frame the eyelids neither lag nor move less, at 60 % of the time.
The model's square is one frame old, which adds about a tenth to a jump of the head of 14 px of 384 in a single frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.clip import Clip
from pipeline.media.encode import read_video
from pipeline.stage import Reject, Stage, setting
from pipeline.stderr import stderr_muted
from schemas.column import FRAME_AXIS, ROLES, Column, both, per_role

NUM_POINTS = 478  # 468 of the mesh, 5 of the right and 5 of the left iris
SETTLING_LOOKS = 3  # at one frame; points move by 2 px of 384 from the detector's square to the tracker's, then .5
BLANK = np.zeros((192, 192, 3), np.uint8)  # nothing to see; the side is the model's input size

_MEANING = (
    "FaceMesh points of the {role} in the crop: x right, y down, z away from the camera; 0-467 the mesh, 468-472 the "
    "subject's right iris, 473-477 the left; NaN where not valid"
)


class Landmarks(Stage):
    """FaceMesh with iris (468 + 10 points, Grishchenko et al. 2020) of both roles, tracked from frame to frame.

    A frame in which the model sees no face is not valid: nothing is carried over from the frame before. Numbers depend
    on the clip's frames alone, not on what ran before in the same process.
    """

    @dataclass(frozen=True)
    class Settings:
        min_presence: float = setting(
            0.9,
            "probability of a face, by the mesh model, from which a frame is valid; real faces have it in 99.9 % of "
            "frames, while at MediaPipe's own .5 a track goes on over jackets and hands",
        )
        min_detection: float = setting(0.5, "probability of a face from which the detector starts a track")
        min_valid: float = setting(0.9, "share of a clip's frames that must be valid, for each role")

    reads = both("{role}_video")
    writes = per_role(
        Column("{role}_landmarks", "float32", (FRAME_AXIS, NUM_POINTS, 3), "px", _MEANING, heavy=True),
        Column("{role}_landmarks_valid", "bool", (FRAME_AXIS,), meaning="whether a face of the {role} was found"),
    )
    rejects = {"face_not_tracked": "the mesh model sees a role's face in fewer than min_valid of the frames"}

    def setup(self, device: str) -> None:
        with stderr_muted():
            Tracker(min_detection=0, min_presence=0).look(BLANK)  # says what it says once, at the first face
            self._trackers = [Tracker(self.settings.min_detection, self.settings.min_presence) for _ in ROLES]
            for tracker in self._trackers:
                tracker.forget()

    def process(self, clip: Clip) -> dict[str, Any]:
        paths = [clip.path(column) for column in self.reads()]
        with ThreadPoolExecutor(len(ROLES)) as pool:  # MediaPipe lets go of Python's lock while it computes
            landmarks = list(pool.map(_landmarks, self._trackers, paths))
        valid = [np.isfinite(points).all(axis=(1, 2)) for points in landmarks]
        self._check(valid)
        columns: dict[str, Any] = {}
        for role, points, seen in zip(ROLES, landmarks, valid, strict=True):
            columns |= {f"{role}_landmarks": points, f"{role}_landmarks_valid": seen}
        return columns

    def _check(self, valid: list[np.ndarray]) -> None:
        shares = {role: float(seen.mean()) for role, seen in zip(ROLES, valid, strict=True)}
        if min(shares.values()) < self.settings.min_valid:
            found = ", ".join(f"{role} in {share:.1%}" for role, share in shares.items())
            expected = f"expected at least {self.settings.min_valid:.1%}"
            raise Reject("face_not_tracked", f"of {len(valid[0])} frames: {found}; {expected}")


class Tracker:
    """FaceMesh following one face through one video after another."""

    def __init__(self, min_detection: float, min_presence: float) -> None:
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
        points = [(point.x, point.y, point.z) for point in faces[0].landmark]
        return np.array(points, np.float32) * np.array([width, height, width], np.float32)

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


def _landmarks(tracker: Tracker, path: Path) -> np.ndarray:
    """Points of all frames of a video, float32 (frame, 478, 3) in px, NaN where there is no face."""
    missing = np.full((NUM_POINTS, 3), np.nan, np.float32)
    return np.stack([missing if points is None else points for points in tracker.follow(read_video(path))])
