"""Pearson's r of sequences, also with one of them shifted in time. A sequence that does not change has r = 0."""

from __future__ import annotations

import numpy as np


def pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """r along the first axis, in float64: (frame, ...) and (frame, ...) give (...)."""
    one, other = _centred(first), _centred(second)
    product = (one * other).sum(axis=0)
    size = np.sqrt(np.square(one).sum(axis=0) * np.square(other).sum(axis=0))
    return np.divide(product, size, out=np.zeros_like(product), where=size > 0)


def _centred(values: np.ndarray) -> np.ndarray:
    """Values less their mean; exactly 0 where they are constant, which the mean's rounding would hide."""
    values = values.astype(np.float64)
    return np.where(np.ptp(values, axis=0) > 0, values - values.mean(axis=0), 0.0)


def lagged(listener: np.ndarray, speaker: np.ndarray, max_lag_frames: int) -> np.ndarray:
    """r at every lag, (2 max_lag_frames + 1, ...); at lag > 0 the listener follows the speaker by so many frames."""
    lags = range(-max_lag_frames, max_lag_frames + 1)
    length = len(listener)
    return np.stack(
        [
            pearson(listener[max(lag, 0) : length + min(lag, 0)], speaker[max(-lag, 0) : length - max(lag, 0)])
            for lag in lags
        ]
    )
