"""Stage ``gaze``: eyes that are drawn to look aside, mirror images, and a woman who looks into the camera."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from pipeline.clip import Clip
from pipeline.clock import Span, seconds_of
from pipeline.media.encode import read_video
from pipeline.stage import Reject
from schemas.column import ROLES
from stages.faces.tracker import Tracker
from stages.gaze import EYES, Gaze, angles, sights
from stages.threedmm import ThreeDMM

SIDE_PX = 768
AHEAD = np.zeros((1, 3))


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    return Tracker(min_detection=0.5, min_presence=0.5)


@pytest.fixture(scope="module")
def astronaut(tracker: Tracker) -> tuple[np.ndarray, np.ndarray]:
    """Eileen Collins of NASA (public domain), who looks into the camera, with her landmarks."""
    picture = cv2.resize(skimage.data.astronaut()[:240, 100:340], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    return picture, points_in(tracker, picture)


def points_in(tracker: Tracker, picture: np.ndarray) -> np.ndarray:
    return next(iter(tracker.follow([np.ascontiguousarray(picture)])))


def clip_of(landmarks: np.ndarray, folder: Path, **columns: np.ndarray) -> Clip:
    values: dict[str, object] = {"clip_id": "source_0_1"}
    for role in ROLES:
        values |= {f"{role}_landmarks": landmarks, f"{role}_landmarks_valid": np.ones(len(landmarks), bool)}
        values |= {f"{role}_blink": np.zeros(len(landmarks), bool)}
        values |= {f"{role}_{name}": column for name, column in columns.items()}
    return Clip(values, Span(Fraction(0), seconds_of(len(landmarks))), folder, folder, folder)


def looking(picture: np.ndarray, points: np.ndarray, aside_px: float, down_px: float) -> np.ndarray:
    """The picture with its irises moved within the eyes, and lids and corners left where they are."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    from_x, from_y = x.copy(), y.copy()
    for outer, inner, iris in EYES:
        reach_px = 0.3 * np.linalg.norm(points[outer, :2] - points[inner, :2])
        inside = np.exp(-((((x - points[iris, 0]) / reach_px) ** 2 + ((y - points[iris, 1]) / reach_px) ** 2) ** 2))
        from_x -= aside_px * inside
        from_y -= down_px * inside
    return cv2.remap(picture, from_x, from_y, cv2.INTER_LINEAR)


def test_the_gaze_follows_irises_that_are_drawn_to_the_side_and_upwards(astronaut, tracker: Tracker) -> None:
    """FaceMesh follows irises that are moved in a photograph by half of the way, on real films by all of it."""
    moves_px = np.array([-12, -6, 0, 6, 12])
    found = [angles(sights(points_in(tracker, looking(*astronaut, move, 0))[None], AHEAD)[0])[0] for move in moves_px]
    pitch, yaw = np.degrees(found).T
    assert (np.diff(yaw) > 3).all() and np.abs(pitch - pitch[2]).max() < 3
    up = np.degrees(angles(sights(points_in(tracker, looking(*astronaut, 0, -8))[None], AHEAD)[0])[0])
    assert up[0] < pitch[2] - 3 and abs(up[1] - yaw[2]) < 3


def test_a_mirror_image_looks_to_the_other_side(astronaut, tracker: Tracker) -> None:
    picture, points = astronaut
    seen = points_in(tracker, looking(picture, points, 12, 0))
    mirrored = points_in(tracker, looking(picture, points, 12, 0)[:, ::-1])
    one, other = (angles(sights(some[None], AHEAD)[0])[0] for some in (seen, mirrored))
    assert np.degrees(one[1]) > 10 and np.abs(np.degrees(one - other * (1, -1))).max() < 4

    exactly = seen.copy()  # the same points, without another look of FaceMesh
    for pair, twin in zip(EYES, EYES[::-1], strict=True):
        exactly[list(pair)] = seen[list(twin)] * (-1, 1, 1) + (SIDE_PX, 0, 0)
    turned = np.array([[0.1, 0.3, 0.2]])
    for one, other in zip(sights(seen[None], turned), sights(exactly[None], turned * (1, -1, -1)), strict=True):
        np.testing.assert_allclose(other, one * (-1, 1, 1), atol=1e-6)


def test_eyes_that_stay_in_the_head_look_where_it_turns(astronaut, tmp_path: Path) -> None:
    _, points = astronaut
    head = np.array([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0], [0.0, 0.3, 0.0]])
    clip = clip_of(np.repeat(points[None], 3, axis=0), tmp_path, angle=head, blink=np.array([False, False, True]))
    columns = Gaze().process(clip)
    for column in Gaze().writes():
        column.check(columns[column.name], 3)
    gaze, in_head = columns["listener_gaze"], columns["listener_gaze_in_head"]
    np.testing.assert_allclose(gaze[0], in_head[0])
    assert in_head[1, 0] - gaze[1, 0] == pytest.approx(-0.2, abs=0.02)  # the head looks down, the eyes up in it
    assert np.isnan(gaze[2]).all()  # blinks
    with pytest.raises(Reject, match="looks_away: speaker: 0"):
        Gaze(Gaze.Settings(max_away_rad=0.001)).process(clip)


@pytest.mark.shared
@pytest.mark.slow
def test_who_talks_into_the_camera_keeps_the_gaze_on_it_while_the_head_moves(shared: Path, tmp_path: Path) -> None:
    """The vestibulo-ocular reflex: eyes turn in the head against it, about as far."""
    pictures = read_video(shared / "media/b_heads/aoc_hdtf.mp4", set(range(0, 200, 4)))
    landmarks = np.stack(list(Tracker(min_detection=0.5, min_presence=0.5).follow(pictures)))
    fitter = ThreeDMM()
    fitter.setup("cpu")
    head = fitter.process(clip_of(landmarks, tmp_path))["speaker_angle"]
    columns = Gaze().process(clip_of(landmarks, tmp_path, angle=head))
    gaze, in_head = columns["speaker_gaze"], columns["speaker_gaze_in_head"]
    assert np.degrees(np.abs(np.median(gaze, axis=0))).max() < 4
    for axis in (0, 1):
        assert np.median(np.abs(gaze[:, axis] - np.median(gaze[:, axis]))) < 0.6 * np.std(head[:, axis])
        assert np.corrcoef(in_head[:, axis], head[:, axis])[0, 1] < -0.7
