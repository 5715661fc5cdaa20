"""Bases: the file, any model in its layout, and learning one from faces whose model is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.study import learn_basis
from schemas.errors import UserError
from stages.morphable import learning
from stages.morphable.basis import FIVE_POINTS, FIVE_POINTS_DM, SHIPPED, UNIT_DM, Basis, BasisError, load_basis
from stages.morphable.landmark_gn import LandmarkFitter, Track
from stages.morphable.learning import align, mirror_permutation, upright
from tests.labs.morphable import moving_face, rotation_error_deg

ROOT = Path(__file__).resolve().parents[3]
PEOPLE = 16


@pytest.fixture(scope="module")
def basis() -> Basis:
    return load_basis()


def small(basis: Basis) -> Basis:
    """The shipped basis with a few components: few faces suffice to learn it."""
    kept = {"identity": 4, "identity_std": 4, "expression": 6, "expression_std": 6}
    return replace(basis, **{name: getattr(basis, name)[:count] for name, count in kept.items()})


def faces(basis: Basis) -> list[learning.PersonTrack]:
    truths = [moving_face(30, seed, basis) for seed in range(PEOPLE)]
    return [learning.PersonTrack(f"p{k}", upright(truth.landmarks(basis))) for k, truth in enumerate(truths)]


def test_the_shipped_basis_is_small_and_in_the_documented_units(basis: Basis) -> None:
    assert SHIPPED.stat().st_size < 3_000_000
    assert basis.identity.shape == (80, 478, 3) and basis.expression.shape == (64, 478, 3)
    for components in (basis.identity, basis.expression):
        np.testing.assert_allclose(np.sqrt(np.square(components).sum(2).mean(1)), UNIT_DM, rtol=1e-2)
    five = np.stack([basis.mean[list(points)].mean(axis=0) for points in FIVE_POINTS])
    assert np.linalg.norm(five - FIVE_POINTS_DM, axis=1).max() < 0.08  # 8 mm: people are no five points


def test_the_shipped_basis_holds_no_motion_of_the_whole_head(basis: Basis) -> None:
    axes = np.linalg.qr(learning.similarity_tangents(basis.mean.astype(float)).T)[0]
    for components in (basis.identity[:10], basis.expression[:10]):
        flat = components.reshape(10, -1)
        assert (np.square(flat @ axes).sum(1) / np.square(flat).sum(1)).max() < 0.5


def test_a_saved_basis_comes_back(basis: Basis, tmp_path: Path) -> None:
    basis.save(tmp_path / "basis.npz")
    back = load_basis(tmp_path / "basis.npz")
    np.testing.assert_array_equal(back.expression, basis.expression)
    assert (back.name, back.noise, back.sha256) == (basis.name, basis.noise, basis.sha256)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": np.zeros((477, 3), np.float32)}, r"expression: expected shape \(64, 477, 3\), found \(64, 478, 3\)"),
        ({"point": np.full(478, 478)}, "point: expected 0 to 477, found 478 to 478"),
        ({"noise": 0.0}, "standard deviations and noise must be positive"),
    ],
)
def test_a_file_of_another_layout_is_refused(change: dict, message: str, basis: Basis, tmp_path: Path) -> None:
    replace(basis, **change).save(tmp_path / "basis.npz")
    np.savez(tmp_path / "small.npz", mean=np.zeros((5, 3)))
    for name, said in (("basis.npz", message), ("small.npz", "found no expression, expression_std, identity")):
        with pytest.raises(BasisError, match=said):
            load_basis(tmp_path / name)


def test_a_model_with_vertices_under_some_points_only_fits_as_well(basis: Basis, tmp_path: Path) -> None:
    some = np.arange(0, 478, 3)
    parts = {"mean": basis.mean[some], "identity": basis.identity[:, some], "expression": basis.expression[:, some]}
    replace(basis, **parts, point=some).save(tmp_path / "part.npz")
    truth = moving_face(60)
    track = Track(truth.landmarks(basis), np.ones(60, bool))
    (fit,) = LandmarkFitter(load_basis(tmp_path / "part.npz")).fit([track])
    assert rotation_error_deg(fit.angle.numpy(), truth.angle).max() < 1
    assert fit.error.max() < 0.002


def test_points_are_matched_with_their_mirror_images(basis: Basis) -> None:
    permutation = mirror_permutation([basis.mean[None].astype(float)])
    np.testing.assert_array_equal(permutation[permutation], np.arange(478))
    pairs = {33: 263, 61: 291, 468: 473, 4: 4, 152: 152, 159: 386, 133: 362}
    assert {point: int(permutation[point]) for point in pairs} == pairs


def test_alignment_undoes_moving_turning_and_scaling(basis: Basis) -> None:
    truth = moving_face(5)
    still = replace(truth, expression=np.zeros_like(truth.expression))
    target = basis.shape(still.identity, still.expression[0]).astype(float)
    found = align(upright(still.landmarks(basis)), target, np.full(478, 1 / 478))
    np.testing.assert_allclose(found, np.broadcast_to(target, found.shape), atol=1e-4)


def test_learning_finds_the_model_behind_faces_and_explains_people_it_has_not_seen(basis: Basis) -> None:
    tracks = faces(small(basis))
    with pytest.raises(UserError, match="40 components need more than 40 people, mirrored ones included, found 32"):
        learning.learn(tracks, "learnt", num_identity=40, num_expression=4)
    learnt = learning.learn(tracks, "learnt", num_identity=12, num_expression=14)
    assert learning.explained(small(basis).expression.reshape(6, -1), learnt.expression) > 0.97
    for result in learning.held_out(tracks, 2, num_identity=12, num_expression=14):
        assert result.people == PEOPLE // 2
        assert result.expression > 0.97 and result.identity > 0.9


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.timeout(600)
def test_the_shipped_basis_is_what_its_list_of_faces_gives_and_explains_people_held_out(
    shared: Path, tmp_path: Path, basis: Basis, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again.npz"
    faces_list = ROOT / "manifests" / "basis_media_v1.csv"
    assert learn_basis.main([str(faces_list), "--name", "media_v1", "--out", str(out), "--folds", "3"]) == 0
    lowest = capsys.readouterr().out.split("lowest")[1].split()
    assert float(lowest[0].rstrip("%")) >= 97 and float(lowest[1].rstrip("%")) >= 85
    np.testing.assert_allclose(load_basis(out).mean, basis.mean, atol=1e-3)
