"""REACT's metrics and FDD, against calculations of their own after the published files."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr

from stages.evaluate.metrics import reactions
from stages.evaluate.metrics.definition import Quantity
from stages.evaluate.metrics.registry import definitions
from stages.evaluate.metrics.variety import dynamics_difference
from tests.labs.evaluation import golden_clips, wandering

WIDTH = 5


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = wandering(rng, 60, WIDTH)
    return 0.7 * reference + 0.5 * wandering(rng, 60, WIDTH) + 0.2, reference


def test_frcorr_is_the_mean_of_lins_coefficient_over_dimensions(pair) -> None:
    predicted, reference = pair
    by_hand = []
    for one, other in zip(predicted.T, reference.T, strict=True):
        r = pearsonr(one, other).statistic
        below = one.var() + other.var() + (one.mean() - other.mean()) ** 2
        by_hand.append(2 * r * one.std() * other.std() / below)
    assert reactions.concordance(*pair) == pytest.approx(np.mean(by_hand), abs=1e-7)
    assert reactions.concordance(reference, reference) == pytest.approx(1, abs=1e-6)
    assert reactions.concordance(-reference, reference) < 0


def test_the_known_value_of_lins_coefficient_comes_out() -> None:
    told, truth = np.array([[2.5], [0.0], [2], [8]]), np.array([[3], [-0.5], [2], [7]])
    assert reactions.concordance(told, truth) == pytest.approx(0.97678916827853024, abs=1e-8)


def warped(first: np.ndarray, second: np.ndarray) -> float:
    """Dynamic time warping cell by cell, as textbooks have it."""
    best = np.full((len(first) + 1, len(second) + 1), np.inf)
    best[0, 0] = 0
    for i, one in enumerate(first, start=1):
        for j, other in enumerate(second, start=1):
            steps = best[i - 1, j], best[i, j - 1], best[i - 1, j - 1]
            best[i, j] = ((one - other) ** 2).sum() + min(steps)
    return math.sqrt(best[-1, -1])


@pytest.mark.parametrize(("first", "second"), [(40, 40), (40, 7), (7, 40), (1, 9), (9, 1), (1, 1)])
def test_warping_is_that_of_the_textbook(first: int, second: int) -> None:
    rng = np.random.default_rng(first)
    one, other = wandering(rng, first, WIDTH), wandering(rng, second, WIDTH)
    assert reactions.dynamic_time_warping(one, other) == pytest.approx(warped(one, other), rel=1e-12)


def test_frdist_forgives_what_comes_late(pair) -> None:
    reference = pair[1]
    late = np.concatenate([reference[:1], reference[:1], reference[:-2]])
    assert reactions.warped_distance(late, reference) < 0.3 * np.linalg.norm(late - reference) / WIDTH
    assert reactions.warped_distance(*pair) == pytest.approx(warped(*pair) / WIDTH, rel=1e-12)


def test_frdiv_is_the_mean_squared_distance_of_all_pairs_of_samples() -> None:
    samples = np.random.default_rng(1).normal(size=(30, 4, WIDTH))
    flat = samples.swapaxes(0, 1).reshape(4, -1)
    assert reactions.distance_of_samples(samples) == pytest.approx(pdist(flat, "sqeuclidean").mean() / flat.shape[1])


def test_frdvs_is_the_mean_squared_distance_of_all_pairs_of_clips() -> None:
    rng = np.random.default_rng(2)
    clips = [wandering(rng, frames, WIDTH) for frames in (50, 40, 45, 40)]
    apart = [np.square(one[:40] - other[:40]).mean() for one, other in combinations(clips, 2)]
    assert reactions.distance_of_clips(clips) == pytest.approx(np.mean(apart))
    assert math.isnan(reactions.distance_of_clips(clips[:1]))


def test_frvar_has_one_degree_of_freedom_less_than_frames(pair) -> None:
    by_hand = [np.square(one - one.mean()).sum() / (len(one) - 1) for one in pair[0].T]
    assert reactions.unbiased_variance(pair[0]) == pytest.approx(np.mean(by_hand))


def test_fdd_compares_how_much_two_faces_move(pair) -> None:
    predicted, reference = pair
    by_hand = np.mean([np.std(t**2) - np.std(p**2) for p, t in zip(predicted.T, reference.T, strict=True)])
    assert dynamics_difference(predicted, reference) == pytest.approx(abs(by_hand))
    still = np.repeat(reference[:1], len(reference), axis=0)
    assert dynamics_difference(still, reference) == pytest.approx(np.std(reference**2, axis=0).mean())


GOLDEN = {  # of golden_clips' exp: by scipy, torch (as REACT's files call it) and the textbook's warping
    "frcorr_exp_react": 0.6442821065719091,
    "frdist_exp_react": 0.3946440587265239,
    "frvar_exp_react": 0.062302985304923585,
    "frdvs_exp_react": 0.17942815297985312,
    "fdd_exp_squared": 0.06414378221170244,
}


@pytest.mark.shared
def test_the_golden_clips_have_these_scores(shared: Path) -> None:
    stored = golden_clips(shared)
    people = {"predicted": stored["pred"], "reference": stored["gt"]}
    exp = {who: [clip[:, 6:56].astype(np.float64) for clip in clips] for who, clips in people.items()}
    clips = [
        {Quantity.EXP.predicted: one, Quantity.EXP.reference: other}
        for one, other in zip(exp["predicted"], exp["reference"], strict=True)
    ]
    found = {name: definitions()[name].score(clips) for name in GOLDEN}
    assert found == pytest.approx(GOLDEN, rel=1e-6)
