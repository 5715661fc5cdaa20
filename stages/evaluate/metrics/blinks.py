"""Blinks: whether a listener blinks when the reference does (blink WTLCC), how often and for how long.

Conventions: A sequence is bool (frame,), True where the eyes are closed, at 30 fps. A run of True is one blink. Where a
number is not defined (no blink has no duration) it is NaN and does not count.

Source: Song et al., "Emotional Listener Portrait", ICCV 2023, section 4.1: WTLCC of generated and real blinks, whose
lags, step and summary are not published. Rate and duration are the usual two statistics of blinking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.clock import frames_in, seconds_of
from stages.evaluate.metrics.correlation import lagged
from stages.evaluate.metrics.definition import Definition, Direction, Pooling, Quantity
from stages.evaluate.metrics.validation import check, check_pair

WINDOW_FRAMES = frames_in(4)
MAX_LAG_FRAMES = frames_in(1) // 2  # our choice; with more, two people's usual rates find each other by chance
SECONDS_A_MINUTE = 60


def validate(blinks: np.ndarray) -> None:
    """A sequence bool (frame,)."""
    check(blinks, ndim=1)
    if blinks.dtype != bool:
        raise ValueError(f"expected bool, closed or not, found {blinks.dtype}")


def windowed_peak(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Blink WTLCC: mean over windows of 4 s of the highest r at lags up to half a second.

    A window counts where one of the two blinks; it has 0 where the other does not. NaN where no window counts.
    """
    validate(predicted)
    validate(reference)
    check_pair(predicted, reference, ndim=1)
    peaks = []
    for start in range(0, len(predicted) - WINDOW_FRAMES + 1, WINDOW_FRAMES):
        first, second = (blinks[start : start + WINDOW_FRAMES] for blinks in (predicted, reference))
        if first.any() or second.any():
            peaks.append(lagged(first.astype(np.float64), second.astype(np.float64), MAX_LAG_FRAMES).max())
    return float(np.mean(peaks)) if peaks else math.nan


def rate_a_minute(clips: Sequence[np.ndarray]) -> float:
    """Blinks begun a minute, over all clips."""
    frames = sum(len(clip) for clip in clips)
    return float(sum(len(durations_frames(clip)) for clip in clips) * SECONDS_A_MINUTE / seconds_of(frames))


def mean_duration_s(clips: Sequence[np.ndarray]) -> float:
    """Mean duration of all blinks of all clips; NaN without a blink."""
    durations = np.concatenate([durations_frames(clip) for clip in clips])
    return float(seconds_of(int(durations.sum())) / len(durations)) if len(durations) else math.nan


def closed_share(clips: Sequence[np.ndarray]) -> float:
    """Share of all frames in which the eyes are closed."""
    for clip in clips:
        validate(clip)
    return float(np.concatenate(clips).mean())


def durations_frames(blinks: np.ndarray) -> np.ndarray:
    """Length of every run of closed eyes, int (blink,)."""
    validate(blinks)
    steps = np.flatnonzero(np.diff(blinks.astype(np.int8), prepend=0, append=0))
    return steps[1::2] - steps[::2]


def _statistic(id: str, name: str, formula: str, unit: str, function: Callable[..., float]) -> Definition:
    return Definition(
        id=id,
        name=name,
        formula=formula,
        source="this project",
        unit=unit,
        scale=1.0,
        pooling=Pooling.DATA_SET,
        direction=Direction.REFERENCE,
        inputs=(Quantity.BLINK.predicted,),
        min_frames=1,
        function=function,
        perfect=None,
    )


DEFINITIONS = (
    Definition(
        id="blink_wtlcc_4s",
        name="Blink WTLCC",
        published_as="WTLCC of blinks, ELP Table 1",
        formula="highest r of predicted and reference blinks at lags up to 0.5 s, mean over windows of 4 s in which "
        "one of them blinks, mean over clips",
        source="Song et al., ICCV 2023 (ELP), section 4.1",
        scale=1.0,
        pooling=Pooling.CLIPS,
        direction=Direction.HIGHER,
        inputs=Quantity.BLINK.pair,
        min_frames=WINDOW_FRAMES,
        function=windowed_peak,
        perfect=1.0,
        warning="lags, step and summary are ours: the paper publishes none",
    ),
    _statistic("blink_rate", "Blink rate", "blinks begun a minute, all clips together", "1/min", rate_a_minute),
    _statistic("blink_duration", "Blink duration", "mean duration of all blinks", "s", mean_duration_s),
    _statistic("blink_closed_share", "Eyes closed", "share of frames with closed eyes", "", closed_share),
)
