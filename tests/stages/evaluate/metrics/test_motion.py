"""Feature distance, variety, identity and lip distance: golden numbers, laws and known cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import vq
from scipy.spatial.distance import cosine
from scipy.stats import entropy

from stages.evaluate.metrics import feature_distance, identity, lip_distance, variety
from stages.evaluate.metrics.definition import Quantity
from stages.evaluate.metrics.registry import definitions
from tests.labs.evaluation import PARTS, golden_clips, golden_scores, part_of


@pytest.mark.shared
@pytest.mark.parametrize("part", ["angle", "exp", "trans"])
def test_feature_distances_are_the_golden_ones(part: str, shared: Path) -> None:
    golden, stored = golden_scores(shared), golden_clips(shared)
    pairs = zip(*part_of(stored, part)[:2], strict=True)
    clips = [dict(zip(Quantity[part.upper()].pair, pair, strict=True)) for pair in pairs]
    expected = golden["feature_distance_l1"]["values"][part]
    assert definitions()[f"fd_{part}_eccv2022"].score(clips) == pytest.approx(expected, rel=1e-6)
    assert definitions()[f"{part}fd_l1_2022"].score(clips) == pytest.approx(expected / 100, rel=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("part", ["pose", "exp"])
def test_squared_differences_are_the_golden_ones(part: str, shared: Path) -> None:
    golden, stored = golden_scores(shared), golden_clips(shared)
    pairs = list(zip(*part_of(stored, part)[:2], strict=True))
    metric = definitions()[f"fd_{part}_elp_squared"]
    scores = [metric.clip_score(dict(zip(metric.inputs, pair, strict=True))) for pair in pairs]
    expected = golden["dim_print_metrics"][f"mse_{part}"][0]  # a mean over clips
    assert np.mean(scores) == pytest.approx(1000 * expected, rel=1e-6)
    metric = definitions()[f"mse_{part}_per_clip"]
    assert metric.score([dict(zip(metric.inputs, pair, strict=True)) for pair in pairs]) == pytest.approx(
        expected, rel=1e-6
    )


@settings(max_examples=30, deadline=None)
@given(shift=st.floats(-3, 3), scale=st.floats(0.1, 10), width=st.integers(1, 9))
def test_a_shift_has_a_known_distance_and_scales_with_the_numbers(shift: float, scale: float, width: int) -> None:
    reference = np.random.default_rng(0).standard_normal((20, width))
    pair = scale * (reference + shift), scale * reference
    assert feature_distance.mean_absolute_difference(*pair) == pytest.approx(scale * abs(shift), abs=1e-9)
    assert feature_distance.mean_squared_difference(*pair) == pytest.approx((scale * shift) ** 2, abs=1e-9)
    norm = scale * abs(shift) * np.sqrt(width)
    assert feature_distance.mean_euclidean_distance(*pair) == pytest.approx(norm, abs=1e-9)


@pytest.mark.shared
@pytest.mark.parametrize("part", PARTS)
def test_variances_are_those_of_the_three_published_programs(part: str, shared: Path) -> None:
    golden, stored = golden_scores(shared), golden_clips(shared)
    for clips, who in zip(part_of(stored, part)[:2], ("pred", "gt"), strict=True):
        found = {
            "dim_flat_var": variety.flat_variance(clips),
            "dim_helper_calculate_variance_sum_over_dims": variety.summed_variance(clips),
            "lml_mean_over_dims_per_clip_mean": np.mean([variety.mean_variance(clip) for clip in clips]),
        }
        for program, value in found.items():
            assert value == pytest.approx(golden["variance"][program][part][who], rel=1e-6), program


@pytest.mark.shared
@pytest.mark.parametrize(("part", "k"), [("exp", 40), ("pose", 20)])
def test_si_d_is_the_published_one(part: str, k: int, shared: Path) -> None:
    golden, stored = golden_scores(shared), golden_clips(shared)
    predicted, reference, _ = part_of(stored, part)
    expected, arrays = golden["sid"][part], np.load(shared / "golden" / "metrics" / "sid_centres.npz")
    for clips, who in ((predicted, "pred"), (reference, "gt")):
        labels = variety.nearest(np.concatenate(clips).astype(np.float64), arrays[f"sid_{part}_centres"])
        np.testing.assert_array_equal(labels, arrays[f"sid_{part}_{who}_labels"])
        assert variety.entropy_bit(labels, k) == pytest.approx(expected[f"value_{who}"], abs=1e-9)
        assert variety.cluster_entropy(clips, reference, k) == pytest.approx(expected[f"value_{who}"], abs=0.1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(2, 30))
def test_nearest_centres_and_entropies_are_those_of_scipy(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    frames, centres = rng.standard_normal((200, 4)), rng.standard_normal((k, 4))
    labels = variety.nearest(frames, centres)
    np.testing.assert_array_equal(labels, vq(frames, centres)[0])
    expected = entropy(np.bincount(labels, minlength=k), base=2)
    assert variety.entropy_bit(labels, k) == pytest.approx(expected, abs=1e-4)


def test_si_d_of_one_pose_is_nothing_and_of_all_clusters_the_ceiling() -> None:
    corners = np.array([[x, y] for x in (0, 10) for y in (0, 10)], np.float64)
    reference = [np.repeat(corners, 25, axis=0)]
    assert variety.cluster_entropy(reference, reference, 4) == pytest.approx(2, abs=1e-4)
    still = [np.full((100, 2), 9.0)]
    assert variety.cluster_entropy(still, reference, 4) == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="at least 200 frames for 200 clusters, found 100"):
        variety.cluster_entropy(reference, reference, 200)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_variety_grows_with_the_square_and_does_not_see_a_shift(seed: int, shift: float, scale: float) -> None:
    clips = list(np.random.default_rng(seed).standard_normal((3, 30, 4)))
    moved = [scale * clip + shift for clip in clips]
    for variance in (variety.flat_variance, variety.summed_variance):
        assert variance(moved) == pytest.approx(scale**2 * variance(clips))
    assert variety.mean_variance(moved[0]) == pytest.approx(scale**2 * variety.mean_variance(clips[0]))
    assert variety.spread(moved) == pytest.approx(scale * variety.spread(clips))


def test_published_numbers_of_clusters_are_presets_and_others_can_be_had() -> None:
    assert {"sid_exp_k40", "sid_pose_k20", "sid_exp_k15", "sid_pose_k9"} <= set(definitions())
    own = variety.si_d(Quantity.EXP, 5, published_as="")
    assert own.id == "sid_exp_k5" and "log2(5)" in own.warning


def test_still_heads_have_no_diversity_and_clips_that_differ_do() -> None:
    still = np.ones((10, 4))
    assert variety.spread([still]) == 0
    assert variety.spread([still, 3 * still]) == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), gain=st.floats(0.1, 10))
def test_the_cosine_is_scipys_whatever_the_lengths(seed: int, gain: float) -> None:
    predicted, reference = np.random.default_rng(seed).standard_normal((2, 6, 5))
    expected = [[1 - cosine(one, other) for other in reference] for one in predicted]
    assert identity.cosine_similarity(gain * predicted, reference) == pytest.approx(np.trace(expected) / 6)
    assert identity.cosine_distance(gain * predicted, reference) == pytest.approx(1 - np.trace(expected) / 6)
    assert identity.cosine_of_all_pairs(predicted, gain * reference) == pytest.approx(np.mean(expected))


def test_opposite_and_orthogonal_people_and_an_empty_embedding() -> None:
    person, other = np.array([[1.0, 0], [1, 0]]), np.array([[0.0, 2], [0, 2]])
    assert identity.cosine_similarity(person, other) == 0 and identity.cosine_similarity(person, -person) == -1
    with pytest.raises(ValueError, match="direction"):
        identity.cosine_similarity(person, np.zeros_like(person))


@settings(max_examples=20, deadline=None)
@given(right_px=st.floats(-20, 20), down_px=st.floats(-20, 20), rest_px=st.floats(-20, 20))
def test_only_lips_count_and_only_in_the_picture(right_px: float, down_px: float, rest_px: float) -> None:
    reference = np.random.default_rng(0).uniform(0, 384, (3, 478, 3))
    moved = reference + rest_px
    moved[:, lip_distance.LIPS] = reference[:, lip_distance.LIPS] + [right_px, down_px, rest_px]
    expected_px = (abs(right_px) + abs(down_px)) / 2
    assert lip_distance.lip_distance_px(moved, reference) == pytest.approx(expected_px, abs=1e-9)


def test_the_points_of_the_lips_are_mediapipes() -> None:
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_LIPS

    lips = {point for line in FACEMESH_LIPS for point in line}
    assert len(lip_distance.OUTER_LIPS) == 12 and len(lip_distance.INNER_LIPS) == 8
    assert len(set(lip_distance.LIPS)) == 20 and set(lip_distance.LIPS) <= lips
