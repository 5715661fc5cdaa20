"""How far people agree beyond chance, in numbers.

Krippendorff's alpha after K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), by the matrix of
coincidences; AC1 after K. L. Gwet, "Computing inter-rater reliability and its variance in the presence of high
agreement" (2008). Both by hand: the packages that have them are GPL. Cohen's kappa of two people is scikit-learn's.

Ratings are int (unit, rater): the index of a class, `MISSING` where a person gave none, which is no class. A number
that is not defined, such as alpha where only one class was ever given, is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.metrics import cohen_kappa_score

MISSING = -1
REPLICATES = 2000
COVERAGE = 0.95
Metric = Literal["nominal", "ordinal"]


@dataclass(frozen=True)
class Estimate:
    """A number and the interval that a bootstrap over sources gives it; no interval where there is one source."""

    value: float
    low: float | None = None
    high: float | None = None


def counts(ratings: np.ndarray, classes: int) -> np.ndarray:
    """How many people gave each class, int (unit, class)."""
    return np.stack([(ratings == k).sum(axis=1) for k in range(classes)], axis=1)


def coincidences(ratings: np.ndarray, classes: int) -> np.ndarray:
    """Pairs of classes that two people gave the same unit, float (unit, class, class), by 1 / (ratings of it - 1)."""
    given = counts(ratings, classes)
    pairs = given[:, :, None] * given[:, None, :] - given[:, :, None] * np.eye(classes, dtype=int)
    return np.asarray(pairs / np.maximum(given.sum(axis=1) - 1, 1)[:, None, None])


def alpha(coincidence: np.ndarray, metric: Metric) -> np.ndarray:
    """Krippendorff's alpha of summed coincidences (..., class, class); NaN where it is not defined."""
    given = coincidence.sum(axis=-1)  # (..., class), the values that can be paired
    total = given.sum(axis=-1)
    if metric == "nominal":
        distance = 1.0 - np.eye(given.shape[-1])
    else:
        rank = np.cumsum(given, axis=-1) - given / 2
        distance = (rank[..., :, None] - rank[..., None, :]) ** 2
    observed = (coincidence * distance).sum(axis=(-2, -1))
    expected = (given[..., :, None] * given[..., None, :] * distance).sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan))


def krippendorff(ratings: np.ndarray, classes: int, metric: Metric, sources: np.ndarray) -> Estimate | None:
    """Alpha with its interval from `REPLICATES` drawings of as many ``sources``, (unit,), as there are.

    Clips of one source share people and room, so they are drawn together.
    """
    each = coincidences(ratings, classes)
    value = float(alpha(each.sum(axis=0), metric))
    if np.isnan(value):
        return None
    names, of_source = np.unique(sources, return_inverse=True)
    if len(names) < 2:
        return Estimate(value)
    blocks = np.zeros((len(names), classes, classes))
    np.add.at(blocks, of_source, each)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), REPLICATES)
    drawings = alpha(np.einsum("rs,sij->rij", drawn, blocks), metric)
    defined = drawings[~np.isnan(drawings)]
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high)) if len(defined) else Estimate(value)


def gwet_ac1(ratings: np.ndarray, classes: int) -> float | None:
    """AC1 of any number of people, with gaps; ``classes`` are all that could have been given."""
    given = counts(ratings, classes).astype(float)
    raters = given.sum(axis=1)
    observed = _observed(given[raters >= 2])
    if observed is None or classes < 2:
        return None
    prevalence = (given[raters > 0] / raters[raters > 0, None]).mean(axis=0)
    chance = float((prevalence * (1 - prevalence)).sum() / (classes - 1))
    return (observed - chance) / (1 - chance)


def _observed(given: np.ndarray) -> float | None:
    """The share of pairs of people who agree, a mean over units."""
    if not len(given):
        return None
    raters = given.sum(axis=1)
    return float(((given * (given - 1)).sum(axis=1) / (raters * (raters - 1))).mean())


def unanimous(ratings: np.ndarray) -> float | None:
    """The share of units on which all agree, of those that two people or more rated."""
    several = ratings[(ratings != MISSING).sum(axis=1) >= 2]
    if not len(several):
        return None
    largest = several.max(axis=1)
    return float(np.mean([(row[row != MISSING] == top).all() for row, top in zip(several, largest, strict=True)]))


def cohen_kappa(first: np.ndarray, second: np.ndarray, classes: int) -> float | None:
    """Cohen's kappa of two people on the units that both rated; None where both only ever gave one class."""
    both = (first != MISSING) & (second != MISSING)
    if not both.any() or len({*first[both], *second[both]}) < 2:
        return None
    return float(cohen_kappa_score(first[both], second[both], labels=list(range(classes))))


def agreement_of_classes(ratings: np.ndarray, classes: int) -> list[float | None]:
    """For each class: when one person gave it, how often another gave it too."""
    given = counts(ratings, classes)
    raters = given.sum(axis=1, keepdims=True)
    agreeing = (given * (given - 1)).sum(axis=0)
    possible = (given * (raters - 1)).sum(axis=0)
    return [float(a / p) if p else None for a, p in zip(agreeing, possible, strict=True)]


def overlap(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Intersection over union of two spans of frames, each from its first frame to the one after its last."""
    shared = max(min(first[1], second[1]) - max(first[0], second[0]), 0)
    return shared / (first[1] - first[0] + second[1] - second[0] - shared)
