"""Frechet distances against other people's programs, closed forms and the bias of small samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.evaluate.metrics import frechet
from stages.evaluate.metrics.frechet import frechet_distance, frechet_of_clip, frechet_pooled, newton_schulz_root
from stages.evaluate.metrics.validation import MismatchError
from tests.labs.evaluation import PARTS, golden_clips, golden_scores, part_of

POSE, EXP, ALL, ANGLE, TRANS = slice(0, 6), slice(6, 56), slice(0, 56), slice(0, 3), slice(3, 6)
Pair = tuple[np.ndarray, np.ndarray]


def by_formula(shared: Path) -> list[Pair]:
    """The sets of golden/README.md, cases A to F."""
    stored = np.load(shared / "golden" / "metrics" / "fid_features.npz")
    x, y = stored["x"], stored["y"]
    draw = np.random.RandomState(102).standard_normal
    walk = (0.05 * draw((1200, 256)).cumsum(axis=1), 0.055 * draw((1000, 256)).cumsum(axis=1) + 0.01)
    draw = np.random.RandomState(103).standard_normal
    wide = [np.maximum(0.05 * draw((60, 512)).cumsum(axis=1) + shift, 0) for shift in (0.1, 0.12)]
    made = [(one.astype(np.float32), other.astype(np.float32)) for one, other in (walk, wide)]
    return [(x, y), (x[:40], y[:40]), (x, x), (x[:150], x[150:300]), *made]


@pytest.mark.shared
def test_features_have_the_distances_of_the_published_programs(shared: Path) -> None:
    cases = json.loads((shared / "golden" / "metrics" / "fid.json").read_text())["cases"]
    for case, (first, second) in zip(cases, by_formula(shared), strict=True):
        letter = case["name"][0]
        exact = 1e-5 if letter in "BF" else 1e-6
        assert frechet_distance(first, second) == pytest.approx(case["eigen_symmetric"], rel=exact, abs=1e-9)
        piq = 1e-4 if letter in "EF" else 1e-6
        assert frechet.frechet_distance_piq(first, second) == pytest.approx(case["piq"], rel=piq, abs=1e-9)


@pytest.mark.shared
@pytest.mark.parametrize("part", PARTS)
def test_coefficients_have_the_distances_of_dyadic_interaction_modeling(part: str, shared: Path) -> None:
    expected = golden_scores(shared)["frechet"][part]
    predicted, reference, _ = part_of(golden_clips(shared), part)
    found = [frechet_of_clip(*pair) for pair in zip(predicted, reference, strict=True)]
    assert found == pytest.approx(expected["per_clip"], rel=1e-6)
    assert frechet_pooled(predicted, reference) == pytest.approx(expected["pooled"], rel=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("part", ["pose", "exp"])
def test_pairs_with_the_speaker_have_the_published_distance(part: str, shared: Path) -> None:
    printed = golden_scores(shared)["dim_print_metrics"]
    people = part_of(golden_clips(shared), part)
    found = np.mean([frechet.paired_frechet_distance(*clip) for clip in zip(*people, strict=True)])
    assert found == pytest.approx(printed[f"pfid_{part}"][0], rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.floats(-5, 5), scale=st.floats(0.1, 5))
def test_one_dimension_has_a_closed_form(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((50, 1)), shift + scale * rng.standard_normal((70, 1))
    means, spreads = ([np.mean(s) for s in (first, second)], [np.std(s, ddof=1) for s in (first, second)])
    expected = (means[0] - means[1]) ** 2 + (spreads[0] - spreads[1]) ** 2
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), width=st.integers(1, 12))
def test_any_sets_have_the_distance_of_scipy(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (rng.standard_normal((60, width)) @ rng.standard_normal((width, width)) for _ in range(2))
    covariances = [np.atleast_2d(np.cov(samples, rowvar=False)) for samples in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    apart = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    expected = apart + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.floats(0, 3), scale=st.floats(0.2, 4))
def test_moving_both_changes_nothing_and_moving_one_adds_its_square(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((2, 40, 5))
    distance = frechet_distance(first, second)
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    moved = frechet_distance(scale * first @ turn + shift, scale * second @ turn + shift)
    assert moved == pytest.approx(scale**2 * distance, abs=1e-6)
    assert frechet_distance(first, first + shift) == pytest.approx(5 * shift**2, abs=1e-6)


def test_the_value_of_few_samples_agrees_with_their_own_singular_values() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 30, 200)).cumsum(axis=2) / 20
    factors = [(samples - samples.mean(axis=0)) / np.sqrt(29) for samples in (first, second)]
    root = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    apart = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    expected = apart + sum(np.square(factor).sum() for factor in factors) - 2 * root
    assert frechet_distance(first, second) == pytest.approx(expected, rel=5e-5)


def test_the_root_by_iteration_is_a_root_where_the_matrix_is_well_conditioned() -> None:
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((200, 8))
    matrix = factor.T @ factor / 200
    np.testing.assert_allclose(newton_schulz_root(matrix), scipy.linalg.sqrtm(matrix), atol=1e-4)
    assert not newton_schulz_root(np.zeros((3, 3))).any()


def test_a_short_clip_is_further_away_though_nothing_else_differs() -> None:
    """Spec 6.2: two sequences of one distribution, AR(1) with .95 and standard deviation .2."""
    rng = np.random.default_rng(0)

    def sequence(frames: int, width: int) -> np.ndarray:
        noise = 0.2 * rng.standard_normal((frames, width))
        noise[1:] *= np.sqrt(1 - 0.95**2)
        for frame in range(1, frames):
            noise[frame] += 0.95 * noise[frame - 1]
        return noise

    for frames, width, clips, expected in ((90, 64, 12, 4.07), (300, 64, 6, 2.52), (1000, 64, 3, 1.31)):
        found = [frechet_of_clip(sequence(frames, width), sequence(frames, width)) for _ in range(clips)]
        assert np.mean(found) == pytest.approx(expected, rel=0.1)


def test_sets_that_have_no_covariance_or_other_dimensions_are_refused() -> None:
    with pytest.raises(ValueError, match="two samples"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(MismatchError, match="expected 4 dimensions.*found 3"):
        frechet_distance(np.zeros((5, 3)), np.zeros((5, 4)))
    with pytest.raises(MismatchError, match="expected as many clips.*2, found 1"):
        frechet_pooled([np.zeros((5, 3))], [np.zeros((5, 3))] * 2)
