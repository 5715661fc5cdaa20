"""Crop policies: which square of the picture shows a head in each frame.

ViCo was cropped with MTCNN to 384 x 384 (Zhou et al., ECCV 2022, section 4); margin, smoothing and box policy were
never released. In the twelve halves of its published examples MTCNN's box is .71 to .94 of the crop's height, .85 at
the median, and lies in its middle; where it is .8 or more, the crop cuts the hair. So our square is as large as the
widest of theirs and holds the whole head: `HEAD_REACH` is how far a head, hair and chin included, reaches beyond the
box, and a face of usual proportions then fills .72 of the square.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.faces.boxes import Floats, centres, sizes

POLICIES = ("static", "smooth", "per_frame")
HEAD_REACH = np.array([0.16, 0.27, 0.16, 0.12], np.float32)  # left, up, right, down, in box widths and heights
MAX_STEP_ASIDE = 0.05  # of a square's side: the head stays inside
QUANTILE = 0.05  # share of the frames whose most extreme edges a static square may cut


def heads(boxes: Floats) -> Floats:
    """Boxes (..., 4) that hold the whole head, from face boxes."""
    reach = np.tile(sizes(boxes), 2) * HEAD_REACH
    return boxes + reach * np.array([-1, -1, 1, 1], np.float32)


def static_square(boxes: Floats, margin: float, picture_px: tuple[int, int]) -> Floats:
    """One square x1, y1, x2, y2 for a clip, in steps of two pixels: a video's colours are stored for two by two.

    The smallest one that holds the head of face boxes (frame, 4) in nearly all frames, and no smaller than ``margin``
    median face heights; moved into the picture (width, height) as far as it fits.
    """
    reached = heads(boxes)
    low, high = np.quantile(reached[:, :2], QUANTILE, axis=0), np.quantile(reached[:, 2:], 1 - QUANTILE, axis=0)
    still_px = margin * np.median(sizes(boxes)[:, 1])
    side_px = max(float((high - low).max()), float(still_px))
    square = _inside(squares((low + high) / 2, np.array(side_px)), picture_px)
    corner, whole_side_px = _even(square[:2]), _even(square[2] - square[0])
    return np.concatenate([corner, corner + whole_side_px])


def apart(left: Floats, right: Floats, picture_px: tuple[int, int]) -> tuple[Floats, Floats]:
    """Two squares (4,) moved away from each other where they overlap a little and there is room.

    In a split screen that keeps a strip of the neighbour out of the crop.
    """
    overlap_px = max(float(left[2] - right[0]), 0.0)
    left_px = min(overlap_px, float(left[0]), MAX_STEP_ASIDE * float(left[2] - left[0]))
    right_px = min(overlap_px - left_px, picture_px[0] - float(right[2]), MAX_STEP_ASIDE * float(right[2] - right[0]))
    left_step_px = -_even(left_px - left[0]) - left[0]  # 0 or less
    right_step_px = _even(right[0] + right_px) - right[0]
    if overlap_px > right_step_px - left_step_px + 2:  # one picture of two people who sit close: no use
        return left, right
    sideways = np.array([1, 0, 1, 0], np.float32)
    return left + left_step_px * sideways, right + right_step_px * sideways


def moving_squares(boxes: Floats, margin: float, picture_px: tuple[int, int], sigma_frames: float) -> Floats:
    """A square for each frame (frame, 4) that follows the head of face boxes (frame, 4).

    ``sigma_frames`` is the standard deviation of the Gaussian that smooths centre and size in time; 0 follows each box.
    """
    reached = _smoothed(heads(boxes), sigma_frames)
    side_px = margin * _smoothed(sizes(boxes), sigma_frames)[:, 1]
    return _inside(squares(centres(reached), side_px), picture_px)


def squares(centre: NDArray[np.floating], side_px: NDArray[np.floating]) -> Floats:
    """Squares (..., 4) of these sides (...,) around these points (..., 2)."""
    half = np.asarray(side_px)[..., None] / 2
    return np.concatenate([centre - half, centre + half], axis=-1).astype(np.float32)


def _even(px: NDArray[np.floating]) -> NDArray[np.floating]:
    """Rounded down to steps of two pixels."""
    return 2 * np.floor(px / 2)


def _inside(squares: Floats, picture_px: tuple[int, int]) -> Floats:
    """Squares (..., 4) shrunk to the picture's shorter side and moved into it: true pixels, no repeated edges."""
    picture = np.array(picture_px, np.float32)
    side_px = np.minimum(sizes(squares), picture.min())
    middle = np.clip(centres(squares), side_px / 2, picture - side_px / 2)
    return np.concatenate([middle - side_px / 2, middle + side_px / 2], axis=-1).astype(np.float32)


def _smoothed(series: Floats, sigma_frames: float) -> Floats:
    """A series (frame, value) after a Gaussian of that width in time; its ends are held."""
    if sigma_frames <= 0:
        return series
    reach = int(np.ceil(3 * sigma_frames))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_frames) ** 2)
    held = np.pad(series, ((reach, reach), (0, 0)), mode="edge")
    columns = [np.convolve(column, weights / weights.sum(), mode="valid") for column in held.T]
    return np.stack(columns, axis=1).astype(np.float32)
