"""Stage ``blink``: eye aspect ratio and closed-eye labels of both roles.

Soukupova and Cech, "Real-Time Eye Blink Detection using Facial Landmarks", CVWW 2016, for the eye aspect ratio; the
closed-eye label is the blink of ELP (Song et al., "Emotional Listener Portrait", ICCV 2023, section 3.2), whose
threshold is not published and whose text has the comparison the wrong way round: eyes are closed *below* it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.clip import Clip
from pipeline.clock import frames_in, runs
from pipeline.media.encode import LUMA_BLACK
from pipeline.stage import Stage, setting
from schemas.column import FRAME_AXIS, ROLES, Column, both, per_role

# FaceMesh points p1..p6 of Soukupova and Cech: outer corner, two of the upper lid, inner corner, two of the lower lid
RIGHT_EYE = (33, 160, 158, 133, 153, 144)  # the subject's right
LEFT_EYE = (263, 387, 385, 362, 380, 373)
SKULL = (6, 168, 197, 195, 5, 9, 151, 127, 356)  # bridge of the nose, forehead, temples
STEADY_S = 0.7  # longer than most closures, shorter than most turns of the head
IRISES = (468, 473)  # their centres, the subject's right first
HALF_DEPTH = 0.5  # where the duration of a blink is measured, as the width of any dip

# The look of an eye: a grey patch that keeps place and size on the face, as the irises' distance keeps them
EYE_WIDTH = 0.45  # of the distance between the eyes' centres, in people's faces seen from the front
PATCH_PX = (48, 32)  # width and height
PATCH_WIDTHS = 1.3  # width of the patch in eye widths: with cheek and lid for the skin, without the brow of most
SKIN_SHARE = 0.75  # of the patch's pixels are darker than its skin, lashes, shadows and rims among them
BAND_PX = (16, 12)  # the patch's middle, where iris and pupil are: .43 and .33 eye widths
OPEN_SHARE = 0.65  # rank of an open eye's darkness among the frames around, right for eyes that are open in .35 of them
LID_SHARE = 0.04  # of the frames around show the lid in the eye's place
PUPIL_ROWS = 2.75  # of the band to either side of its middle: where a pupil is, and hardly a rim or brow
WINDOW_S = 4.0  # time around a frame in which light and pose stay and eyes open
WINDOW_STEP_S = 1 / 3  # windows are moved by


class Blink(Stage):
    """Eye aspect ratio (Soukupova and Cech 2016) and frames with closed eyes (ELP, Song et al. 2023).

    Two things are seen of each eye: its aspect ratio, and in the video how much is still dark of what is dark above the
    pupil when it is open, for a lid that closes covers it with skin. FaceMesh hardly moves the lids of eyes behind the
    rims of glasses or narrowed by a smile, while the picture shows them; the picture shows little of lids with make-up,
    while FaceMesh moves them. Each is divided by its open level: the lower of the highest values shortly before and
    shortly after. A dip of the two's geometric mean that both eyes make together is a blink; a wink is none, and
    neither are eyes that a laugh or a lowered gaze narrows for longer than a blink. Of a dip, the deep part is closed.

    Thick dark rims right on the lids still hide one blink in six, eyes that roll upwards or come back from a wide stare
    can look closed, and in the dark or in full profile the labels mean little.
    """

    @dataclass(frozen=True)
    class Settings:
        threshold: float = setting(0.62, "share of its open level below which both eyes must fall for a blink")
        depth: float = setting(0.6, "share of a dip's depth below which the eyes are closed")
        min_frames: int = setting(1, "shortest run of frames with closed eyes")
        max_gap_frames: int = setting(1, "longest gap inside a run that is taken for closed")
        longest_s: float = setting(0.7, "longest dip that leaves the open level as it is")
        open_floor: float = setting(
            0.6, "share of its median in the clip below which the open level never falls, for eyes closed for longer"
        )
        min_width: float = setting(0.5, "share of the other eye's width below which an eye is too far turned to count")

    version = 4  # lids that cover both eyes, near the pupils
    reads = both("{role}_landmarks", "{role}_landmarks_valid", "{role}_video")
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
            columns[f"{role}_blink"] = self.closed(points, eye_darkness(clip.video(f"{role}_video").luma(), points))
        return columns

    def closed(self, landmarks: np.ndarray, darkness: np.ndarray | None = None) -> np.ndarray:
        """Frames with closed eyes, bool (frame,), from landmarks (frame, 478, 3); False where they are NaN.

        With the `eye_darkness` of the same frames the look of the eyes counts, otherwise the landmarks alone.
        """
        opening = self._opening(eye_aspect_ratio(landmarks), landmarks)
        if darkness is not None:
            look = self._opening(uncovered(darkness), landmarks)
            opening = np.sqrt(opening * np.maximum(look, 0))
        closed = np.zeros(len(opening), bool)
        for first, stop in runs(opening < self.settings.threshold):
            closed |= self._dip(opening, first, stop)
        for first, stop in runs(~closed & np.isfinite(opening)):
            inside = first > 0 and stop < len(closed) and closed[first - 1] and closed[stop]
            if inside and stop - first <= self.settings.max_gap_frames:
                closed[first:stop] = True
        return _in_long_runs(closed, self.settings.min_frames)

    def _opening(self, seen: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Opening of the wider open eye by a quantity (frame, eye), float64 (frame,), 1 = its open level; or NaN."""
        level = open_level(seen, self.settings.longest_s)
        known = np.isfinite(seen).all(axis=1)
        if not known.any():
            return np.full(len(seen), np.nan)
        floor = self.settings.open_floor * np.median(level[known], axis=0)
        level = np.maximum(level, np.maximum(floor, np.finfo(float).tiny))
        width = np.stack([_distance(landmarks, eye[0], eye[3]) for eye in (RIGHT_EYE, LEFT_EYE)], axis=1)
        counts = width >= self.settings.min_width * width.max(axis=1, keepdims=True)
        opening = np.where(counts, seen / level, -np.inf).max(axis=1)
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


