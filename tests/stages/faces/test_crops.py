"""Crop policies: whole heads, steady squares, true pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.faces.boxes import centres, containment, iou, sizes
from stages.faces.crops import apart, heads, moving_squares, static_square

PICTURE_PX = (1920, 1080)
MARGIN = 1.4


def boxes_at(x: object, y: object, width: float = 200, num_frames: int = 90) -> NDArray[np.float32]:
    """Face boxes (frame, 4) of usual proportions about a centre."""
    centre = np.stack(np.broadcast_arrays(x, y, np.zeros(num_frames))[:2], axis=1)
    half = np.array([width / 2, width * 1.2 / 2])
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


def is_square(box: NDArray[np.float32]) -> bool:
    return bool(np.allclose(sizes(box)[..., 0], sizes(box)[..., 1], atol=1e-2))


def test_the_square_of_a_still_face_is_the_margin_times_its_height() -> None:
    square = static_square(boxes_at(900, 500), MARGIN, PICTURE_PX)
    assert is_square(square)
    assert sizes(square)[0] == pytest.approx(MARGIN * 240, abs=1)
    assert containment(square, heads(boxes_at(900, 500)[0])) == pytest.approx(1)


def test_a_moving_head_stays_in_its_static_square() -> None:
    frame = np.arange(90)
    boxes = boxes_at(900 + 80 * np.sin(frame / 9), 500 + 40 * np.cos(frame / 7))
    square = static_square(boxes, MARGIN, PICTURE_PX)
    assert containment(square, boxes).min() == pytest.approx(1)
    assert np.mean(containment(square, heads(boxes)) > 0.97) > 0.9


def test_single_wild_boxes_do_not_move_a_static_square() -> None:
    wild = boxes_at(900, 500)
    wild[[10, 40, 70]] += 150
    assert iou(static_square(wild, MARGIN, PICTURE_PX), static_square(boxes_at(900, 500), MARGIN, PICTURE_PX)) > 0.98


@pytest.mark.parametrize("x, y", [(40, 60), (1900, 1070), (60, 1000)])
def test_squares_keep_inside_the_picture_and_are_no_larger(x: float, y: float) -> None:
    assert static_square(boxes_at(128, 128, width=190), MARGIN, (512, 256)).tolist() == [0, 0, 256, 256]
    still = static_square(boxes_at(x, y), MARGIN, PICTURE_PX)
    for square in (still, moving_squares(boxes_at(x, y), MARGIN, PICTURE_PX, 0)[0]):
        assert is_square(square)
        assert (square[:2] >= 0).all() and (square[2:] <= PICTURE_PX).all()


def test_neighbours_in_a_split_screen_step_apart_and_people_who_sit_close_keep_their_squares() -> None:
    left, right = np.array([0, 0, 256, 256], np.float32), np.array([249, 0, 505, 256], np.float32)
    assert [square.tolist() for square in apart(left, right, (512, 256))] == [[0, 0, 256, 256], [256, 0, 512, 256]]
    left, right = np.array([300, 100, 700, 500], np.float32), np.array([500, 100, 900, 500], np.float32)
    assert [square.tolist() for square in apart(left, right, PICTURE_PX)] == [left.tolist(), right.tolist()]


def test_the_smooth_square_follows_slowly_and_without_jitter() -> None:
    rng = np.random.default_rng(3)
    frame = np.arange(300)
    true_x = 700 + frame
    boxes = boxes_at(true_x + rng.normal(0, 7, 300), 500 + rng.normal(0, 7, 300), num_frames=300)
    smooth = moving_squares(boxes, MARGIN, PICTURE_PX, sigma_frames=12)
    inner = slice(40, -40)
    assert np.abs(centres(smooth)[inner, 0] - true_x[inner]).max() < 6
    jitter_px = np.abs(np.diff(centres(smooth)[inner, 0]) - 1).mean()
    assert jitter_px < 0.3 < np.abs(np.diff(centres(boxes)[:, 0]) - 1).mean()
    assert np.ptp(sizes(smooth)) == pytest.approx(0, abs=1e-2)


def test_the_square_of_every_frame_follows_every_box() -> None:
    boxes = boxes_at(900 + 50 * np.sin(np.arange(90)), 500)
    offset = centres(moving_squares(boxes, MARGIN, PICTURE_PX, sigma_frames=0)) - centres(boxes)
    assert np.abs(offset - offset[0]).max() < 1e-2
