"""Stage ``landmarks``: 478 points of both faces in every frame, by MediaPipe FaceMesh with iris refinement.

Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019, and Grishchenko et al.,
"Attention Mesh", 2020; both models come inside the mediapipe wheel (Apache-2.0). There is no temporal filter: against
the detector run on every frame the eyelids neither lag nor move less, at 60 % of the time. The model's square is one
frame old, which adds about a tenth to a jump of the head of 14 px of 384 in a single frame. Both heads of a clip are
looked at together, on a GPU all heads of a part (`stages.faces.mesh_batch`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.clip import Clip
from pipeline.stage import Reject, Stage, answer, setting
from schemas.column import FRAME_AXIS, ROLES, Column, both, per_role
from stages.faces.mesh import NUM_POINTS
from stages.faces.tracker import tracker_on

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

    version = 3  # stretches of a video are equally long
    weights = ("mediapipe_face_mesh",)
    batches_on = ("cuda",)

    def setup(self, device: str) -> None:
        from stages.faces.stretches import AT_ONCE

        heads = len(ROLES) * AT_ONCE
        self._tracker = tracker_on(device, self.settings.min_detection, self.settings.min_presence, heads)

    def process(self, clip: Clip) -> dict[str, Any]:
        return self._columns(clip, self._follow([clip]))

    def process_part(self, clips: list[Clip]) -> list[dict[str, Any] | Exception]:
        found = self._follow(clips)
        of_clips = [found[start : start + len(ROLES)] for start in range(0, len(found), len(ROLES))]
        return [answer(self._columns, clip, points) for clip, points in zip(clips, of_clips, strict=True)]

    def _follow(self, clips: list[Clip]) -> list[np.ndarray]:
        from stages.faces.stretches import follow_in_stretches

        return follow_in_stretches(self._tracker, [clip.video(f"{role}_video") for clip in clips for role in ROLES])

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
