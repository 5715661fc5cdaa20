"""What every metric demands of its arrays: same shape, finite numbers, one row a frame. Nothing is cut or padded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class MismatchError(ValueError):
    """Two arrays that are to be compared do not have the same length or size."""


def check_pair(predicted: np.ndarray, other: np.ndarray, ndim: int) -> None:
    """Two arrays of the same shape with this many axes, and without NaN; else `MismatchError` or `ValueError`."""
    if len(predicted) != len(other):
        raise MismatchError(
            f"expected as many frames as the other sequence, {len(other)}, found {len(predicted)}; "
            "cut both to one span before they are scored"
        )
    if predicted.shape != other.shape:
        raise MismatchError(f"expected the size of the other array, {other.shape}, found {predicted.shape}")
    check(predicted, ndim)
    check(other, ndim)


def check(values: np.ndarray, ndim: int) -> None:
    """An array with this many axes, at least one row, and without NaN."""
    if values.ndim != ndim or len(values) == 0:
        raise ValueError(f"expected {ndim} axes and at least one frame, found shape {values.shape}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum())
        raise ValueError(
            f"expected finite numbers, found NaN or infinity in {bad} of {len(values)} frames; leave out the frames "
            "that are not valid in every sequence (the column coeffs_valid) before they are scored"
        )


def check_pictures(frames: np.ndarray) -> None:
    """RGB pictures, uint8 (frame, height, width, 3); none is fine."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"expected RGB, uint8 (frame, height, width, 3), found {frames.dtype} {frames.shape}")


def check_sets(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> None:
    """Two data sets of the same clips: as many arrays (frame, dimension), and clip by clip the same shape."""
    if len(first) != len(second):
        raise MismatchError(f"expected as many clips as the other data set, {len(second)}, found {len(first)}")
    for one, other in zip(first, second, strict=True):
        check_pair(one, other, ndim=2)
