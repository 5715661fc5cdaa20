"""Synchrony: how a listener moves with the speaker (RPCC, TLCC, WTLCC) and in step with the reference (STS).

Conventions: Coefficients are (frame, dimension) at 30 fps; listener and speaker are of the same clip and length. A
dimension that does not change correlates with nothing: r = 0.

Source: Song et al., ICCV 2023 (ELP), section 4.1. RPCC and STS: ``mymetrics.py`` and ``eval_utils.py`` of
Boese0601/Dyadic-Interaction-Modeling; RPCC of single dimensions: ``evaluate_listener.py`` of sanjayss34/lm-listener.
TLCC: ``TLCC.py`` of reactmultimodalchallenge/baseline_react2023. STS: Moeller-Levet et al., IDA 2003. WTLCC: Boker et
al., Psychological Methods 2002; ELP's window is 4 s, its lags and its step are not published.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from pipeline.clock import frames_in
from stages.evaluate.metrics.correlation import lagged, pearson
from stages.evaluate.metrics.definition import Definition, Direction, Pooling, Quantity
from stages.evaluate.metrics.validation import check_pair, check_sets

Clips = Sequence[np.ndarray]
STS_STEP_S = 0.1  # dt of the published code, whatever the frame rate
TLCC_LAGS_FRAMES = frames_in(2) - 1  # lags of less than 2 s
WINDOW_FRAMES = frames_in(4)
WINDOW_LAGS_FRAMES = WINDOW_FRAMES // 2  # our choice: so that at least half of a window overlaps


def residual_correlation(predicted: Clips, reference: Clips, speaker: Clips) -> float:
    """RPCC: difference of the listeners' r with the speaker, all clips, frames and dimensions as one sequence."""
    check_sets(predicted, reference)
    check_sets(reference, speaker)
    flat = [np.concatenate([clip.ravel() for clip in clips]) for clips in (predicted, reference, speaker)]
    return float(abs(pearson(flat[1], flat[2]) - pearson(flat[0], flat[2])))


def correlation_of_dimensions(listener: np.ndarray, speaker: np.ndarray) -> float:
    """Absolute value of the mean over dimensions of r, in one clip."""
    check_pair(listener, speaker, ndim=2)
    return float(abs(pearson(listener, speaker).mean()))


def residual_correlation_of_dimensions(predicted: np.ndarray, reference: np.ndarray, speaker: np.ndarray) -> float:
    """RPCC of one clip: difference of the listeners' `correlation_of_dimensions` with the speaker."""
    return abs(correlation_of_dimensions(reference, speaker) - correlation_of_dimensions(predicted, speaker))


def lag_curve(listener: np.ndarray, speaker: np.ndarray, max_lag_frames: int) -> np.ndarray:
    """r at every lag, mean over dimensions, (2 max_lag_frames + 1,); lag > 0: the listener follows the speaker."""
    check_pair(listener, speaker, ndim=2)
    if len(listener) < max_lag_frames + 2:
        raise ValueError(f"lags of {max_lag_frames} need {max_lag_frames + 2} frames, found {len(listener)}")
    return lagged(listener, speaker, max_lag_frames).mean(axis=-1)


def peak_lag(listener: np.ndarray, speaker: np.ndarray, max_lag_frames: int) -> float:
    """TLCC: distance from 0, in frames, of the lag at which the curve is highest."""
    return float(abs(int(lag_curve(listener, speaker, max_lag_frames).argmax()) - max_lag_frames))


def window_curves(listener: np.ndarray, speaker: np.ndarray) -> np.ndarray:
    """WTLCC: lag curves (lag, window) of windows of 4 s, one after the other; the rest of the clip is left out."""
    check_pair(listener, speaker, ndim=2)
    if len(listener) < WINDOW_FRAMES:
        raise ValueError(f"windows of 4 s need {WINDOW_FRAMES} frames, found {len(listener)}")
    return lagged(_windows(listener), _windows(speaker), WINDOW_LAGS_FRAMES).mean(axis=-1)


def _windows(motion: np.ndarray) -> np.ndarray:
    """(frame of a window, window, dimension)."""
    count = len(motion) // WINDOW_FRAMES
    return motion[: count * WINDOW_FRAMES].reshape(count, WINDOW_FRAMES, -1).swapaxes(0, 1)


def windowed_peak(listener: np.ndarray, speaker: np.ndarray) -> float:
    """WTLCC of one clip: mean over windows of the highest r of all lags."""
    return float(window_curves(listener, speaker).max(axis=0).mean())


def windowed_difference(predicted: np.ndarray, reference: np.ndarray, speaker: np.ndarray) -> float:
    """WTLCC in the words of ELP: mean absolute difference of the two listeners' curves with the speaker."""
    return float(np.abs(window_curves(predicted, speaker) - window_curves(reference, speaker)).mean())


def short_time_distance(predicted: np.ndarray, reference: np.ndarray) -> float:
    """STS of one sequence: ``sqrt(sum (change of predicted - change of reference)^2 / dt)`` over frames, dimensions."""
    check_pair(predicted, reference, ndim=2)
    apart = np.diff(predicted.astype(np.float64) - reference, axis=0)
    return float(np.sqrt(np.square(apart).sum() / STS_STEP_S))


