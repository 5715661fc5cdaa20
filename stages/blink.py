"""Stage ``blink``: eye aspect ratio and closed-eye labels of both roles.

Soukupova and Cech, "Real-Time Eye Blink Detection using Facial Landmarks", CVWW 2016, for the eye aspect ratio; the
closed-eye label is the blink of ELP (Song et al., "Emotional Listener Portrait", ICCV 2023, section 3.2), whose
threshold is not published and whose text has the comparison the wrong way round: eyes are closed *below* it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.clip import Clip
from pipeline.clock import frames_in
from pipeline.stage import Stage, setting
from schemas.column import FRAME_AXIS, ROLES, Column, both, per_role

# FaceMesh points p1..p6 of Soukupova and Cech: outer corner, two of the upper lid, inner corner, two of the lower lid
RIGHT_EYE = (33, 160, 158, 133, 153, 144)  # the subject's right
LEFT_EYE = (263, 387, 385, 362, 380, 373)
HALF_DEPTH = 0.5  # where the duration of a blink is measured, as the width of any dip


class Blink(Stage):
    """Eye aspect ratio (Soukupova and Cech 2016) and frames with closed eyes (ELP, Song et al. 2023).

    The ratio of every eye is divided by its open level: the lower of the highest ratios shortly before and shortly
    after. A dip that both eyes make together is a blink; a wink is none, and neither are eyes that a laugh or a lowered
    gaze narrows for longer than a blink. Of a dip, the deep part is closed.

    Not found are blinks of eyes that a smile holds almost shut (open ratio under about .1): FaceMesh shows them as dips
    of a third, no deeper than other people's squints. In the dark or in full profile the labels mean little.
    """

    @dataclass(frozen=True)
    class Settings:
        threshold: float = setting(0.6, "share of its open level below which both eyes must fall for a blink")
        depth: float = setting(0.6, "share of a dip's depth below which the eyes are closed")
        min_frames: int = setting(2, "shortest run of frames with closed eyes")
        max_gap_frames: int = setting(1, "longest gap inside a run that is taken for closed")
        longest_s: float = setting(0.7, "longest dip that leaves the open level as it is")
        open_floor: float = setting(
            0.6, "share of its median in the clip below which the open level never falls, for eyes closed for longer"
        )
        min_width: float = setting(0.5, "share of the other eye's width below which an eye is too far turned to count")

    reads = both("{role}_landmarks", "{role}_landmarks_valid")
    writes = per_role(
        Column(
            "{role}_eye_aspect_ratio",
            "float32",
            (FRAME_AXIS, 2),
            "1",
            "height by width of the {role}'s eyes, the subject's right eye first; NaN where there are no landmarks",
        ),
        Column("{role}_blink", "bool", (FRAME_AXIS,), meaning="whether the {role}'s eyes are closed"),
    )

    def process(self, clip: Clip) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for role in ROLES:
            valid = clip[f"{role}_landmarks_valid"]
            points = np.where(valid[:, None, None], clip[f"{role}_landmarks"], np.nan)
            columns[f"{role}_eye_aspect_ratio"] = eye_aspect_ratio(points)
            columns[f"{role}_blink"] = self.closed(points)
        return columns

    def closed(self, landmarks: np.ndarray) -> np.ndarray:
        """Frames with closed eyes, bool (frame,), from landmarks (frame, 478, 3); False where they are NaN."""
        opening = self._opening(landmarks)
        closed = np.zeros(len(opening), bool)
        for first, stop in runs(opening < self.settings.threshold):
            closed |= self._dip(opening, first, stop)
        for first, stop in runs(~closed & np.isfinite(opening)):
            inside = first > 0 and stop < len(closed) and closed[first - 1] and closed[stop]
            if inside and stop - first <= self.settings.max_gap_frames:
                closed[first:stop] = True
        return _in_long_runs(closed, self.settings.min_frames)

    def _opening(self, landmarks: np.ndarray) -> np.ndarray:
        """Opening of the wider open eye, float64 (frame,), 1 = its open level; NaN where it is not known."""
        ratio = eye_aspect_ratio(landmarks)
        level = open_level(ratio, self.settings.longest_s)
        known = np.isfinite(ratio).all(axis=1)
        if not known.any():
            return np.full(len(ratio), np.nan)
        floor = self.settings.open_floor * np.median(level[known], axis=0)
        level = np.maximum(level, np.maximum(floor, np.finfo(float).tiny))
        width = np.stack([_distance(landmarks, eye[0], eye[3]) for eye in (RIGHT_EYE, LEFT_EYE)], axis=1)
        counts = width >= self.settings.min_width * width.max(axis=1, keepdims=True)
        opening = np.where(counts, ratio / level, -np.inf).max(axis=1)
        return np.where(known, opening, np.nan)

    def _dip(self, opening: np.ndarray, first: int, stop: int) -> np.ndarray:
        """Closed frames of the dip whose frames from first to stop lie below the threshold, bool (frame,).

        The deep part; in blinks so fast that it is shorter than a run may be, everything below half the depth.
        """
        depth = 1 - opening[first:stop].min()
        for share in (self.settings.depth, HALF_DEPTH):
            dip = np.zeros(len(opening), bool)
            for begin, end in runs(opening < 1 - share * depth):
                dip[begin:end] = begin < stop and first < end
            if _in_long_runs(dip, self.settings.min_frames).any():
                return dip
        return np.zeros(len(opening), bool)


def eye_aspect_ratio(landmarks: np.ndarray) -> np.ndarray:
    """Eye aspect ratio in the picture plane, (|p2 - p6| + |p3 - p5|) / (2 |p1 - p4|): Soukupova and Cech, equation 1.

    From landmarks (frame, 478, 2 or 3) in px: float64 (frame, 2), the subject's right eye first; NaN where landmarks
    are NaN or an eye has no width.
    """
    ratios = []
    for p1, p2, p3, p4, p5, p6 in (RIGHT_EYE, LEFT_EYE):
        height = _distance(landmarks, p2, p6) + _distance(landmarks, p3, p5)
        width = _distance(landmarks, p1, p4)
        ratios.append(np.divide(height, 2 * width, out=np.full(len(width), np.nan), where=width > 0))
    return np.stack(ratios, axis=1)


def open_level(ratio: np.ndarray, longest_s: float) -> np.ndarray:
    """Level (frame, eye) around every frame with dips of the ratio (frame, eye) shorter than ``longest_s`` filled.

    The morphological closing: a step down lowers the level at once, so eyes that stay narrow are no dip. Frames with
    NaN have no say; where nothing is known around a frame, the level is infinite.
    """
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    width_frames = 2 * int(frames_in(longest_s) / 2) + 1
    known = np.where(np.isnan(ratio), -np.inf, ratio)
    highest = maximum_filter1d(known, width_frames, axis=0, mode="constant", cval=-np.inf)
    highest[np.isneginf(highest)] = np.inf
    return minimum_filter1d(highest, width_frames, axis=0, mode="constant", cval=np.inf)


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First frame of every run of True and the frame after its last."""
    steps = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(stop)) for first, stop in steps.reshape(-1, 2)]


def _in_long_runs(mask: np.ndarray, min_frames: int) -> np.ndarray:
    """The mask without its runs that are shorter than ``min_frames``."""
    kept = np.zeros_like(mask)
    for first, stop in runs(mask):
        kept[first:stop] = stop - first >= min_frames
    return kept


def _distance(landmarks: np.ndarray, point: int, other: int) -> np.ndarray:
    """Distance of two points in the picture plane, (frame,) in px."""
    return np.linalg.norm(landmarks[:, point, :2] - landmarks[:, other, :2].astype(np.float64), axis=-1)
