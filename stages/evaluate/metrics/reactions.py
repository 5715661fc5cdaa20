"""Reactions: how the REACT challenges score listeners, here on coefficients (FRCorr, FRDist, FRDiv, FRVar, FRDvs).

Conventions: Coefficients are (frame, dimension), several samples of them (frame, sample, dimension). REACT compares 25
facial attributes with all reactions that its organisers found appropriate; a clip here has one truth, and dimensions
count alike. FRSyn is ``tlcc_*_react`` in `stages.evaluate.metrics.synchrony`; FRRea needs a network and is not here.

Source: Song et al., "REACT 2023" (MM 2023) and "REACT 2024" (FG 2024), section on metrics; ``metric/FRC.py``,
``FRD.py``, ``S_MSE.py``, ``FRVar.py`` and ``FRDvs.py`` of reactmultimodalchallenge/baseline_react2023, which were read
but not run: the tests compare with calculations of their own after these files. CCC: Lin, Biometrics 1989. DTW: Sakoe
and Chiba, IEEE TASSP 1978.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from scipy.spatial.distance import cdist

from stages.evaluate.metrics.correlation import pearson
from stages.evaluate.metrics.definition import Definition, Direction, Pooling, Quantity
from stages.evaluate.metrics.validation import check, check_pair
from stages.evaluate.metrics.variety import validate

CCC_FLOOR = 1e-8  # added to the denominator, as published


def concordance(predicted: np.ndarray, reference: np.ndarray) -> float:
    """FRCorr of one sample: mean over dimensions of ``2 cov / (var + var + (difference of means)^2)`` along time."""
    check_pair(predicted, reference, ndim=2)
    one, other = predicted.astype(np.float64), reference.astype(np.float64)
    covariance = pearson(one, other) * one.std(axis=0) * other.std(axis=0)
    apart = np.square(one.mean(axis=0) - other.mean(axis=0))
    return float((2 * covariance / (one.var(axis=0) + other.var(axis=0) + apart + CCC_FLOOR)).mean())


def warped_distance(predicted: np.ndarray, reference: np.ndarray) -> float:
    """FRDist: the least root of summed squared distances of frames, each set beside one or more of the other's, a
    dimension."""
    check_pair(predicted, reference, ndim=2)
    return dynamic_time_warping(predicted, reference) / predicted.shape[1]


def dynamic_time_warping(first: np.ndarray, second: np.ndarray) -> float:
    """Root of the least sum of squared distances of frames along a path from the first pair to the last.

    Cells of one diagonal do not depend on each other: a step of the loop takes them all.
    """
    cost = cdist(first.astype(np.float64), second.astype(np.float64), "sqeuclidean")
    rows, columns = cost.shape
    before, last = (np.full(rows + 1, np.inf) for _ in range(2))  # by row + 1, of the two diagonals before
    before[0] = 0.0  # from outside to the first cell
    for diagonal in range(rows + columns - 1):
        row = np.arange(max(0, diagonal - columns + 1), min(rows, diagonal + 1))
        found = np.full(rows + 1, np.inf)
        found[row + 1] = cost[row, diagonal - row] + np.minimum(np.minimum(last[row], last[row + 1]), before[row])
        before, last = last, found
    return float(np.sqrt(last[rows]))


def unbiased_variance(clip: np.ndarray) -> float:
    """FRVar: variance along time, with one degree of freedom less than frames, mean over dimensions."""
    check(clip, ndim=2)
    return float(clip.astype(np.float64).var(axis=0, ddof=1).mean())


def distance_of_samples(samples: np.ndarray) -> float:
    """FRDiv (S-MSE): mean squared difference of two samples (frame, sample, dimension) of one clip, over all pairs."""
    check(samples, ndim=3)
    return float(2 * samples.astype(np.float64).var(axis=1, ddof=1).mean())  # of pairs: twice the variance


def distance_of_clips(predicted: Sequence[np.ndarray]) -> float:
    """FRDvs: mean squared difference of the answers to two speakers, frame by frame, over all pairs of clips.

    REACT's clips are equally long; others are cut to the shortest. NaN for a single clip.
    """
    validate(predicted)
    if len(predicted) < 2:
        return math.nan
    shortest = min(map(len, predicted))
    answers = np.stack([clip[:shortest].astype(np.float64) for clip in predicted])
    return float(2 * answers.var(axis=0, ddof=1).mean())


_REACT = "reactmultimodalchallenge/baseline_react2023"
_OTHERS = "REACT's are of 25 facial attributes and of the best of several appropriate reactions"
_VARIES = "noise varies too: compare with the reference's own value"


def _of(quantity: Quantity, samples: Quantity) -> Iterator[Definition]:
    of_clips = partial(Definition, scale=1.0, pooling=Pooling.CLIPS, min_frames=2, perfect=None)
    yield of_clips(
        id=f"frcorr_{quantity}_react",
        name=f"FRCorr {quantity} (one truth)",
        formula=f"concordance correlation with the reference, mean over dimensions of {quantity}, mean over clips",
        source=f"REACT 2023 and 2024; metric/FRC.py of {_REACT}",
        direction=Direction.HIGHER,
        inputs=quantity.pair,
        function=concordance,
        warning=f"{_OTHERS}, and FRC.py adds up ten samples where this is their mean",
    )
    yield of_clips(
        id=f"frdist_{quantity}_react",
        name=f"FRDist {quantity} (one truth)",
        formula=f"distance of {quantity} from the reference after dynamic time warping, by the number of dimensions, "
        "mean over clips",
        source=f"REACT 2023 and 2024; metric/FRD.py of {_REACT}",
        direction=Direction.LOWER,
        inputs=quantity.pair,
        function=warped_distance,
        warning=f"{_OTHERS}; grows with the root of the frames",
    )
    yield of_clips(
        id=f"frdiv_{quantity}_react",
        name=f"FRDiv {quantity}",
        formula=f"mean squared difference of two samples of {quantity} for one clip, over all pairs, mean over clips",
        source=f"REACT 2023 and 2024; metric/S_MSE.py of {_REACT}",
        direction=Direction.HIGHER,
        inputs=(samples.predicted,),
        function=distance_of_samples,
        warning="noise differs too, and there is one truth a clip to compare with, which has none",
    )
    yield of_clips(
        id=f"frvar_{quantity}_react",
        name=f"FRVar {quantity}",
        formula=f"variance of {quantity} along time, of one degree of freedom less than frames, mean over dimensions, "
        "mean over clips",
        source=f"REACT 2023 and 2024; metric/FRVar.py of {_REACT}",
        direction=Direction.HIGHER,
        inputs=(quantity.predicted,),
        function=unbiased_variance,
        warning=_VARIES,
    )
    yield of_clips(
        id=f"frdvs_{quantity}_react",
        name=f"FRDvs {quantity}",
        formula=f"mean squared difference of {quantity} between two clips, frame by frame, over all pairs; cut to the "
        "shortest",
        source=f"REACT 2023 and 2024; metric/FRDvs.py of {_REACT}",
        pooling=Pooling.DATA_SET,
        direction=Direction.HIGHER,
        inputs=(quantity.predicted,),
        function=distance_of_clips,
        warning=_VARIES,
    )


DEFINITIONS = (*_of(Quantity.EXP, Quantity.EXP_SAMPLES), *_of(Quantity.POSE, Quantity.POSE_SAMPLES))
