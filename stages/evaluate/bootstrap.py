"""The bootstrap over clips: how far a score would move had other clips of the same kind been recorded.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13. A clip is drawn as a whole, because
its frames are no independent observations; micro averages weigh every drawn clip by its frames, metrics of a data set
are computed anew on the drawn clips. Draws depend on seed and number of clips alone, so that two runs on the same clips
are drawn together and their difference is a paired one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
POOLED_RESAMPLES = 50  # each computes the metric anew; enough for a standard error (10 % off), too few for percentiles
COSTLY_RESAMPLES = 20  # of Frechet distances of network embeddings, which take seconds each
TAIL = 0.025
NORMAL_QUANTILE = 1.959964  # of 1 - TAIL


@dataclass(frozen=True)
class Replicates:
    """The values that a score takes on resampled clips, (resample,), and the value on the clips themselves."""

    value: float
    values: np.ndarray
    pooled: bool

    def interval(self) -> tuple[float, float]:
        """95 % interval: percentiles of averages; a normal interval around metrics of a data set.

        Drawn clips repeat, which makes a Frechet distance larger and an entropy smaller: percentiles of such values lie
        beside the value itself, while their spread is still that of the metric.
        """
        values = self.values[np.isfinite(self.values)]
        if len(values) < 2:
            return math.nan, math.nan
        if self.pooled:
            reach = NORMAL_QUANTILE * float(values.std(ddof=1))
            return self.value - reach, self.value + reach
        low, high = np.quantile(values, [TAIL, 1 - TAIL])
        return float(low), float(high)

    def minus(self, other: Replicates) -> Replicates:
        """Of the difference of two runs on the same clips."""
        if len(self.values) != len(other.values):
            raise ValueError(f"expected replicates of the same clips, found {len(self.values)} and {len(other.values)}")
        return Replicates(self.value - other.value, self.values - other.values, self.pooled)


def draws(num_clips: int, resamples: int, seed: int) -> np.ndarray:
    """Positions of the drawn clips, int (resample, clip)."""
    return np.random.default_rng([seed, num_clips]).integers(num_clips, size=(resamples, num_clips))


def of_average(values: np.ndarray, weights: np.ndarray, seed: int) -> Replicates:
    """Of a weighted mean over clips; clips whose value is NaN are drawn, but do not count."""
    counts = np.isfinite(values)
    products, weights = np.where(counts, values * weights, 0.0), np.where(counts, weights, 0.0)
    value = products.sum() / weights.sum() if counts.any() else math.nan
    if len(values) < 2:
        return Replicates(value, np.empty(0), pooled=False)
    chosen = draws(len(values), RESAMPLES, seed)
    with np.errstate(invalid="ignore"):  # a draw of nothing but clips that do not count has no mean
        return Replicates(value, products[chosen].sum(axis=1) / weights[chosen].sum(axis=1), pooled=False)


def of_data_set(score: Callable[[np.ndarray], float], num_clips: int, resamples: int, seed: int) -> Replicates:
    """Of a metric of a data set: ``score`` takes positions of clips, one may come several times."""
    value = score(np.arange(num_clips))
    rows = draws(num_clips, resamples, seed) if num_clips > 1 else np.empty((0, num_clips), int)
    return Replicates(value, np.array([score(row) for row in rows]), pooled=True)
