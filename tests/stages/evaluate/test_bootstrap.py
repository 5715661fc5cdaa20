"""The bootstrap over clips: intervals that are right as often as they say, paired draws, weights by frames."""

from __future__ import annotations

import numpy as np
import pytest

from stages.evaluate import bootstrap

CLIPS = 40


def test_95_of_100_intervals_of_an_average_hold_the_mean_of_the_population() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(400):
        values = rng.exponential(2.0, CLIPS)  # skewed, as distances are
        low, high = bootstrap.of_average(values, np.ones(CLIPS), seed=trial).interval()
        held += low <= 2.0 <= high
    assert 0.89 <= held / 400 <= 0.98


def test_95_of_100_intervals_of_a_data_set_hold_the_value_of_the_population() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(300):
        clips = rng.normal(size=(CLIPS, 1)) + rng.normal(size=(CLIPS, 20))  # variance 2; a clip's frames are alike
        found = bootstrap.of_data_set(lambda at, c=clips: c[at].var(), CLIPS, bootstrap.POOLED_RESAMPLES, seed=trial)
        low, high = found.interval()
        held += low <= 2.0 <= high
    assert 0.86 <= held / 300 <= 0.98


def test_the_interval_of_an_average_is_as_wide_as_the_standard_error_says() -> None:
    values = np.random.default_rng(2).normal(size=1000)
    low, high = bootstrap.of_average(values, np.ones(1000), seed=0).interval()
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(1000), rel=0.1)


def test_a_clip_counts_by_its_frames() -> None:
    found = bootstrap.of_average(np.array([1.0, 4.0]), np.array([30.0, 10.0]), seed=0)
    assert found.value == pytest.approx(1.75)
    assert {round(value, 6) for value in found.values} == {1.0, 1.75, 4.0}  # both first, one each, both second


def test_a_clip_without_a_value_does_not_count() -> None:
    values = np.array([1.0, np.nan, 3.0])
    assert bootstrap.of_average(values, np.ones(3), seed=0).value == 2.0
    assert np.nanmax(bootstrap.of_average(values, np.ones(3), seed=0).values) <= 3.0


def test_one_clip_has_no_interval() -> None:
    assert np.isnan(bootstrap.of_average(np.array([1.0]), np.ones(1), seed=0).interval()).all()
    assert np.isnan(bootstrap.of_data_set(lambda drawn: 1.0, 1, 50, seed=0).interval()).all()


def test_runs_that_differ_by_a_constant_differ_by_it_in_every_draw() -> None:
    values = np.random.default_rng(3).exponential(5.0, CLIPS)
    first = bootstrap.of_average(values + 0.1, np.ones(CLIPS), seed=7)
    second = bootstrap.of_average(values, np.ones(CLIPS), seed=7)
    low, high = first.minus(second).interval()
    assert low == pytest.approx(0.1) and high == pytest.approx(0.1)
    assert second.interval()[1] - second.interval()[0] > 1  # alone, neither is known that well


def test_the_same_seed_draws_the_same() -> None:
    assert (bootstrap.draws(9, 5, seed=1) == bootstrap.draws(9, 5, seed=1)).all()
    assert (bootstrap.draws(9, 5, seed=1) != bootstrap.draws(9, 5, seed=2)).any()
