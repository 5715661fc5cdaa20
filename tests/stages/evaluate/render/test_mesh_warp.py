"""The embedded renderer against FaceMesh and our own fit, which look at what it drew."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from stages.evaluate.render.face_mesh import EYES, MOUTH, OUTLINE, mesh_of, triangles
from stages.evaluate.render.lids import shut, unrolled
from stages.evaluate.render.mesh_warp import MeshWarp
from stages.evaluate.render.scene import Scene
from stages.evaluate.render.surroundings import Surroundings
from stages.evaluate.render.warp import TriangleWarp, sample
from stages.morphable.basis import BasisError
from tests.labs import rendering
from tests.labs.rendering import SIDE_PX, Sitter, expression, eye_aspect, fitted, landmarks, mouth_aspect

FRAMES = 40


@pytest.fixture(scope="module")
def sitter() -> Sitter:
    return Sitter.sit()


@pytest.fixture(scope="module")
def renderer(sitter: Sitter) -> MeshWarp:
    return MeshWarp(sitter.basis)


def mesh(sitter: Sitter, scene: Scene) -> np.ndarray:
    return mesh_of(scene.motion, sitter.basis, SIDE_PX)


def test_a_fit_to_the_rendered_frames_gives_the_coefficients_back(sitter: Sitter, renderer: MeshWarp) -> None:
    scene = sitter.acting(FRAMES)
    points = landmarks(list(renderer.render(scene)))
    assert np.linalg.norm((points - mesh(sitter, scene))[..., :2], axis=-1).mean() < 2  # px
    found = fitted(points)
    for axis, (low, high) in enumerate(((0.8, 1.25), (0.6, 1.1), (0.95, 1.05))):  # pitch, yaw, roll
        wanted, got = scene.motion.angle[:, axis], found.angle[:, axis]
        assert np.corrcoef(wanted, got)[0, 1] > 0.97
        # FaceMesh guesses depth from light and shade, which do not turn with a picture: it sees less of a turn
        assert low < np.polyfit(wanted, got, 1)[0] < high
    wanted_px, got_px = mesh(sitter, scene).mean(1), mesh_of(found, sitter.basis, SIDE_PX).mean(1)
    assert np.abs(wanted_px - got_px)[:, :2].max() < 3
    wanted, got = mouth_aspect(mesh(sitter, scene)), mouth_aspect(mesh_of(found, sitter.basis, SIDE_PX))
    assert np.ptp(wanted) > 0.15
    assert np.corrcoef(wanted, got)[0, 1] > 0.97
    assert np.sqrt(np.mean((wanted - got) ** 2)) < 0.15 * np.ptp(wanted)


@pytest.mark.parametrize("by", ["expression", "label"])
def test_a_blink_closes_the_eyes(sitter: Sitter, renderer: MeshWarp, by: str) -> None:
    steps = np.clip(np.minimum(np.arange(12), 11 - np.arange(12)) / 4 - 0.25, 0, 1)  # shut in the middle
    zeros = np.zeros((12, 3))
    if by == "expression":
        closing = expression(sitter.basis, {rendering.RIGHT_LIDS: -0.11, rendering.LEFT_LIDS: -0.11})
        scene = sitter.move(zeros, zeros, steps[:, None] * closing)
    else:
        scene = sitter.move(zeros, zeros, np.zeros((12, 64)), steps)
    seen = eye_aspect(landmarks(list(renderer.render(scene))))
    assert seen[0] > 0.15
    assert seen[5:7].max() < 0.4 * seen[0]


def test_nothing_moves_where_nothing_is_moved(sitter: Sitter, renderer: MeshWarp) -> None:
    first, second = list(renderer.render(sitter.still(2)))
    assert np.array_equal(first, second)
    inner = np.s_[8:-8, 8:-8]  # the outermost pixels are repeated ones
    error = np.square(first[inner].astype(float) - sitter.picture[inner]).mean()
    assert 10 * np.log10(255**2 / error) > 30  # dB; only the inside of eyes and mouth is drawn anew


def test_the_background_stands_still_behind_a_head_that_moves(sitter: Sitter, renderer: MeshWarp) -> None:
    trans = np.zeros((8, 3))
    trans[:, 0] = np.linspace(0, 0.25, 8)
    frames = list(renderer.render(sitter.move(np.zeros((8, 3)), trans, np.zeros((8, 64)))))
    corner = np.s_[10:60, 10:60]
    moved = np.abs(frames[-1].astype(int) - frames[0])
    assert moved[corner].max() <= 1
    assert moved[100:250, 120:260].mean() > 5


def test_a_basis_without_all_points_is_refused(sitter: Sitter) -> None:
    few = replace(sitter.basis, mean=sitter.basis.mean[:100], point=np.arange(100))
    with pytest.raises(BasisError, match="all 478 points"):
        mesh_of(sitter.pose, few, SIDE_PX)


def test_the_mesh_is_a_disc_with_three_holes() -> None:
    faces = triangles()
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [0, 2]]]), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    assert count.max() == 2
    assert len(np.unique(faces)) - len(unique) + len(faces) == 1 - 3  # Euler
    rim = set(unique[count == 1].flatten())
    holes = {point for slit in (*EYES, MOUTH) for point in (*slit.upper, *slit.lower)}
    assert rim == set(OUTLINE) | holes


def test_an_affine_warp_is_that_of_opencv() -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (96, 96, 3), np.uint8), (0, 0), 3)
    corners = np.array([[-60.0, -60], [160, -60], [160, 160], [-60, 160]])
    turn = cv2.getRotationMatrix2D((48, 48), 12, 1.1)
    moved = corners @ turn[:, :2].T + turn[:, 2]
    places = TriangleWarp(np.array([[0, 1, 2], [0, 2, 3]]), 96).source_map(corners, moved, np.zeros(4))
    expected = cv2.warpAffine(picture, turn, (96, 96), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    inner = np.s_[25:-25, 25:-25]
    assert np.abs(sample(picture, places)[inner].astype(int) - expected[inner]).max() <= 2


def test_what_is_near_hides_what_is_far() -> None:
    square = np.array([[0.0, 0], [40, 0], [40, 40], [0, 40]])
    source = np.concatenate([square, square + [40, 0]])
    target = np.concatenate([square, square])  # both at one place
    warp = TriangleWarp(np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]), 80)
    for near, expected in ((0, 20), (1, 60)):
        depth = np.repeat([near == 0, near == 1], 4).astype(float)
        assert warp.source_map(source, target, depth)[20, 20, 0] == pytest.approx(expected, abs=0.01)


def test_a_picture_is_repeated_beyond_its_border() -> None:
    picture = np.arange(64, dtype=np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    places = np.full((1, 2, 2), 32, np.float32)
    places[0, :, 0] = -50, 500
    assert sample(picture, places)[0, :, 0].tolist() == [3, 60]  # without the outermost three columns


def test_hair_moves_with_the_head_and_the_far_corner_half_as_much(sitter: Sitter) -> None:
    (points,) = mesh_of(sitter.pose, sitter.basis, SIDE_PX)
    around = Surroundings(points, SIDE_PX)
    outline = points[list(OUTLINE), :2]
    np.testing.assert_allclose(around.move(outline), around.vertices, atol=1e-6)
    shift = around.move(outline + [10, 0])[:, 0] - around.vertices[:, 0]
    away = np.linalg.norm(around.vertices[:, None] - outline, axis=-1).min(1)
    above = around.vertices[:, 1] < outline[:, 1].mean()
    assert shift[above & (away < 40)].min() > 9.9
    assert shift.min() == pytest.approx(5) and shift.max() == pytest.approx(10)


def test_slits_shut_and_wide_openings_stay(sitter: Sitter) -> None:
    (points,) = mesh_of(sitter.pose, sitter.basis, SIDE_PX)
    np.testing.assert_array_equal(shut(points, 0)[list(EYES[0].upper)], points[list(EYES[0].upper)])
    assert eye_aspect(shut(points, 1)[None])[0] == pytest.approx(0)
    narrow = points.copy()
    narrow[list(MOUTH.upper)] = narrow[list(MOUTH.lower)] - [0, 1, 0]
    assert mouth_aspect(shut(narrow, 0)[None])[0] == pytest.approx(0)


def test_skin_above_the_crease_comes_down_with_the_lid(sitter: Sitter) -> None:
    (points,) = mesh_of(sitter.pose, sitter.basis, SIDE_PX)
    np.testing.assert_allclose(unrolled(points, points)[list(EYES[0].crease)], points[list(EYES[0].crease), :2])
    crease = list(EYES[0].crease)
    rise = points[crease, 1] - unrolled(points, shut(points, 1))[crease, 1]
    assert (rise > 1).all()
