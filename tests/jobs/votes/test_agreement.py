"""Agreement against numbers that others have published, and against what must be so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jobs.votes.agreement import (
    MISSING,
    agreement_of_classes,
    alpha,
    cohen_kappa,
    coincidences,
    gwet_ac1,
    krippendorff,
    overlap,
    unanimous,
)

# K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): A to C. A row an observer, . missing
BINARY = ("0100000010", "1110010000")
NOMINAL = ("aabbdcccedda", "babbbccceddd")
INCOMPLETE = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")


def ratings(rows: tuple[str, ...], classes: str) -> np.ndarray:
    return np.array([[classes.find(letter) for letter in row] for row in rows]).T


@pytest.mark.parametrize(
    ("rows", "classes", "metric", "published"),
    [
        (BINARY, "01", "nominal", 0.095),
        (NOMINAL, "abcde", "nominal", 0.692),
        (INCOMPLETE, "12345", "nominal", 0.743),
        (INCOMPLETE, "12345", "ordinal", 0.815),
    ],
)
def test_alpha_is_that_of_krippendorffs_worked_examples(
    rows: tuple[str, ...], classes: str, metric: str, published: float
) -> None:
    total = coincidences(ratings(rows, classes), len(classes)).sum(axis=0)
    assert round(float(alpha(total, metric)), 3) == published


def test_ac1_is_that_of_gwets_example_of_high_agreement_where_kappa_is_below_zero() -> None:
    """Gwet (2008), 125 subjects of two raters: 118 + +, 5 + -, 2 - +, none - -."""
    two = np.array([[0, 0]] * 118 + [[0, 1]] * 5 + [[1, 0]] * 2)
    assert gwet_ac1(two, 2) == pytest.approx(0.9408, abs=5e-5)
    assert cohen_kappa(two[:, 0], two[:, 1], 2) == pytest.approx(-0.0234, abs=5e-5)


def test_ac1_is_that_of_gwets_example_of_four_raters_with_gaps() -> None:
    """Data set cac.raw4raters of Gwet's R package irrCAC, whose vignette prints AC1 0.77544, alpha 0.74342."""
    four = ratings(INCOMPLETE, "12345")
    assert gwet_ac1(four, 5) == pytest.approx(0.77544, abs=5e-6)
    assert krippendorff(four, 5, "nominal", np.zeros(12)).value == pytest.approx(0.74342, abs=5e-6)


def test_where_one_class_alone_was_given_alpha_is_undefined_and_ac1_full() -> None:
    same = np.zeros((9, 3), int)
    assert krippendorff(same, 3, "nominal", np.arange(9)) is None
    assert cohen_kappa(same[:, 0], same[:, 1], 3) is None
    assert gwet_ac1(same, 3) == 1 and unanimous(same) == 1
    assert agreement_of_classes(same, 3) == [1, None, None]


def test_one_dissent_among_many_that_agree_brings_alpha_to_nothing_and_leaves_ac1() -> None:
    skewed = np.zeros((50, 2), int)
    skewed[0, 1] = 1
    assert krippendorff(skewed, 2, "nominal", np.arange(50)).value == pytest.approx(0)
    assert gwet_ac1(skewed, 2) > 0.97


def test_without_two_votes_on_anything_nothing_is_defined() -> None:
    single = np.array([[0, MISSING], [MISSING, 1]])
    assert krippendorff(single, 2, "nominal", np.arange(2)) is None
    assert (gwet_ac1(single, 2), unanimous(single), cohen_kappa(single[:, 0], single[:, 1], 2)) == (None, None, None)


@given(arrays.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.integers(-1, 2)))
def test_a_person_who_never_voted_and_a_clip_that_nobody_saw_change_nothing(few: np.ndarray) -> None:
    wider = np.pad(few, ((0, 1), (0, 1)), constant_values=MISSING)
    sources = np.zeros(len(few))
    for metric in ("nominal", "ordinal"):
        assert krippendorff(few, 3, metric, sources) == krippendorff(wider, 3, metric, np.zeros(len(wider)))
    assert gwet_ac1(few, 3) == gwet_ac1(wider, 3)
    assert agreement_of_classes(few, 3) == agreement_of_classes(wider, 3)


def test_the_interval_is_wider_where_clips_of_one_source_are_alike() -> None:
    generator = np.random.default_rng(1)
    each = generator.integers(0, 3, (20, 2))
    each[::2, 1] = each[::2, 0]
    many = np.repeat(each, 5, axis=0)  # five clips a source, all alike
    apart, together = (krippendorff(many, 3, "nominal", np.arange(100) // size) for size in (1, 5))
    assert apart.value == together.value and apart.low < apart.value < apart.high
    assert 1.5 < (together.high - together.low) / (apart.high - apart.low) < 3.0  # the square root of five


def test_spans_overlap_by_frames() -> None:
    assert overlap((0, 10), (0, 10)) == 1 and overlap((0, 10), (5, 15)) == pytest.approx(5 / 15)
    assert overlap((0, 10), (10, 20)) == overlap((0, 10), (30, 40)) == 0
