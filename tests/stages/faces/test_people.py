"""Who is in a clip: tracks, two people or a reason, and how far heads are turned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.stage import Reject
from stages.faces import people
from stages.faces.cuts import CutFinder
from stages.faces.detector import Faces
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
AWAY = merged(faces(LEFT), faces(RIGHT, yaw_deg=75))


def scanned(looks: list[Faces]) -> tuple[Scan, Pictures]:
    """A scan of still pictures, five to a look."""
    num_pictures = 5 * len(looks)
    finder = CutFinder()
    for picture in np.zeros((num_pictures, 90, 160, 3), np.uint8):
        finder.add(picture)
    times_s = np.arange(num_pictures) / (5 * LOOKS_PER_S)
    pictures = Pictures(np.arange(num_pictures), np.arange(num_pictures), times_s, len(looks) / LOOKS_PER_S)
    return Scan(np.arange(0, num_pictures, 5), looks, finder), pictures


def pair_of(looks: list[Faces], **rules: float) -> tuple[people.FaceTrack, people.FaceTrack]:
    scan, pictures = scanned(looks)
    return people.find_pair(scan, pictures, PICTURE_PX, replace(people.PairRules(), **rules))


def reason_of(looks: list[Faces], **rules: float) -> str:
    with pytest.raises(Reject) as caught:
        pair_of(looks, **rules)
    assert caught.value.reason in people.REJECTS
    assert any(letter.isdigit() for letter in caught.value.detail)
    return caught.value.reason


def test_two_lasting_faces_are_the_left_and_the_right_person() -> None:
    left, right = pair_of([faces(RIGHT, LEFT)] * 20)
    assert (left.centre_px[0], right.centre_px[0]) == (300, 900)
    assert left.looks == right.looks == list(range(20))


@pytest.mark.parametrize(
    ("at", "probability", "every"),
    [((610, 500, 180), 0.956, 4), ((610, 500, 180), 0.8, 1), ((620, 100, 60), 0.999, 1)],
    ids=["a hand taken for one now and then", "a pattern that is always half a face", "a small one in the background"],
)
def test_other_faces_do_not_count(at: tuple[float, float, float], probability: float, every: int) -> None:
    other = merged(PAIR, faces(at, probability=probability))
    assert len(pair_of([PAIR if k % every else other for k in range(40)])) == 2


WALK = np.linspace(0, 500, 60)


@pytest.mark.parametrize(
    ("reason", "looks", "passing"),
    [
        ("no_face", [NOBODY] * 20, {}),
        ("not_two_people", [faces(LEFT)] * 20, {}),
        ("not_two_people", [faces(LEFT, RIGHT, (1150, 300, 200))] * 20, {}),
        ("not_two_people", [faces((200, 200, 120), (200, 500, 120), (700, 200, 120), (700, 500, 120))] * 20, {}),
        (
            "not_two_people",
            [PAIR] * 10 + [merged(PAIR, faces((600, 300, 190)))] * 10,
            {},
        ),  # a third for half of the clip
        ("not_two_people", [PAIR] * 4 + [faces(LEFT)] * 16, {}),  # one who goes early
        ("face_missing", [PAIR] * 20 + [faces(RIGHT)] * 15 + [PAIR] * 20, {"max_missing_s": 3}),
        ("face_turned_away", [PAIR] * 20 + [AWAY] * 15 + [PAIR] * 20, {"max_yaw_deg": 80}),
        ("face_too_small", [faces((300, 300, 50), (900, 300, 55))] * 20, {"min_face_px": 50}),
        ("not_side_by_side", [faces((600, 180, 180), (640, 520, 180))] * 20, {}),
        ("not_side_by_side", [faces((300 + step, 200, 150), (800 - step, 520, 150)) for step in WALK], {}),
    ],
)
def test_any_but_two_people_side_by_side_are_rejected(reason: str, looks: list[Faces], passing: dict) -> None:
    assert reason_of(looks) == reason
    if passing:
        assert len(pair_of(looks, **passing)) == 2


def test_a_face_lost_or_turned_away_for_a_moment_is_the_same_person_afterwards() -> None:
    looks = [PAIR] * 10 + [faces(LEFT)] * 6 + [faces(LEFT, (960, 300, 230))] * 10
    left, right = pair_of(looks)
    assert len(left.looks) == 26 and len(right.looks) == 20
    assert len(pair_of([PAIR] * 20 + [AWAY] * 6 + [PAIR] * 20)) == 2


def test_every_face_belongs_to_one_track_and_a_moving_head_is_one() -> None:
    (track,) = people.link([faces((300 + 90 * np.sin(k), 300 + 40 * np.cos(k), 200)) for k in range(30)])
    assert track.looks == list(range(30))
    rng = np.random.default_rng(0)
    looks = [faces(*rng.uniform(50, 600, (int(rng.integers(0, 6)), 3)).tolist()) for _ in range(30)]
    tracks = people.link(looks)
    assert sorted(look for track in tracks for look in track.looks) == sorted(
        look for look, found in enumerate(looks) for _ in range(len(found))
    )
    assert all(np.all(np.diff(track.looks) > 0) for track in tracks)
    assert people.people(people.link([NOBODY] * 5), 5, 0.33, 0.4) == []


def test_boxes_between_looks_lie_between_them_and_say_so() -> None:
    scan, pictures = scanned([faces((300 + 50 * k, 300, 200)) for k in range(4)])
    (track,) = people.link(scan.looks)
    boxes = people.boxes_over_time(track, scan, pictures)
    np.testing.assert_allclose((boxes[:16, 0] + boxes[:16, 2]) / 2, 300 + 10 * np.arange(16), atol=1e-3)
    np.testing.assert_allclose(boxes[15:], np.tile(boxes[15], (5, 1)))
    assert np.flatnonzero(people.detected_over_time(track, scan, pictures)).tolist() == [0, 5, 10, 15]


def test_boxes_follow_time_where_pictures_do_not_come_evenly() -> None:
    scan, _ = scanned([faces((300, 300, 200)), faces((400, 300, 200))])
    times_s = np.array([0, 0.05, 0.06, 0.07, 0.08, 0.1, 0.2, 0.3, 0.4, 0.5])
    pictures = Pictures(np.arange(10), np.array([0, 0, 1, 4, 5]), times_s, 0.6)
    boxes = people.boxes_over_time(people.link(scan.looks)[0], scan, pictures)
    np.testing.assert_allclose((boxes[:, 0] + boxes[:, 2]) / 2, [300, 300, 350, 380, 400], atol=1e-3)


def test_the_longest_run_counts_until_the_next_look() -> None:
    times_s = np.array([0.0, 0.2, 0.4, 0.6, 1.6, 2.0])
    assert people.longest_run_s(np.array([True, True, False, True, False]), times_s) == (pytest.approx(1.0), 0.6)
    assert people.longest_run_s(np.zeros(5, bool), times_s)[0] == 0


@pytest.mark.parametrize("yaw_deg", [-70, -30, 0, 15, 60])
@pytest.mark.parametrize("roll_deg", [-25, 0, 40])
def test_yaw_is_the_angle_of_a_turned_head_however_it_leans(yaw_deg: float, roll_deg: float) -> None:
    roll = np.radians(roll_deg)
    rotation = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    points = faces(LEFT, yaw_deg=yaw_deg).points @ rotation
    assert np.degrees(people.yaw_rad(points))[0] == pytest.approx(yaw_deg, abs=0.1)


@pytest.mark.shared
def test_yaw_agrees_with_the_eye_line_of_another_programs_mesh(shared: Path) -> None:
    """FaceMesh has depth: the line between the outer eye corners tells the angle without any assumption."""
    golden = json.loads((shared / "golden" / "face" / "mtcnn_facemesh.json").read_text())
    right, left = (golden["mesh_indices"].index(point) for point in (33, 263))
    found = [face for entry in golden["frames"] for face in entry["faces"] if face["mesh"]]
    yaw_deg = np.degrees(people.yaw_rad(np.array([face["landmarks5"] for face in found])))
    x, y, z = np.array([np.subtract(face["mesh"][left], face["mesh"][right]) for face in found]).T
    mesh_deg = np.degrees(np.arctan2(z, np.hypot(x, y)))
    assert len(found) > 150 and np.ptp(mesh_deg) > 70
    assert np.quantile(np.abs(yaw_deg - mesh_deg), 0.95) < 10
