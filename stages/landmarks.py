"""Stage ``landmarks``: 478 points of both faces in every frame, by MediaPipe FaceMesh with iris refinement.

Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019, and Grishchenko et al.,
"Attention Mesh", 2020; both models come inside the mediapipe wheel (Apache-2.0). In this version the graph holds no
temporal filter: against the detector run on every frame the eyelids neither lag nor move less, at 60 % of the time.
The model's square is one frame old, which adds about a tenth to a jump of the head of 14 px of 384 in a single frame.
On a GPU the same networks run in torch, on all heads of a part side by side (`stages.faces.mesh_batch`).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.clip import Clip
from pipeline.media.encode import read_video
from pipeline.stage import Reject, Stage, answer, setting
from pipeline.stderr import stderr_muted
from pipeline.weights import find_weights
from schemas.column import FRAME_AXIS, ROLES, Column, both, per_role
from stages.faces.mesh import BLANK, NUM_POINTS, Tracker

if TYPE_CHECKING:
    from stages.faces.mesh_batch import MeshTracker

_MEANING = (
    "FaceMesh points of the {role} in the crop: x right, y down, z away from the camera; 0-467 the mesh, 468-472 the "
    "subject's right iris, 473-477 the left; NaN where not valid"
)


class Landmarks(Stage):
    """FaceMesh with iris (468 + 10 points, Grishchenko et al. 2020) of both roles, tracked from frame to frame.

    A frame in which the model sees no face, or that is damaged in the source, is not valid: nothing is carried over
    from the frame before. Numbers depend on the clip's frames alone, not on what ran before in the same process.
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

    reads = ("source_damaged", *both("{role}_video"))
    writes = per_role(
        Column("{role}_landmarks", "float32", (FRAME_AXIS, NUM_POINTS, 3), "px", _MEANING, heavy=True),
        Column("{role}_landmarks_valid", "bool", (FRAME_AXIS,), meaning="whether a face of the {role} was found"),
    )
    rejects = {"face_not_tracked": "the mesh model sees a role's face in fewer than min_valid of the frames"}

    batches_on = ("cuda",)

    def setup(self, device: str) -> None:
        self._side_by_side = None if device == "cpu" else self.side_by_side(device)
        if self._side_by_side:
            return
        with stderr_muted():
            Tracker(min_detection=0, min_presence=0).look(BLANK)  # says what it says once, at the first face
            self._trackers = [Tracker(self.settings.min_detection, self.settings.min_presence) for _ in ROLES]
            for tracker in self._trackers:
                tracker.forget()

    def side_by_side(self, device: str) -> MeshTracker:
        """What follows the heads of many clips on a device at once."""
        from stages.faces.mesh_batch import MeshTracker

        files = find_weights("mediapipe_face_mesh").paths()
        return MeshTracker(*files, device, self.settings.min_detection, self.settings.min_presence)

    def process_part(self, clips: list[Clip]) -> list[dict[str, Any] | Exception]:
        if not self._side_by_side:
            return super().process_part(clips)
        paths = [clip.path(f"{role}_video") for clip in clips for role in ROLES]
        found = self._side_by_side.follow([read_video(path) for path in paths])
        of_clips = [found[start : start + len(ROLES)] for start in range(0, len(found), len(ROLES))]
        return [answer(self._columns, clip, points) for clip, points in zip(clips, of_clips, strict=True)]

    def process(self, clip: Clip) -> dict[str, Any]:
        paths = [clip.path(f"{role}_video") for role in ROLES]
        with ThreadPoolExecutor(len(ROLES)) as pool:  # MediaPipe lets go of Python's lock while it computes
            return self._columns(clip, list(pool.map(_landmarks, self._trackers, paths)))

    def _columns(self, clip: Clip, landmarks: list[np.ndarray]) -> dict[str, Any]:
        """The columns of a clip from the points of both roles."""
        for points in landmarks:
            if len(points) == clip.num_frames:  # a portrait has one, and is whole
                points[clip["source_damaged"]] = np.nan
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


def _landmarks(tracker: Tracker, path: Path) -> np.ndarray:
    """Points of all frames of a video, float32 (frame, 478, 3) in px, NaN where there is no face."""
    missing = np.full((NUM_POINTS, 3), np.nan, np.float32)
    return np.stack([missing if points is None else points for points in tracker.follow(read_video(path))])
