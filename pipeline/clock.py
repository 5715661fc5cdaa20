"""The frame clock: the one place where time is converted, in rational arithmetic.

A clip's grid frame k stands for the instant ``start + k/30`` seconds of its source, where 0 is the start of the
source's container timeline. Audio sample n stands for ``start + n/44100``. Nothing else in the project multiplies or
divides by the clips' frame rate: it asks `frames_in` and `seconds_of` (tests/pipeline/test_clock_lint.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeVar

import numpy as np

FPS = 30  # frames per second of every clip
SAMPLE_RATE_HZ = 44_100  # audio samples per second of every clip


def exact_div(dividend: int, divisor: int) -> int:
    """The quotient of two whole numbers that must divide without rest."""
    assert dividend % divisor == 0, f"{dividend} is no multiple of {divisor}"
    return dividend // divisor


HOP_SAMPLES = exact_div(SAMPLE_RATE_HZ, FPS)  # 1470 samples = one video frame
_Time = TypeVar("_Time", int, Fraction, float)


def frames_in(seconds: _Time) -> _Time:
    """A duration in frames, as exact as it is given and not rounded."""
    return seconds * FPS


def whole_frames(seconds: Fraction) -> int:
    """The whole number of frames nearest to a duration; half a frame counts as one."""
    doubled, parts = 2 * frames_in(seconds.numerator), seconds.denominator  # in whole numbers: fractions are slow
    return (doubled + parts) // (2 * parts)


def seconds_of(frames: int) -> Fraction:
    """How long so many frames last, exactly."""
    return Fraction(frames, FPS)


def frames_at(num_frames: int, fps: int) -> np.ndarray:
    """The frame of a clip that each frame of another clock shows, int32 (frame at ``fps``,).

    The rule of `map_to_grid`: the one nearest in time, of two equally near ones the earlier; the clip's duration in
    frames at ``fps`` is rounded half up, and is one frame at least.
    """
    count = max((2 * num_frames * fps + FPS) // (2 * FPS), 1)
    nearest = -((fps - 2 * FPS * np.arange(count)) // (2 * fps))  # ceil(k * FPS / fps - 1/2)
    return nearest.clip(0, num_frames - 1).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Span:
    """A span of a source in exact seconds, on the 30 fps grid."""

    start_s: Fraction
    end_s: Fraction
    num_frames: int = field(init=False, compare=False, repr=False)  # its duration times 30, rounded half up

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_frames", whole_frames(self.end_s - self.start_s))

    @property
    def num_samples(self) -> int:
        """Audio samples of the clip: exactly 1470 a frame."""
        return self.num_frames * HOP_SAMPLES

    def frame_time(self, frame: int) -> Fraction:
        """Time in the source of a grid frame, in seconds."""
        return self.start_s + seconds_of(frame)


def grid_times_s(num_frames: int) -> np.ndarray:
    """The instants of a clip's frames in seconds from its start, float64 (frame,), for what has no grid of its own."""
    return np.arange(num_frames) / FPS


@dataclass(frozen=True, eq=False)
class VideoTimes:
    """When the frames of a source are shown."""

    pts: np.ndarray  # int64 (source_frame,), rising presentation timestamps in units of `time_base`
    time_base: Fraction  # seconds a tick
    origin_s: Fraction  # where the source's container timeline begins on the clock of `pts`, in seconds

    def time_s(self, source_frame: int) -> Fraction:
        """Time in the source, in seconds, at which a source frame appears."""
        return int(self.pts[source_frame]) * self.time_base - self.origin_s


@dataclass(frozen=True, eq=False)
class GridMap:
    """The source frame that each frame of a clip's grid shows."""

    source_frame: np.ndarray  # int32 (frame,), index into `VideoTimes.pts`
    pts: np.ndarray  # int64 (frame,), presentation timestamps of those source frames
    before_s: Fraction  # how long the grid's first instant lies before the first source frame; 0 or less is inside
    after_s: Fraction  # how long the grid's last instant lies after the appearance of the last source frame
    largest_gap_s: Fraction  # longest time between two neighbouring source frames that the grid touches


def map_to_grid(span: Span, times: VideoTimes) -> GridMap:
    """The source frame nearest in time to every grid frame; of two equally near ones the earlier.

    Exact: a source frame i + 1 is nearer than i to an instant x exactly if ``pts[i] + pts[i + 1] < 2x``, and since the
    left side is whole, 2x may be rounded up to a whole number of ticks in rational arithmetic first.
    """
    instants = [(span.frame_time(k) + times.origin_s) / times.time_base for k in range(span.num_frames)]  # ticks
    doubled = np.array([math.ceil(2 * x) for x in instants], dtype=np.int64)
    source_frame = np.searchsorted(times.pts[:-1] + times.pts[1:], doubled, side="left").astype(np.int32)
    first = np.searchsorted(times.pts, math.floor(instants[0]), side="right") - 1  # last one not after the grid's start
    last = np.searchsorted(times.pts, math.ceil(instants[-1]), side="left")  # first one not before the grid's end
    gap = int(np.diff(times.pts[max(first, 0) : last + 1]).max(initial=0))
    return GridMap(
        source_frame=source_frame,
        pts=times.pts[source_frame],
        before_s=times.time_s(0) - span.frame_time(0),
        after_s=span.frame_time(span.num_frames - 1) - times.time_s(-1),
        largest_gap_s=gap * times.time_base,
    )


def runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """First frame of every run of True in a mask (frame,), and the frame after its last."""
    steps = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return [(int(first), int(stop)) for first, stop in steps.reshape(-1, 2)]