def short_time_distance_concatenated(predicted: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """STS of all clips one after the other: the jumps from clip to clip count, as in the published code."""
    check_sets(predicted, reference)
    return short_time_distance(np.concatenate(predicted), np.concatenate(reference))


_DIM = "Boese0601/Dyadic-Interaction-Modeling"
_ELP = "Song et al., ICCV 2023 (ELP), section 4.1"
_GROWS = "grows with the square root of frames times dimensions: compare only the same frames"


_distance_of = partial(Definition, scale=1.0, direction=Direction.LOWER, min_frames=2, perfect=0.0)


def _residual_correlations(quantity: Quantity) -> Iterator[Definition]:
    rpcc = partial(_distance_of, inputs=(*quantity.pair, quantity.speaker))
    yield rpcc(
        id=f"rpcc_{quantity}_flat",
        name=f"RPCC {quantity} (flat)",
        published_as=f"RPCC of {_DIM}",
        formula=f"|r(reference, speaker) - r(predicted, speaker)| of {quantity}; clips, frames, dimensions in one row",
        source=f"{_ELP}; mymetrics.py of {_DIM}",
        pooling=Pooling.DATA_SET,
        function=residual_correlation,
        warning="r of one row also sees that dimensions have different means",
    )
    yield rpcc(
        id=f"rpcc_{quantity}_per_dimension",
        name=f"RPCC {quantity} (per dimension)",
        formula=f"difference of |mean over dimensions of r| with the speaker of {quantity}, mean over clips",
        source=f"{_ELP}; calc_pearson of sanjayss34/lm-listener",
        pooling=Pooling.CLIPS,
        function=residual_correlation_of_dimensions,
    )


def _lagged_correlations(quantity: Quantity) -> Iterator[Definition]:
    following = partial(Definition, scale=1.0, pooling=Pooling.CLIPS, direction=Direction.REFERENCE, perfect=None)
    following = partial(following, inputs=(quantity.predicted, quantity.speaker))
    yield following(
        id=f"tlcc_{quantity}_react",
        name=f"TLCC {quantity} (REACT)",
        published_as="TLCC (FRSyn) of REACT 2023, there at 25 fps",
        formula=f"|lag| of the highest r with the speaker, mean over dimensions of {quantity}, lags below 2 s",
        source="TLCC.py of reactmultimodalchallenge/baseline_react2023",
        unit="frames",
        min_frames=TLCC_LAGS_FRAMES + 2,
        function=partial(peak_lag, max_lag_frames=TLCC_LAGS_FRAMES),
        warning="REACT ranks lower as better: a listener that copies the speaker at once has 0",
    )
    peak = following(
        id=f"wtlcc_{quantity}_4s_peak",
        name=f"WTLCC {quantity} (peak)",
        published_as="WTLCC, ELP Table 1",
        formula=f"highest r with the speaker at lags up to 2 s, mean over dimensions of {quantity}, mean over windows "
        "of 4 s, mean over clips",
        source=f"{_ELP}; Boker et al., Psychological Methods 2002",
        min_frames=WINDOW_FRAMES,
        function=windowed_peak,
        warning="lags, step and summary are ours: the paper publishes only the window",
    )
    yield peak
    yield replace(
        peak,
        id=f"wtlcc_{quantity}_4s_l1",
        name=f"WTLCC {quantity} (L1)",
        formula=f"mean |difference| of the curves of r over lags up to 2 s of {quantity}, windows of 4 s",
        direction=Direction.LOWER,
        inputs=(*quantity.pair, quantity.speaker),
        function=windowed_difference,
        perfect=0.0,
        warning=f"{peak.warning}; ELP describes a difference but prints raw values",
    )


def _short_time_distances(quantity: Quantity) -> Iterator[Definition]:
    changes = f"sqrt(sum of squared differences of the changes from frame to frame of {quantity} / 0.1 s)"
    sts = partial(_distance_of, source=f"Moeller-Levet et al., IDA 2003; eval_utils.py of {_DIM}", inputs=quantity.pair)
    yield sts(
        id=f"sts_{quantity}_concatenated",
        name=f"STS {quantity} (concatenated)",
        published_as=f"STS of {_DIM}",
        formula=f"{changes}, all clips one after the other",
        pooling=Pooling.DATA_SET,
        function=short_time_distance_concatenated,
        warning=f"{_GROWS}; the jumps between clips count",
    )
    yield sts(
        id=f"sts_{quantity}_per_clip",
        name=f"STS {quantity} (per clip)",
        formula=f"{changes}, mean over clips",
        pooling=Pooling.CLIPS,
        function=short_time_distance,
        warning=_GROWS,
    )


DEFINITIONS = tuple(
    definition
    for quantity in (Quantity.EXP, Quantity.POSE)
    for family in (_residual_correlations, _lagged_correlations, _short_time_distances)
    for definition in family(quantity)
)
