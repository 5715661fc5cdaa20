"""Blink metrics on blinks made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.evaluate.metrics import blinks
from stages.evaluate.metrics.definition import Direction, Quantity
from stages.evaluate.metrics.registry import definitions

PREDICTED, REFERENCE = Quantity.BLINK.pair
CLIP_FRAMES = 240  # two windows


def closed(*runs: tuple[int, int], num_frames: int = CLIP_FRAMES) -> np.ndarray:
    """Eyes that are closed in runs of first frame and number of frames."""
    mask = np.zeros(num_frames, bool)
    for first, count in runs:
        mask[first : first + count] = True
    return mask


def test_rate_duration_and_share_are_counted() -> None:
    clips = [closed((10, 4), (100, 6)), closed((0, 5), num_frames=60)]  # the second begins with closed eyes
    assert blinks.rate_a_minute(clips) == pytest.approx(3 / (300 / 30 / 60))
    assert blinks.mean_duration_s(clips) == pytest.approx(5 / 30)
    assert blinks.closed_share(clips) == pytest.approx(15 / 300)
    np.testing.assert_array_equal(blinks.durations_frames(clips[0]), [4, 6])


def test_who_never_blinks_has_a_rate_but_no_duration() -> None:
    clips = [closed()]
    assert blinks.rate_a_minute(clips) == 0 and math.isnan(blinks.mean_duration_s(clips))


@settings(max_examples=25, deadline=None)
@given(first=st.integers(20, 90), count=st.integers(1, 8), late=st.integers(-12, 12))
def test_a_blink_is_found_again_half_a_second_away(first: int, count: int, late: int) -> None:
    reference, predicted = closed((first, count)), closed((first + late, count))
    assert blinks.windowed_peak(predicted, reference) == pytest.approx(1)


def test_a_blink_that_comes_much_later_is_not_the_same_one() -> None:
    assert blinks.windowed_peak(closed((80, 5)), closed((20, 5))) < 0.1


def test_a_window_in_which_only_one_blinks_counts_as_nothing_found() -> None:
    both, once = closed((30, 5), (150, 5)), closed((30, 5))
    assert blinks.windowed_peak(once, both) == pytest.approx(0.5)
    assert blinks.windowed_peak(both, once) == pytest.approx(0.5)
    assert blinks.windowed_peak(closed(), both) == 0


def test_clips_without_a_blink_do_not_count() -> None:
    metric = definitions()["blink_wtlcc_4s"]
    still = {PREDICTED: closed(), REFERENCE: closed()}
    same = {PREDICTED: closed((50, 4)), REFERENCE: closed((50, 4))}
    assert math.isnan(metric.clip_score(still))
    assert metric.score([still, same]) == pytest.approx(1)


def test_more_blinking_is_not_better_but_closer_is() -> None:
    rate = definitions()["blink_rate"]
    assert rate.direction is Direction.REFERENCE
    clip = {PREDICTED: closed((0, 3), (20, 3)), REFERENCE: closed((40, 3))}
    assert rate.score([clip]) == 2 * rate.of_reference().score([clip])


def test_anything_but_truth_values_is_refused() -> None:
    with pytest.raises(ValueError, match="expected bool"):
        blinks.closed_share([np.zeros(10)])