def eye_darkness(frames: Iterable[np.ndarray], landmarks: np.ndarray) -> np.ndarray:
    """How much darker than the skin around it the middle of each eye is: float32 (frame, eye, row, pixel).

    1 is black, 0 the skin, NaN where landmarks (frame, 478, 3) are; the subject's right eye first. Frames are luma,
    uint8 (height, width), of `OwnVideo.luma`. The pixels keep their place on the face: they turn, move and grow
    with the line between the eyes' centres, and follow both irises to the side, for a glance is no lid. Up and down
    they stay: a lid that comes takes FaceMesh's iris along.
    """
    import cv2

    width, height = PATCH_PX
    columns, rows = BAND_PX
    left, top = (width - columns) // 2, (height - rows) // 2
    skin_rank = int(SKIN_SHARE * width * height)
    darkness = np.full((len(landmarks), 2, rows, columns), np.nan, np.float32)
    for dark, luma, centres in zip(darkness, frames, eye_centres(landmarks), strict=True):
        across = centres[1] - centres[0]
        distance = np.linalg.norm(across)
        if not distance > 0:  # NaN without landmarks
            continue
        scale = width / (PATCH_WIDTHS * EYE_WIDTH * distance) / distance
        turn = scale * np.array([[across[0], across[1]], [-across[1], across[0]]])
        for eye, centre in enumerate(centres):
            onto_patch = np.c_[turn, np.array(PATCH_PX) / 2 - turn @ centre]
            patch = cv2.warpAffine(luma, onto_patch, PATCH_PX, borderMode=cv2.BORDER_REPLICATE)
            patch = cv2.subtract(patch, LUMA_BLACK)
            skin = max(int(np.partition(patch, skin_rank, axis=None)[skin_rank]), 1)
            dark[eye] = 1 - patch[top : top + rows, left : left + columns] / skin
    return darkness


def eye_centres(landmarks: np.ndarray) -> np.ndarray:
    """Where on the face the irises are, (frame, eye, 2) in px, whatever lids and rims do to FaceMesh's eyes.

    Where an iris lies beside points of the skull is taken as a median over `STEADY_S`: a lid that comes takes
    FaceMesh's iris along, and a rim of glasses pulls the eye by a px of 384 from frame to frame. A glance, both irises
    along the line of the eyes, is followed at once.
    """
    from scipy.ndimage import median_filter

    points = landmarks[..., :2].astype(np.float64)
    irises = points[:, IRISES]
    seen = np.isfinite(irises).all(axis=(1, 2))
    skull = points[:, SKULL].mean(axis=1, keepdims=True)
    steady = irises.copy()
    frames = 2 * int(frames_in(STEADY_S) / 2) + 1
    steady[seen] = median_filter((irises - skull)[seen], (frames, 1, 1), mode="nearest") + skull[seen]
    across = steady[:, 1] - steady[:, 0]
    aside = ((irises - steady) * across[:, None]).sum(axis=2).mean(axis=1)
    length = (across**2).sum(axis=1)
    aside = np.divide(aside, length, out=np.zeros(len(points)), where=length > 0)
    return steady + (aside[:, None] * across)[:, None]


