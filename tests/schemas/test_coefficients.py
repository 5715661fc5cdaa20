"""Orders of coefficients and whose they are."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from schemas.coefficients import ORDERS, PUBLISHED, Layout, MixedCoefficientsError, Provenance, Space, one_provenance
from schemas.dataset import BUILT, Description, Maker

FRAMES = 5
WIDTHS = (64, 10, 50, 52)  # of expression


def columns(expression: int = 64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(FRAMES, width)) for name, width in {**PUBLISHED, "exp": expression}.items()}


def layout(order: str, expression: int = 64) -> Layout:
    return Layout(order, {**PUBLISHED, "exp": expression})


@pytest.mark.parametrize("expression", WIDTHS)
@pytest.mark.parametrize("order", ORDERS)
def test_joining_and_splitting_invert_each_other(order: str, expression: int) -> None:
    joined = layout(order, expression).join(columns(expression))
    assert joined.shape == (FRAMES, int(order[-2:]) - 64 + expression)
    for name, values in layout(order, expression).split(joined).items():
        np.testing.assert_array_equal(values, columns(expression)[name])


@pytest.mark.parametrize("expression", WIDTHS)
@pytest.mark.parametrize(("source", "target"), list(permutations(ORDERS, 2)))
def test_every_order_converts_into_every_other_and_back(source: str, target: str, expression: int) -> None:
    before, after, given = layout(source, expression), layout(target, expression), columns(expression)
    crop = {"crop": given["crop"]}
    there = after.join(crop | before.split(before.join(given)))
    np.testing.assert_array_equal(there, after.join(given))
    np.testing.assert_array_equal(before.join(crop | after.split(there)), before.join(given))


def test_the_orders_are_the_published_ones() -> None:
    numbered = {name: np.full((1, width), i) for i, (name, width) in enumerate(PUBLISHED.items(), start=1)}
    baseline, pirender, paper = (Layout(order).join(numbered)[0] for order in ("baseline73", "pirender73", "paper70"))
    assert baseline[[0, 2, 3, 66, 67, 69, 70, 72]].tolist() == [2, 2, 1, 1, 3, 3, 4, 4]
    assert pirender[[0, 63, 64, 66, 67, 69, 70, 72]].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert paper[[0, 63, 64, 66, 67, 69]].tolist() == [1, 1, 2, 2, 3, 3]


def test_expression_and_pose_are_all_of_a_frame() -> None:
    assert layout("paper70", 10).expression_and_pose == (slice(0, 10), [*range(10, 16)])
    assert Layout("pirender73").expression_and_pose == (slice(0, 64), [*range(64, 73)])
    assert Layout("baseline73").expression_and_pose == (slice(3, 67), [0, 1, 2, *range(67, 73)])


@pytest.mark.parametrize(("fitter", "order"), [("landmark_gn", "paper70"), ("deep3d", "baseline73")])
def test_the_order_of_a_space_holds_the_crop_where_it_moves(fitter: str, order: str) -> None:
    per_frame = {part: ("frame", width) for part, width in PUBLISHED.items()}
    assert Space(Provenance(fitter, 1, ()), per_frame).order == order
    without = {part: axes for part, axes in per_frame.items() if part != "crop"}
    assert Space(Provenance(fitter, 1, ()), without).order == "paper70"


def test_ten_dimensions_are_never_taken_for_64_nor_a_70_without_a_crop_for_a_73() -> None:
    paper = Layout("paper70")
    with pytest.raises(ValueError, match="expected 'exp' with 64 dimensions, found 10"):
        paper.join(columns(10))
    with pytest.raises(ValueError, match="expected 'crop' with 3 dimensions, found no such column"):
        Layout("pirender73").join(paper.split(paper.join(columns())))


def described(fitter: str, sha256: str = "a" * 64, stage: str = "threedmm") -> Description:
    made = Maker(stage, 1, {"fitter": fitter}, {"basis": sha256})
    shape = {"kind": BUILT, "fps": 30, "sample_rate_hz": 44_100, "columns": (), "packed": (), "shards": ()}
    return Description(name="lab", stages={stage: made}, **shape)


def test_data_sets_of_one_fitter_are_read_together_and_one_without_coefficients_says_so() -> None:
    assert one_provenance({name: described("landmark_gn") for name in "ab"}).fitter == "landmark_gn"
    with pytest.raises(MixedCoefficientsError, match="expected coefficients of the stage 'threedmm', found clip"):
        one_provenance({"one": described("", stage="clip")})


@pytest.mark.parametrize(("fitter", "sha256"), [("deep3d", "a" * 64), ("landmark_gn", "b" * 64)])
def test_other_fitters_and_other_bases_are_refused_by_name(fitter: str, sha256: str) -> None:
    with pytest.raises(MixedCoefficientsError, match=f"one: landmark_gn version 1.*two: {fitter} version 1"):
        one_provenance({"one": described("landmark_gn"), "two": described(fitter, sha256)})
