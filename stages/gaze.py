"""Stage ``gaze``: where both people look, from the irises of FaceMesh and an eyeball of average size.

The eyeball is a sphere of 12 mm whose iris, 5.85 mm in radius, lies at the end of its line of sight; its centre lies a
little behind and above the middle between the corners of the eye: the model of Ishikawa et al., "Passive Driver Gaze
Tracking with Active Appearance Models", 2004. How far the picture of the iris lies from the picture of the centre says
where the eye is turned to. A mm is known from the outer corners of the eyes, which in adults are 89 mm apart, and
where "behind" is, from the head's angle. Both eyes count, by the width at which they are seen.

Who looks straight into the camera has up to 4 degrees nevertheless, for people's eyes differ. As their heads move by
4 degrees, their gaze moves by 2: `docs/quality.md`. Under half-closed lids FaceMesh sees the iris rise and fall with
them, and in the dark it guesses. In blinks there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.stage import Reject, Stage, setting
from schemas.column import FRAME_AXIS, ROLES, Column, both, per_role

Floats = NDArray[np.floating[Any]]

EYES = ((33, 133, 468), (263, 362, 473))  # outer corner, inner corner and middle of the iris; the subject's right first
OUTER_CORNERS_MM = 89.0  # apart, of the mean face whose points FaceMesh was taught
EYEBALL_MM, IRIS_MM = 12.0, 5.85  # radii; the iris is the least variable length of a face
SIGHT_MM = (EYEBALL_MM**2 - IRIS_MM**2) ** 0.5  # from the eyeball's centre to the iris's
CENTRE_MM = (0.0, 1.3, -4.0)  # of the eyeball from the middle between the corners: to the right, up, to the front


class Gaze(Stage):
    """Angles of both people's lines of sight against the camera and against their heads."""

    @dataclass(frozen=True)
    class Settings:
        max_away_rad: float = setting(
            1.6, "largest median angle between a role's line of sight and the camera; none is beyond 1.6"
        )

    opt_in = True
    reads = both("{role}_landmarks", "{role}_landmarks_valid", "{role}_angle", "{role}_blink")
    writes = per_role(
        *(
            Column(
                f"{{role}}_{name}",
                "float32",
                (FRAME_AXIS, 2),
                "rad",
                f"pitch and yaw of the {{role}}'s line of sight {against}: > 0 looks down, to the right of the "
                "picture; NaN in blinks and where no face was found",
            )
            for name, against in (("gaze", "against the camera's"), ("gaze_in_head", "in the head"))
        )
    )
    rejects = {"looks_away": "a role mostly looks further away from the camera than max_away_rad"}

    def process(self, clip: Clip) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for role in ROLES:
            looks = clip[f"{role}_landmarks_valid"] & ~clip[f"{role}_blink"]
            landmarks = np.where(looks[:, None, None], clip[f"{role}_landmarks"], np.nan)
            seen, in_head = sights(landmarks, clip[f"{role}_angle"])
            away = np.arccos(seen[:, 2][np.isfinite(seen[:, 2])])
            if len(away) and np.median(away) > self.settings.max_away_rad:
                detail = f"{role}: {np.median(away):.2f} rad, expected {self.settings.max_away_rad:g} or less"
                raise Reject("looks_away", detail)
            columns |= {f"{role}_gaze": angles(seen), f"{role}_gaze_in_head": angles(in_head)}
        return columns


def sights(landmarks: Floats, angle: Floats) -> tuple[Floats, Floats]:
    """Unit vectors of the line of sight, (frame, 3) each: against the camera, and against the head.

    x to the right of the picture, y up, z to the camera; NaN where landmarks (frame, 478, 3) in px or the head's angle
    (frame, 3), its pitch, yaw and roll in rad, are.
    """
    import torch

    from stages.morphable.rotation import rotation_matrix

    points = landmarks.astype(np.float64)
    head = rotation_matrix(torch.from_numpy(np.asarray(angle, np.float64))).numpy()  # (frame, 3, 3)
    px_a_mm = np.linalg.norm(points[:, EYES[0][0]] - points[:, EYES[1][0]], axis=1) / OUTER_CORNERS_MM
    inwards_px = px_a_mm[:, None] * (head @ CENTRE_MM)[:, :2] * (1, -1)  # y down
    turned, weights = [], []
    for outer, inner, iris in EYES:
        corners = points[:, [outer, inner], :2]
        centre = corners.mean(axis=1) + inwards_px
        turned.append((points[:, iris, :2] - centre) / (SIGHT_MM * px_a_mm[:, None]) * (1, -1))
        weights.append(np.square(corners[:, 0] - corners[:, 1]).sum(axis=1))
    share = np.array(weights) / np.sum(weights, axis=0)
    flat = (np.array(turned) * share[:, :, None]).sum(axis=0)  # (frame, 2)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1)
    seen = np.concatenate([flat, np.sqrt(np.maximum(1 - np.square(flat).sum(axis=1, keepdims=True), 0))], axis=1)
    return seen, np.einsum("fji,fj->fi", head, seen)


def angles(sight: Floats) -> Floats:
    """Pitch and yaw (frame, 2) in rad of unit vectors (frame, 3); their signs are those of `angle`."""
    found: Floats = np.stack([-np.arcsin(sight[:, 1].clip(-1, 1)), np.arctan2(sight[:, 0], sight[:, 2])], axis=1)
    return found