def uncovered(darkness: np.ndarray) -> np.ndarray:
    """Share of an open eye's darkness above its pupil that no lid covers: float64 (frame, eye), of `eye_darkness`.

    About 1 in open eyes and 0 where lid is all that is seen. A pixel counts as it is dark in open eyes, near the middle
    where the pupil is, and squared as it brightens under a lid: what stays dark, the rim of glasses, lashes and shadow,
    counts little. Lower rows count less and less, for there a closing lid brings darkness, its lashes.

    What a lid looks like is told in two ways, and the mean of both shares is given: each pixel when it is brightest,
    which a rim that slides away makes it as well; and all pixels in the frames that cover both eyes most, whether a lid
    does that or a look that widens and comes back. NaN where the darkness is.
    """
    seen = np.isfinite(darkness).all(axis=(1, 2, 3))
    share = np.full(darkness.shape[:2], np.nan)
    if not seen.any():
        return share
    dark = darkness[seen]
    eye_open, brightest = _ranks_around(dark, (OPEN_SHARE, LID_SHARE))
    eye_open = np.maximum(eye_open, 0)
    rows = np.arange(dark.shape[2])[:, None]
    near_pupil = eye_open * np.exp(-((((rows - rows.mean()) / PUPIL_ROWS) ** 2) / 2))

    def still_dark(weights: np.ndarray) -> np.ndarray:
        whole = (weights * eye_open).sum(axis=(2, 3))
        return np.divide((weights * dark).sum(axis=(2, 3)), whole, out=np.ones(whole.shape), where=whole > 0)

    by_pixel = near_pupil * np.maximum(eye_open - brightest, 0) ** 2
    together = near_pupil * np.maximum(eye_open - _lids_around(dark, still_dark(by_pixel).max(axis=1)), 0) ** 2
    share[seen] = (still_dark(_from_above(by_pixel)) + still_dark(_from_above(together))) / 2
    return share


def _from_above(weights: np.ndarray) -> np.ndarray:
    """Weights (frame, eye, row, pixel) times the squared share of them that lies in a row or below it."""
    below = np.flip(np.flip(weights.sum(axis=3, keepdims=True), axis=2).cumsum(axis=2), axis=2)
    return weights * (below / np.maximum(below[:, :, :1], np.finfo(float).tiny)) ** 2


def _windows(num_frames: int) -> tuple[list[slice], np.ndarray]:
    """Windows of `WINDOW_S` and which of them is around every frame, (frame,)."""
    half, step = round(frames_in(WINDOW_S) / 2), round(frames_in(WINDOW_STEP_S))
    windows = [slice(max(0, centre - half), centre + half + 1) for centre in range(0, num_frames, step)]
    return windows, np.minimum((np.arange(num_frames) + step // 2) // step, len(windows) - 1)


def _ranks_around(values: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The values at these shares of the ranking within a window around every frame, (share, frame, ...)."""
    series = np.ascontiguousarray(values.reshape(len(values), -1).T)  # (pixel, frame): a ranking lies in one piece
    windows, nearest = _windows(len(values))
    found = np.empty((len(shares), len(windows), len(series)))
    for k, window in enumerate(windows):
        inside = series[:, window]
        ranks = [round(share * (inside.shape[1] - 1)) for share in shares]
        found[:, k] = np.partition(inside, ranks, axis=1)[:, ranks].T
    return found[:, nearest].reshape(len(shares), *values.shape)


def _lids_around(dark: np.ndarray, still_dark: np.ndarray) -> np.ndarray:
    """Mean of those `LID_SHARE` of the frames within a window around every frame that are least ``still_dark``."""
    windows, nearest = _windows(len(dark))
    lids = []
    for window in windows:
        order = np.argsort(still_dark[window], kind="stable")
        lids.append(dark[window][order[: 1 + round(LID_SHARE * (len(order) - 1))]].mean(axis=0))
    return np.stack(lids)[nearest]


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


def _in_long_runs(mask: np.ndarray, min_frames: int) -> np.ndarray:
    """The mask without its runs that are shorter than ``min_frames``."""
    kept = np.zeros_like(mask)
    for first, stop in runs(mask):
        kept[first:stop] = stop - first >= min_frames
    return kept


def _distance(landmarks: np.ndarray, point: int, other: int) -> np.ndarray:
    """Distance of two points in the picture plane, (frame,) in px."""
    return np.linalg.norm(landmarks[:, point, :2] - landmarks[:, other, :2].astype(np.float64), axis=-1)
