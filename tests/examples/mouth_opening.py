"""Stage ``mouth_opening``: how far both mouths are open in every frame.

A complete example of a stage of your own. It lives outside ``stages/``; add it to a build, finished or not, with

    python -m jobs.build MANIFEST --out DIR --stage tests/examples/mouth_opening.py

and this stage alone is computed. Copied into ``stages/`` it would be found without being named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.clip import Clip
from pipeline.stage import Reject, Stage, setting
from schemas.column import ROLES, Column, both, per_role

UPPER_LIP, LOWER_LIP = 13, 14  # inner lips on MediaPipe's mesh
RIGHT_EYE, LEFT_EYE = 33, 263  # outer corners


class MouthOpening(Stage):
    """Distance of the inner lips over the distance of the outer eye corners, NaN where no face was found."""

    @dataclass(frozen=True)
    class Settings:
        never_open_below: float = setting(0.0, "reject clips whose speaker never opens the mouth this far")

    reads = both("{role}_landmarks")
    writes = per_role(Column("{role}_mouth_opening", "float32", ("frame",), "1", "how far the {role}'s mouth is open"))
    rejects = {"silent_mouth": "the speaker's mouth never opens as far as never_open_below"}
    version = 1  # raise it when the same input would give another output

    def process(self, clip: Clip) -> dict[str, Any]:
        columns = {f"{role}_mouth_opening": opening(clip[f"{role}_landmarks"]) for role in ROLES}
        widest = float(np.nanmax(columns["speaker_mouth_opening"]))
        if widest < self.settings.never_open_below:
            raise Reject("silent_mouth", f"{widest:.3f}, expected {self.settings.never_open_below:g} or more")
        return columns


def opening(landmarks: np.ndarray) -> np.ndarray:
    """(frame,) from landmarks (frame, 478, 3) in pixels; free of the face's size."""
    lips_px = np.linalg.norm(landmarks[:, UPPER_LIP] - landmarks[:, LOWER_LIP], axis=1)
    eyes_px = np.linalg.norm(landmarks[:, RIGHT_EYE] - landmarks[:, LEFT_EYE], axis=1)
    return lips_px / eyes_px
