"""Who is in a clip: tracks, two people or a reason, and how far heads are turned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.stage import Reject
from stages.faces.cuts import CutFinder
from stages.faces.detector import Faces
from stages.faces.people import (
    REJECTS,
    FaceTrack,
    PairRules,
    boxes_over_time,
    detected_over_time,
    find_pair,
    link,
    longest_run_s,
    people,
    yaw_rad,
)
from stages.faces.scan import Pictures, Scan

PICTURE_PX = (1280, 720)
FRONTAL = np.array([[-0.2, -0.1], [0.2, -0.1], [0.0, 0.1], [-0.15, 0.3], [0.15, 0.3]])  # in box widths from the middle
LOOKS_PER_S = 6


def faces(*at: tuple[float, float, float], probability: float = 0.999, yaw_deg: float = 0.0) -> Faces:
    """Faces at centre x, y with a width, the nose aside as if the head were turned."""
    middle = np.array([(x, y) for x, y, _ in at], np.float32).reshape(-1, 2)
    width = np.array([[w] for _, _, w in at], np.float32).reshape(-1, 1)
    half = width * np.array([0.5, 0.6], np.float32)
    points = FRONTAL.copy()
    points[:2] *= np.cos(np.radians(yaw_deg))
    points[2, 0] = 1.15 * 0.2 * np.sin(np.radians(yaw_deg))
    return Faces(
        np.concatenate([middle - half, middle + half], axis=1).astype(np.float32),
        np.full(len(middle), probability, np.float32),
        (middle[:, None] + width[:, None] * points).astype(np.float32),
    )


def merged(*parts: Faces) -> Faces:
    return Faces(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("boxes", "probabilities", "points")))


LEFT, RIGHT = (300.0, 300.0, 200.0), (900.0, 320.0, 220.0)
PAIR = faces(LEFT, RIGHT)
NOBODY = faces()


def scanned(looks: list[Faces]) -> tuple[Scan, Pictures]:
    """A scan of still pictures, five to a look."""
    num_pictures = 5 * len(looks)
    finder = CutFinder()
    for _ in range(num_pictures):
        finder.add(np.zeros((90, 160, 3), np.uint8))
    times_s = np.arange(num_pictures) / (5 * LOOKS_PER_S)
    pictures = Pictures(np.arange(num_pictures), np.arange(num_pictures), times_s, len(looks) / LOOKS_PER_S)
    return Scan(np.arange(0, num_pictures, 5), looks, finder), pictures


def pair_of(looks: list[Faces], **rules: float) -> tuple[FaceTrack, FaceTrack]:
    scan, pictures = scanned(looks)
    return find_pair(scan, pictures, PICTURE_PX, replace(PairRules(), **rules))


def reason_of(looks: list[Faces], **rules: float) -> str:
    with pytest.raises(Reject) as caught:
        pair_of(looks, **rules)
    assert caught.value.reason in REJECTS
    assert any(letter.isdigit() for letter in caught.value.detail)
    return caught.value.reason


def test_two_lasting_faces_are_the_left_and_the_right_person() -> None:
    left, right = pair_of([faces(RIGHT, LEFT)] * 20)
    assert (left.centre_px[0], right.centre_px[0]) == (300, 900)
    assert left.looks == right.looks == list(range(20))


def test_hands_taken_for_faces_now_and_then_do_not_count() -> None:
    hand = faces((610, 500, 180), probability=0.956)
    looks = [merged(PAIR, hand) if k % 4 == 0 else PAIR for k in range(40)]
    assert len(pair_of(looks)) == 2


def test_a_pattern_that_is_always_half_a_face_does_not_count() -> None:
    tie = faces((610, 500, 180), probability=0.8)
    assert len(pair_of([merged(PAIR, tie)] * 20)) == 2


def test_small_faces_in_the_background_do_not_count() -> None:
    poster = faces((620, 100, 60))
    assert len(pair_of([merged(PAIR, poster)] * 20)) == 2


@pytest.mark.parametrize(
    "looks",
    [
        [faces(LEFT)] * 20,
        [faces(LEFT, RIGHT, (1150, 300, 200))] * 20,
        [faces((200, 200, 120), (200, 500, 120), (700, 200, 120), (700, 500, 120))] * 20,
        [PAIR] * 10 + [merged(PAIR, faces((600, 300, 190)))] * 10,  # a third person who comes for half of the clip
        [PAIR] * 4 + [faces(LEFT)] * 16,  # one who goes early
    ],
)
def test_any_other_number_of_people_is_rejected(looks: list[Faces]) -> None:
    assert reason_of(looks) == "not_two_people"


def test_a_clip_without_any_face_is_rejected_as_such() -> None:
    assert reason_of([NOBODY] * 20) == "no_face"


def test_a_face_lost_for_a_moment_is_the_same_person_afterwards() -> None:
    looks = [PAIR] * 10 + [faces(LEFT)] * 6 + [faces(LEFT, (960, 300, 230))] * 10
    left, right = pair_of(looks)
    assert len(left.looks) == 26 and len(right.looks) == 20


def test_a_face_lost_for_longer_is_missing() -> None:
    looks = [PAIR] * 20 + [faces(RIGHT)] * 15 + [PAIR] * 20
    assert reason_of(looks) == "face_missing"
    assert len(pair_of(looks, max_missing_s=3)) == 2


def test_a_head_turned_away_for_longer_is_rejected() -> None:
    away = merged(faces(LEFT), faces(RIGHT, yaw_deg=75))
    looks = [PAIR] * 20 + [away] * 15 + [PAIR] * 20
    assert reason_of(looks) == "face_turned_away"
    assert len(pair_of(looks, max_yaw_deg=80)) == 2
    assert len(pair_of([PAIR] * 20 + [away] * 6 + [PAIR] * 20)) == 2


def test_small_faces_are_rejected_by_their_size_in_the_source() -> None:
    looks = [faces((300, 300, 50), (900, 300, 55))] * 20
    assert reason_of(looks) == "face_too_small"
    assert len(pair_of(looks, min_face_px=50)) == 2


def test_people_one_above_the_other_have_no_left_and_right() -> None:
    assert reason_of([faces((600, 180, 180), (640, 520, 180))] * 20) == "not_side_by_side"


def test_people_who_change_sides_are_rejected() -> None:
    walk = np.linspace(0, 1, 60)
    looks = [faces((300 + 500 * step, 200, 150), (800 - 500 * step, 520, 150)) for step in walk]
    assert reason_of(looks) == "not_side_by_side"


def test_a_moving_head_is_one_track() -> None:
    looks = [faces((300 + 90 * np.sin(k), 300 + 40 * np.cos(k), 200)) for k in range(30)]
    (track,) = link(looks)
    assert track.looks == list(range(30))


def test_every_face_belongs_to_one_track() -> None:
    rng = np.random.default_rng(0)
    looks = [faces(*rng.uniform(50, 600, (int(rng.integers(0, 6)), 3)).tolist()) for _ in range(30)]
    tracks = link(looks)
    assert sorted(look for track in tracks for look in track.looks) == sorted(
        look for look, found in enumerate(looks) for _ in range(len(found))
    )
    assert all(np.all(np.diff(track.looks) > 0) for track in tracks)


def test_nobody_is_no_person() -> None:
    assert people(link([NOBODY] * 5), 5, 0.33, 0.4) == []


def test_boxes_between_looks_lie_between_them_and_say_so() -> None:
    scan, pictures = scanned([faces((300 + 50 * k, 300, 200)) for k in range(4)])
    (track,) = link(scan.looks)
    boxes = boxes_over_time(track, scan, pictures)
    np.testing.assert_allclose((boxes[:16, 0] + boxes[:16, 2]) / 2, 300 + 10 * np.arange(16), atol=1e-3)
    np.testing.assert_allclose(boxes[15:], np.tile(boxes[15], (5, 1)))
    assert np.flatnonzero(detected_over_time(track, scan, pictures)).tolist() == [0, 5, 10, 15]


def test_boxes_follow_time_where_pictures_do_not_come_evenly() -> None:
    scan, _ = scanned([faces((300, 300, 200)), faces((400, 300, 200))])
    times_s = np.array([0, 0.05, 0.06, 0.07, 0.08, 0.1, 0.2, 0.3, 0.4, 0.5])
    pictures = Pictures(np.arange(10), np.array([0, 0, 1, 4, 5]), times_s, 0.6)
    boxes = boxes_over_time(link(scan.looks)[0], scan, pictures)
    np.testing.assert_allclose((boxes[:, 0] + boxes[:, 2]) / 2, [300, 300, 350, 380, 400], atol=1e-3)


def test_the_longest_run_counts_until_the_next_look() -> None:
    times_s = np.array([0.0, 0.2, 0.4, 0.6, 1.6, 2.0])
    assert longest_run_s(np.array([True, True, False, True, False]), times_s) == (pytest.approx(1.0), 0.6)
    assert longest_run_s(np.zeros(5, bool), times_s)[0] == 0


@pytest.mark.parametrize("yaw_deg", [-70, -30, 0, 15, 60])
@pytest.mark.parametrize("roll_deg", [-25, 0, 40])
def test_yaw_is_the_angle_of_a_turned_head_however_it_leans(yaw_deg: float, roll_deg: float) -> None:
    roll = np.radians(roll_deg)
    rotation = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    points = faces(LEFT, yaw_deg=yaw_deg).points @ rotation
    assert np.degrees(yaw_rad(points))[0] == pytest.approx(yaw_deg, abs=0.1)


@pytest.mark.shared
def test_yaw_agrees_with_the_eye_line_of_another_programs_mesh(shared: Path) -> None:
    """FaceMesh has depth: the line between the outer eye corners tells the angle without any assumption."""
    golden = json.loads((shared / "golden" / "face" / "mtcnn_facemesh.json").read_text())
    right, left = (golden["mesh_indices"].index(point) for point in (33, 263))
    found = [face for entry in golden["frames"] for face in entry["faces"] if face["mesh"]]
    yaw_deg = np.degrees(yaw_rad(np.array([face["landmarks5"] for face in found])))
    mesh_deg = np.array([_eye_line_deg(np.array(face["mesh"])[[right, left]]) for face in found])
    assert len(found) > 150 and np.ptp(mesh_deg) > 70
    assert np.quantile(np.abs(yaw_deg - mesh_deg), 0.95) < 10


def _eye_line_deg(corners: NDArray[np.float64]) -> float:
    x, y, z = corners[1] - corners[0]
    return float(np.degrees(np.arctan2(z, np.hypot(x, y))))
