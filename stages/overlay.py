"""Stage ``overlay``: subtitles, logos and other graphics that lie over the faces.

A face moves, a graphic does not. In every second of film, a few pictures are laid over each other as they lie in the
source; where the grey levels rise along the way that the face takes, and rise there in all of them, although the face
has moved on by some px, the edge is not the face's. That the edges of text stay in their place is how Sato et al.,
"Video OCR for Digital News Archive", 1998, and others since tell captions from what is behind them; here the mesh says
what moves, and how far. Over a face that keeps still nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import frames_in
from pipeline.media.encode import read_video
from pipeline.stage import Reject, Stage, setting
from schemas.column import ROLES, Column, both, per_role
from stages.faces.mesh import MESH_POINTS, outline

Floats = NDArray[np.floating[Any]]

WINDOW_S = 1.0  # as long as even a short subtitle stands, and a head hardly ever does
LOOKS = 6  # pictures in a window
MOVED = 0.025  # of the height of the face: how far it must have moved for its own edges to have gone
EDGE_LEVELS = 10.0  # grey levels a px that an edge rises at least
NEAR_PX = 5  # of the head's video: strokes as near to each other as that are one graphic
SOBEL_SUM = 8  # of the kernel's weights, for grey levels a px


class Overlay(Stage):
    """How much of both faces lies under graphics that stand still before them."""

    @dataclass(frozen=True)
    class Settings:
        max_share: float = setting(1.0, "largest share of either role's face under graphics")

    opt_in = True
    reads = both("{role}_video", "{role}_landmarks", "{role}_landmarks_valid", "{role}_crop_track")
    writes = per_role(
        Column(
            "{role}_overlay",
            "float32",
            (),
            "1",
            "largest share of the {role}'s face under graphics in any second; NaN where the face never moves enough",
        )
    )
    rejects = {"overlay": "more than max_share of a role's face lies under graphics"}

    def process(self, clip: Clip) -> dict[str, Any]:
        found = {}
        for role in ROLES:
            share = max(_shares(clip, role), default=float("nan"))
            if share > self.settings.max_share:
                raise Reject(
                    "overlay", f"{role}: {share:.3f} of the face, expected {self.settings.max_share:g} or less"
                )
            found[f"{role}_overlay"] = share
        return found


def _shares(clip: Clip, role: str) -> Iterator[float]:
    """The share of the face under graphics in every window in which it moves far enough."""
    landmarks, valid = clip[f"{role}_landmarks"][:, :MESH_POINTS, :2], clip[f"{role}_landmarks_valid"]
    track = clip[f"{role}_crop_track"]
    step = max(round(frames_in(WINDOW_S) / LOOKS), 1)
    frames = np.arange(0, len(landmarks), step)
    pictures: list[NDArray[np.uint8]] = []
    for place, rgb in enumerate(read_video(clip.path(f"{role}_video"), set(frames.tolist()))):
        pictures = [*pictures[-LOOKS + 1 :], rgb]
        seen = frames[place - len(pictures) + 1 : place + 1]
        if len(pictures) == LOOKS and (place + 1) % (LOOKS // 2) == 0 and valid[seen].all():
            share = graphics(*in_place(pictures, landmarks[seen], track[seen]))
            if share is not None:
                yield share


def in_place(
    pictures: list[NDArray[np.uint8]], points: Floats, squares: Floats
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pictures in grey, (look, height, width), and points (look, point, 2), moved to their places in the first square.

    The squares (look, 4) are those of the source that the pictures show.
    """
    import cv2

    height, width = pictures[0].shape[:2]
    scale = (squares[:, 2] - squares[:, 0]) / (squares[0, 2] - squares[0, 0])
    shift = (squares[:, :2] - squares[0, :2]) * width / (squares[0, 2] - squares[0, 0])
    greys = [cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) for rgb in pictures]
    for look in np.flatnonzero((scale != 1) | shift.any(axis=1)):
        matrix = np.array([[scale[look], 0, shift[look, 0]], [0, scale[look], shift[look, 1]]])
        greys[look] = cv2.warpAffine(greys[look], matrix, (width, height))
    return np.stack(greys), (points * scale[:, None, None] + shift[:, None]).astype(np.float32)


def graphics(greys: NDArray[np.float32], points: NDArray[np.float32]) -> float | None:
    """The share of a face that lies under graphics, or None where it has hardly moved.

    Of pictures (look, height, width) and the face's points in them, (look, point, 2) in px.
    """
    import cv2

    middles = points.mean(axis=1)
    apart = np.linalg.norm(middles[:, None] - middles, axis=2)
    one, other = np.unravel_index(apart.argmax(), apart.shape)
    if apart.max() < MOVED * np.ptp(points[:, :, 1]):
        return None
    along = (middles[other] - middles[one]) / apart.max()
    rises = np.stack(
        [along[0] * cv2.Sobel(grey, cv2.CV_32F, 1, 0) + along[1] * cv2.Sobel(grey, cv2.CV_32F, 0, 1) for grey in greys]
    )
    stay = np.maximum(rises.min(axis=0), (-rises).min(axis=0)) >= EDGE_LEVELS * SOBEL_SUM
    height, width = greys.shape[1:]
    face = np.all([outline(look, (height, width)) for look in points], axis=0)
    strokes = cv2.morphologyEx(stay.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((NEAR_PX, NEAR_PX), np.uint8))
    return float((strokes & face).sum() / max(face.sum(), 1))
