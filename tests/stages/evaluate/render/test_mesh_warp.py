"""The embedded renderer against FaceMesh and our own fit, which look at what it drew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stages.evaluate.render.face_mesh import CHIN, EYES, FOREHEAD, MOUTH, OUTLINE, SIDES, Rigid, mesh_of, triangles
from stages.evaluate.render.lids import shut, unrolled
from stages.evaluate.render.mesh_warp import MeshWarp
from stages.evaluate.render.openings import NUM_SKIN
from stages.evaluate.render.rim import SEEN, Rim, facing
from stages.evaluate.render.scene import Scene
from stages.evaluate.render.surroundings import BORDER_SHARE, HOLD, NEAR, Surroundings
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
    places = np.zeros((2, 96, 96), np.float32)
    TriangleWarp(np.array([[0, 1, 2], [0, 2, 3]]), 96).draw(places, corners, moved, np.zeros(4))
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
        places = np.full((2, 80, 80), -7, np.float32)
        warp.draw(places, source, target, depth)
        assert places[0, 20, 20] == pytest.approx(expected, abs=0.01)
        assert (places[:, 50, 50] == -7).all()  # what no triangle covers stays


def test_a_picture_is_repeated_beyond_its_border() -> None:
    picture = np.arange(64, dtype=np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    places = np.full((2, 1, 2), 32, np.float32)
    places[0, 0] = -50, 500
    assert sample(picture, places)[0, :, 0].tolist() == [3, 60]  # without the outermost three columns


def surroundings(sitter: Sitter, move: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far every pixel around the portrait comes from when its mesh is moved; the meshes before and after."""
    (points,) = mesh_of(sitter.pose, sitter.basis, SIDE_PX)
    moved = move(points)
    places = Surroundings(points, SIDE_PX).places(points[list(OUTLINE), :2], moved, Rigid.between(points, moved))
    return places - np.mgrid[:SIDE_PX, :SIDE_PX][::-1], points, moved


def outside(points: np.ndarray) -> np.ndarray:
    """How far every pixel lies outside of the face, in px, negative inside."""
    contour = points[list(OUTLINE), :2].astype(np.float32)
    found = [-cv2.pointPolygonTest(contour, (float(x), float(y)), True) for y, x in np.ndindex(SIDE_PX, SIDE_PX)]
    return np.array(found).reshape(SIDE_PX, SIDE_PX)


def test_hair_moves_with_the_head_and_shoulders_half_as_much(sitter: Sitter) -> None:
    still, points, _ = surroundings(sitter, lambda points: points)
    assert np.abs(still).max() < 1e-3
    shift, _, moved = surroundings(sitter, lambda points: points + [10, 0, 0])
    away = outside(moved)
    hair = (away > 0) & (away < 40) & (np.arange(SIDE_PX)[:, None] < moved[list(OUTLINE), 1].mean())
    np.testing.assert_allclose(shift[:, hair], np.tile([[-10.0], [0]], hair.sum()), atol=0.1)
    np.testing.assert_allclose(shift[0, -20:, -40:-20], -5, atol=0.1)


def test_a_head_that_turns_keeps_its_silhouette_and_a_tilted_one_takes_it_along(sitter: Sitter) -> None:
    (points,) = mesh_of(sitter.pose, sitter.basis, SIDE_PX)
    middle, height_px = points[list(SIDES)].mean(0), np.linalg.norm(points[FOREHEAD, :2] - points[CHIN, :2])
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    for axis in ([0, 1, 0], [0, 0, 1]):
        turn = Rotation.from_rotvec(np.radians(20) * np.array(axis)).as_matrix()
        shift, _, moved = surroundings(sitter, lambda points, turn=turn: (points - middle) @ turn.T + middle)
        away = outside(moved) / height_px
        if axis[1]:
            assert np.abs(shift[:, away > NEAR]).max() < 0.1
            assert np.abs(shift[0, (away > 0) & (away < 0.05)]).max() > 5  # beside the face things come along
        else:
            inner = (np.minimum(x, y) > BORDER_SHARE * SIDE_PX) & (x < (1 - BORDER_SHARE) * SIDE_PX)
            hair = inner & (away > 0) & (away < HOLD) & (y < middle[1])
            place = np.stack([x[hair], y[hair]], 1) - middle[:2]
            np.testing.assert_allclose(shift[:, hair].T, place @ turn[:2, :2] - place, atol=1)


def test_nothing_comes_from_beyond_the_border(sitter: Sitter) -> None:
    for step in ([60, 30, 0], [-60, -30, 0]):
        shift, _, moved = surroundings(sitter, lambda points, step=step: points + step)
        places = (shift + np.mgrid[:SIDE_PX, :SIDE_PX][::-1])[:, outside(moved) > 0]
        assert places.min() > -1 and places.max() < SIDE_PX


def test_the_motion_of_a_skull_is_found_whatever_the_face_does(sitter: Sitter) -> None:
    turn = Rotation.from_rotvec([0.2, -0.3, 0.1]).as_matrix()
    (points,) = mesh_of(sitter.pose, sitter.basis, SIDE_PX)
    moved = 1.2 * points @ turn.T + [5, -7, 3]
    moved[list(MOUTH.lower)] += [0, 20, 0]
    found = Rigid.between(points, moved)
    np.testing.assert_allclose(found.rotation, turn, atol=1e-9)
    np.testing.assert_allclose([found.scale, *found.shift], [1.2, 5, -7, 3])


def test_every_triangle_of_a_face_is_clockwise_and_faces_the_viewer(sitter: Sitter) -> None:
    (points,) = mesh_of(sitter.pose, sitter.basis, SIDE_PX)
    assert np.nanmin(facing(points)[:NUM_SKIN]) > -0.5 and np.median(facing(points)[:NUM_SKIN]) > 0.6
    assert (facing(sitter.basis.mean * [1, -1, 1])[:NUM_SKIN] > 0).all()


def test_skin_that_the_reference_shows_from_its_edge_comes_from_beside_it(sitter: Sitter) -> None:
    (points,) = mesh_of(sitter.pose, sitter.basis, SIDE_PX)
    source, rim = points[:, :2], Rim(points)
    np.testing.assert_array_equal(rim.covered(source, points), source)
    turned = (points - points.mean(0)) @ Rotation.from_rotvec([0, np.radians(30), 0]).as_matrix().T + points.mean(0)
    covered = rim.covered(source, turned)
    taken = np.linalg.norm(covered - source, axis=1) > 0.5
    assert not taken[facing(points) > SEEN].any()
    rim_points = [point for point in OUTLINE if taken[point]]
    assert len(rim_points) > 5
    contour = source[list(OUTLINE)].astype(np.float32)
    for point in rim_points:
        was, now = (cv2.pointPolygonTest(contour, tuple(map(float, p[point])), True) for p in (source, covered))
        assert was < 0.5 and now > was + 0.5  # px: from the outline into the face


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
