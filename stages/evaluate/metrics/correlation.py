"""Pearson's r of sequences, also with one of them shifted in time. A sequence that does not change has r = 0."""

from __future__ import annotations

import numpy as np

ROUNDING = 1e-12  # of the whole sequence's sum of squares: what changes less does not change


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
    """r of (frame, ...) and (frame, ...) at every lag, (2 max_lag_frames + 1, ...).

    At lag > 0 the listener follows the speaker by so many frames. Only frames that overlap count, with their own means;
    products of all lags come from one Fourier transform and sums from running sums.
    """
    lags = np.arange(-max_lag_frames, max_lag_frames + 1)
    length = len(listener)
    one, other = (values.astype(np.float64) - values.mean(axis=0) for values in (listener, speaker))
    padded = length + max_lag_frames
    spectrum = np.fft.rfft(one, padded, axis=0) * np.fft.rfft(other, padded, axis=0).conj()
    products = np.fft.irfft(spectrum, padded, axis=0)[lags]
    overlap = (length - np.abs(lags)).reshape(-1, *(1,) * (one.ndim - 1))
    first, square = _sums(one, np.maximum(lags, 0), length + np.minimum(lags, 0))
    second, other_square = _sums(other, np.maximum(-lags, 0), length - np.maximum(lags, 0))
    spread = _spread(first, square, overlap) * _spread(second, other_square, overlap)
    return np.divide(products - first * second / overlap, spread, out=np.zeros_like(products), where=spread > 0)


def _sums(values: np.ndarray, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of values (frame, ...) and of their squares from every start to its stop, (lag, ...)."""
    running = [np.insert(np.cumsum(powers, axis=0), 0, 0, axis=0) for powers in (values, np.square(values))]
    return running[0][stop] - running[0][start], running[1][stop] - running[1][start]


def _spread(sums: np.ndarray, squares: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """Root of the sum of squares around the mean; 0 where nothing changes but by rounding."""
    around = squares - np.square(sums) / overlap
    return np.sqrt(np.where(around > ROUNDING * squares.max(axis=0), around, 0))
