"""RPCC, TLCC, WTLCC and STS against other people's programs, scipy, and motion whose relation is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

from stages.evaluate.metrics import synchrony
from stages.evaluate.metrics.correlation import lagged, pearson
from tests.labs.evaluation import PARTS, golden_clips, golden_scores, part_of, wandering


@pytest.mark.shared
@pytest.mark.parametrize("part", PARTS)
def test_rpcc_and_sts_are_those_of_the_published_programs(part: str, shared: Path) -> None:
    golden, stored = golden_scores(shared), golden_clips(shared)
    predicted, reference, speaker = part_of(stored, part)
    rpcc, sts = golden["rpcc"][part], golden["sts"][part]
    assert synchrony.residual_correlation(predicted, reference, speaker) == pytest.approx(rpcc["rpcc"], rel=1e-9)
    for listener, key in ((reference, "lml_calc_pearson_gt"), (predicted, "lml_calc_pearson_pred")):
        found = [synchrony.correlation_of_dimensions(*pair) for pair in zip(listener, speaker, strict=True)]
        assert found == pytest.approx(rpcc[key], rel=1e-6)
    found = [synchrony.short_time_distance(*pair) for pair in zip(predicted, reference, strict=True)]
    assert found == pytest.approx(sts["per_clip"], rel=1e-9)
    whole = synchrony.short_time_distance_concatenated(predicted, reference)
    assert whole == pytest.approx(sts["concatenated"], rel=1e-9)


@pytest.mark.shared
@pytest.mark.parametrize("part", PARTS)
def test_lag_curves_are_those_of_react(part: str, shared: Path) -> None:
    golden, stored = golden_scores(shared), golden_clips(shared)
    predicted, reference, speaker = part_of(stored, part)
    compared = 0
    for clip, expected in enumerate(golden["tlcc_react"][part]):
        for key, values in expected.items():
            who, _, rate = key.split("_")
            listener = (reference if who == "gt" else predicted)[clip]
            max_lag = 2 * int(rate.removesuffix("fps")) - 1
            if values is None:
                with pytest.raises(ValueError, match=f"found {len(listener)}"):
                    synchrony.lag_curve(listener, speaker[clip], max_lag)
                continue
            curve = synchrony.lag_curve(listener, speaker[clip], max_lag)
            assert (curve.max(), curve[max_lag]) == pytest.approx((values["peak"], values["center"]), abs=1e-5)
            assert synchrony.peak_lag(listener, speaker[clip], max_lag) == abs(values["offset"])
            compared += 1
    assert compared == 14


@pytest.mark.shared
def test_the_mean_peak_lag_is_that_of_react_and_single_lags_those_of_pandas(shared: Path) -> None:
    golden, stored = golden_scores(shared), golden_clips(shared)
    expected = golden["tlcc_react_compute_TLCC_all56"]
    for who in ("pred", "gt"):
        pairs = zip(stored[who], stored["spk"], strict=True)
        found = [synchrony.peak_lag(listener[:60], speaker[:60], 49) for listener, speaker in pairs]
        assert np.mean(found) == expected[who]
    found = lagged(stored["gt"][2][:, 0], stored["spk"][2][:, 0], 30)
    np.testing.assert_allclose(found, golden["lml_crosscorr_gt2_dim0_vs_spk2_dim0_lags_m30_to_30"], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), num_frames=st.integers(12, 60), lag=st.integers(-9, 9))
def test_any_lag_has_the_r_of_scipy(seed: int, num_frames: int, lag: int) -> None:
    listener, speaker = 5 + np.random.default_rng(seed).standard_normal((2, num_frames))
    ahead, behind = max(lag, 0), max(-lag, 0)
    expected = pearsonr(listener[ahead : num_frames - behind], speaker[behind : num_frames - ahead])
    assert lagged(listener, speaker, 9)[9 + lag] == pytest.approx(expected.statistic, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), delay=st.integers(-40, 40), gain=st.floats(0.1, 10))
def test_a_listener_who_repeats_the_speaker_is_found_at_his_delay(seed: int, delay: int, gain: float) -> None:
    motion = wandering(np.random.default_rng(seed), 300, 8)
    speaker, listener = motion[50:250], gain * motion[50 - delay : 250 - delay] + 3
    curve = synchrony.lag_curve(listener, speaker, synchrony.TLCC_LAGS_FRAMES)
    assert curve.argmax() - synchrony.TLCC_LAGS_FRAMES == delay
    assert curve.max() == pytest.approx(1) and synchrony.peak_lag(listener, speaker, 59) == abs(delay)
    assert synchrony.windowed_peak(listener, speaker) == pytest.approx(1)


def test_who_does_not_move_correlates_with_nothing() -> None:
    speaker = wandering(np.random.default_rng(0), 130, 4)
    still = np.full_like(speaker, 0.1)  # its mean is not exactly 0.1
    assert not pearson(still, speaker).any() and not synchrony.lag_curve(still, speaker, 20).any()
    assert synchrony.windowed_peak(still, speaker) == 0
    rpcc = synchrony.residual_correlation_of_dimensions(still, 2 * speaker, speaker)
    assert rpcc == pytest.approx(1)


def test_windows_leave_out_the_rest_and_average_what_they_find() -> None:
    rng = np.random.default_rng(1)
    speaker = wandering(rng, 300, 3)
    listener = np.concatenate([speaker[:120], wandering(rng, 180, 3)])
    curves = synchrony.window_curves(listener, speaker)
    assert curves.shape == (2 * synchrony.WINDOW_LAGS_FRAMES + 1, 2)
    second = synchrony.lag_curve(listener[120:240], speaker[120:240], synchrony.WINDOW_LAGS_FRAMES)
    np.testing.assert_allclose(curves[:, 1], second, atol=1e-9)
    assert synchrony.windowed_peak(listener, speaker) == pytest.approx((1 + second.max()) / 2)
    own = synchrony.lag_curve(speaker[120:240], speaker[120:240], synchrony.WINDOW_LAGS_FRAMES)
    difference = np.abs(second - own).mean() / 2  # the first window has none
    assert synchrony.windowed_difference(listener, speaker, speaker) == pytest.approx(difference)
    with pytest.raises(ValueError, match="120 frames, found 119"):
        synchrony.window_curves(speaker[:119], speaker[:119])


@settings(max_examples=20, deadline=None)
@given(num_frames=st.integers(2, 50), step=st.floats(-2, 2), shift=st.floats(-5, 5))
def test_a_steady_drift_has_a_known_sts_and_a_shift_has_none(num_frames: int, step: float, shift: float) -> None:
    reference = np.random.default_rng(0).standard_normal((num_frames, 2))
    drift = step * np.arange(num_frames)[:, None] * [1, 0]
    expected = abs(step) * np.sqrt((num_frames - 1) / synchrony.STS_STEP_S)
    assert synchrony.short_time_distance(reference + drift, reference) == pytest.approx(expected, abs=1e-6)
    assert synchrony.short_time_distance(reference + shift, reference) == pytest.approx(0, abs=1e-6)


def test_the_jump_between_clips_counts_in_the_published_sts_only() -> None:
    first, second = np.zeros((5, 1)), np.zeros((5, 1))
    predicted = [first, second + 2]
    assert synchrony.short_time_distance_concatenated(predicted, [first, second]) == pytest.approx(2 / np.sqrt(0.1))
    assert [synchrony.short_time_distance(*pair) for pair in zip(predicted, [first, second], strict=True)] == [0, 0]
