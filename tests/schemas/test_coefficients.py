"""Orders of coefficients and whose they are."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from schemas.coefficients import ORDERS, MixedCoefficientsError, convert, join, one_provenance, split
from schemas.dataset import BUILT, Description, Maker

FRAMES = 5


def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=(FRAMES, width)) for name, width in (("exp", 64), ("angle", 3), ("trans", 3), ("crop", 3))
    }


@pytest.mark.parametrize("order", ORDERS)
def test_joining_and_splitting_invert_each_other(order: str) -> None:
    joined = join(columns(), order)
    assert joined.shape == (FRAMES, int(order[-2:]))
    for name, values in split(joined, order).items():
        np.testing.assert_array_equal(values, columns()[name])


@pytest.mark.parametrize(("source", "target"), list(permutations(ORDERS, 2)))
def test_every_order_converts_into_every_other_and_back(source: str, target: str) -> None:
    crop = columns()["crop"]
    there = convert(join(columns(), source), source, target, crop)
    np.testing.assert_array_equal(there, join(columns(), target))
    np.testing.assert_array_equal(convert(there, target, source, crop), join(columns(), source))


def test_the_orders_are_the_published_ones() -> None:
    numbered = {
        "exp": np.full((1, 64), 1),
        "angle": np.full((1, 3), 2),
        "trans": np.full((1, 3), 3),
        "crop": np.full((1, 3), 4),
    }
    assert join(numbered, "baseline73")[0, [0, 2, 3, 66, 67, 69, 70, 72]].tolist() == [2, 2, 1, 1, 3, 3, 4, 4]
    assert join(numbered, "pirender73")[0, [0, 63, 64, 66, 67, 69, 70, 72]].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert join(numbered, "paper70")[0, [0, 63, 64, 66, 67, 69]].tolist() == [1, 1, 2, 2, 3, 3]


def test_ten_dimensions_are_never_taken_for_64() -> None:
    with pytest.raises(ValueError, match="expected 'exp' with 64 dimensions, found 10"):
        join(columns() | {"exp": np.zeros((FRAMES, 10))}, "paper70")


def test_a_70_without_a_crop_is_no_73() -> None:
    with pytest.raises(ValueError, match="expected 'crop' with 3 dimensions, found no such column"):
        convert(join(columns(), "paper70"), "paper70", "pirender73")


def described(fitter: str, sha256: str = "a" * 64, stage: str = "threedmm") -> Description:
    made = Maker(stage, 1, {"fitter": fitter}, {"basis": sha256})
    shape = {"kind": BUILT, "fps": 30, "sample_rate_hz": 44_100, "columns": (), "packed": (), "shards": ()}
    return Description(name="lab", stages={stage: made}, **shape)


def test_data_sets_of_one_fitter_are_read_together() -> None:
    assert one_provenance({name: described("landmark_gn") for name in "ab"}).fitter == "landmark_gn"


@pytest.mark.parametrize(("fitter", "sha256"), [("deep3d", "a" * 64), ("landmark_gn", "b" * 64)])
def test_other_fitters_and_other_bases_are_refused_by_name(fitter: str, sha256: str) -> None:
    with pytest.raises(MixedCoefficientsError, match=f"one: landmark_gn version 1.*two: {fitter} version 1"):
        one_provenance({"one": described("landmark_gn"), "two": described(fitter, sha256)})


def test_a_data_set_without_coefficients_says_so() -> None:
    with pytest.raises(MixedCoefficientsError, match="expected coefficients of the stage 'threedmm', found clip"):
        one_provenance({"one": described("", stage="clip")})
