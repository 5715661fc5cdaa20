"""Lip landmark distance (LMD): how far the predicted lips lie from the reference, in pixels.

Conventions: Landmarks are MediaPipe's (frame, 478, 2 or 3) in px of the crop; twenty of them stand where the lip points
48-67 of the 68-point scheme lie, and only x and y count. The value depends on the size of the picture.

Source: ``compute_lmd.py`` of dc3ea9f/vico_challenge_baseline, which takes its points from face_alignment; with
MediaPipe's the numbers are others, hence the other name.
"""

from __future__ import annotations

import numpy as np

from stages.evaluate.metrics.definition import Definition, Direction, Pooling, Quantity
from stages.evaluate.metrics.validation import check_pair

OUTER_LIPS = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181)  # MediaPipe's, in the order of points 48 to 59
INNER_LIPS = (78, 82, 13, 312, 308, 317, 14, 87)  # 60 to 67
LIPS = OUTER_LIPS + INNER_LIPS


def lip_distance_px(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Mean of ``|predicted - reference|`` over frames, x and y of the lips among MediaPipe's points."""
    check_pair(predicted, reference, ndim=3)
    return float(np.abs(predicted[:, LIPS, :2].astype(np.float64) - reference[:, LIPS, :2]).mean())


DEFINITIONS = (
    Definition(
        id="lmd_lips_facemesh",
        name="Lip LMD (FaceMesh)",
        formula="mean of |predicted - reference| over x and y of twenty lip points, all frames",
        source="compute_lmd.py of dc3ea9f/vico_challenge_baseline, with MediaPipe's points",
        unit="px",
        scale=1.0,
        pooling=Pooling.FRAMES,
        direction=Direction.LOWER,
        inputs=Quantity.LANDMARKS.pair,
        min_frames=1,
        function=lip_distance_px,
        perfect=0.0,
        warning="not the published LipLMD, whose points are face_alignment's; depends on the size of the picture",
    ),
)
