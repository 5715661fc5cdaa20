"""The frame clock against a brute-force search in rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import FPS, HOP_SAMPLES, SAMPLE_RATE_HZ, Span, VideoTimes, exact_div, frames_at, map_to_grid

TICKS_S = [Fraction(1, 90_000), Fraction(1, 1000), Fraction(1, 12_800), Fraction(1001, 30_000), Fraction(1, 25)]

spans = st.builds(
    lambda start_s, frames: Span(start_s, start_s + Fraction(frames, FPS)),
    st.fractions(min_value=-1, max_value=20, max_denominator=10_000),
    st.integers(min_value=1, max_value=40),
)
sources = st.builds(
    lambda ticks, tick_s, origin_s: VideoTimes(np.array(sorted(ticks), dtype=np.int64), tick_s, origin_s),
    st.sets(st.integers(min_value=-1000, max_value=1_000_000), min_size=1, max_size=60),
    st.sampled_from(TICKS_S),
    st.fractions(min_value=-2, max_value=2, max_denominator=90_000),
)


def steady(fps: Fraction, num_frames: int) -> VideoTimes:
    return VideoTimes(np.arange(num_frames, dtype=np.int64), 1 / fps, Fraction(0))


@given(spans, sources)
def test_every_grid_frame_shows_the_nearest_source_frame_and_of_two_the_earlier(span: Span, times: VideoTimes) -> None:
    seconds = [times.time_s(i) for i in range(len(times.pts))]
    instants, numbers = [span.frame_time(k) for k in range(span.num_frames)], range(len(seconds))
    nearest = [min(numbers, key=lambda i, time=time: (abs(seconds[i] - time), i)) for time in instants]
    grid = map_to_grid(span, times)
    assert grid.source_frame.tolist() == nearest
    assert grid.pts.tolist() == times.pts[nearest].tolist()


@given(spans, sources)
def test_gaps_and_ends_are_those_that_the_grid_touches(span: Span, times: VideoTimes) -> None:
    seconds = [times.time_s(i) for i in range(len(times.pts))]
    first, last = span.frame_time(0), span.frame_time(span.num_frames - 1)
    touched = [b - a for a, b in zip(seconds, seconds[1:], strict=False) if b > first and a < last]
    grid = map_to_grid(span, times)
    assert grid.largest_gap_s == max(touched, default=0)
    assert grid.before_s == seconds[0] - first
    assert grid.after_s == last - seconds[-1]


@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "30", "50", "60000/1001"])
@pytest.mark.parametrize("start", ["0", "1/7", "1001/30000", "0.35"])
def test_in_a_steady_source_no_grid_frame_is_further_than_half_a_source_frame(rate: str, start: str) -> None:
    fps, span = Fraction(rate), Span(Fraction(start), Fraction(start) + 60)
    times = steady(fps, 6000)
    grid = map_to_grid(span, times)
    for k in range(span.num_frames):
        assert abs(times.time_s(grid.source_frame[k]) - span.frame_time(k)) <= 1 / (2 * fps)


def test_a_source_at_30_fps_is_taken_frame_by_frame_and_at_29_97_one_is_shown_twice_every_33_seconds() -> None:
    grid = map_to_grid(Span(Fraction(2), Fraction(5)), steady(Fraction(30), 300))
    assert grid.source_frame.tolist() == list(range(60, 150))
    grid = map_to_grid(Span(Fraction(0), Fraction(99)), steady(Fraction(30_000, 1001), 3000))
    assert np.flatnonzero(np.diff(grid.source_frame) == 0).tolist() == [500, 1501, 2502]


@given(st.integers(min_value=1, max_value=40), st.sampled_from([1, 24, 25, 30, 50, 60]))
def test_a_frame_of_another_clock_shows_the_nearest_of_the_clip_and_of_two_the_earlier(count: int, fps: int) -> None:
    times, found = [Fraction(k, FPS) for k in range(count)], frames_at(count, fps)
    assert abs(len(found) - Fraction(count * fps, FPS)) <= Fraction(1, 2) or len(found) == 1
    for k, frame in enumerate(found):
        instant = Fraction(k, fps)
        assert frame == min(range(count), key=lambda i, instant=instant: (abs(times[i] - instant), i))


def test_one_frame_is_exactly_1470_samples() -> None:
    assert HOP_SAMPLES * FPS == SAMPLE_RATE_HZ
    assert Span(Fraction(1, 3), Fraction(1, 3) + 7).num_samples == 7 * SAMPLE_RATE_HZ
    with pytest.raises(AssertionError, match="44100 is no multiple of 29"):
        exact_div(SAMPLE_RATE_HZ, 29)
