"""Stage ``expression_measures``: people who smile by other people's eyes, and heads that are drawn nodding."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from jobs.demo.conversation import SCENES, SWINGS, perform
from pipeline.clip import Clip
from pipeline.clock import Span, frames_in, runs, seconds_of
from pipeline.media.encode import read_video
from pipeline.stage import Reject
from schemas.column import ROLES
from stages.expression_measures import ExpressionMeasures, measures
from stages.faces.tracker import Tracker

# Frames of listeners, the right halves, who smile or do not by the notes of golden/labels/vico_clips.json
SMILES = (("cte53x3i02lo", 140), ("cz7zhbn7aq0u", 60), ("d336vte2a17j", 200), ("fd21te30h4a7", 200))
SMILES_NOT = (("d336vte2a17j", 60), ("fd21te30h4a7", 60), ("donfyjh9ge50", 60), ("ek3utk9fn46v", 60))
NOISE_RAD = 0.004  # of angles that the stage threedmm finds in films of people who keep still


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    return Tracker(min_detection=0.5, min_presence=0.5)


def points_in(tracker: Tracker, rgb: np.ndarray) -> np.ndarray:
    return next(iter(tracker.follow([np.ascontiguousarray(rgb)])))


def clip_of(landmarks: np.ndarray, angle: np.ndarray, folder: Path) -> Clip:
    values: dict[str, object] = {"clip_id": "source_0_1"}
    for role in ROLES:
        values |= {f"{role}_landmarks": landmarks, f"{role}_angle": angle}
        values[f"{role}_landmarks_valid"] = np.isfinite(landmarks).all(axis=(1, 2))
    return Clip(values, Span(Fraction(0), seconds_of(len(landmarks))), folder, folder, folder)


@pytest.mark.shared
def test_people_who_are_said_to_smile_smile_more_than_those_who_are_not(shared: Path, tracker: Tracker) -> None:
    found = {}
    for clip, frame in (*SMILES, *SMILES_NOT):
        (rgb,) = read_video(shared / f"media/vico/{clip}.mp4", {frame})
        found[clip, frame] = float(measures(points_in(tracker, rgb[:, 256:])[None])["smile"][0])
    assert max(found[one] for one in SMILES_NOT) < 0.54 < min(found[one] for one in SMILES)


@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.source_id)
def test_listeners_of_the_demo_nod_and_shake_where_they_are_drawn_so_and_nowhere_else(scene, turn: int) -> None:
    talk = scene.turns[turn]
    moments = perform(scene, "right" if talk.speaker_side == "left" else "left")
    times_s = [float(talk.span.frame_time(k)) for k in range(talk.span.num_frames)]
    poses = [moments[round(time_s * float(scene.frame_rate))].pose for time_s in times_s]
    drawn = np.array([(pose.nod_rad, pose.turn_rad, pose.roll_rad) for pose in poses])
    angle = drawn + np.random.default_rng(0).normal(0, NOISE_RAD, drawn.shape)
    nod, shake = ExpressionMeasures().gestures(angle)
    expected = [(frames_in(start), frames_in(start + length)) for start, length, _ in SWINGS[talk.attitude]]
    shown, absent = (shake, nod) if talk.attitude == "negative" else (nod, shake)
    assert len(runs(shown)) == len(expected) and not absent.any()
    for (first, stop), (start, end) in zip(runs(shown), expected, strict=True):
        shared_frames = min(stop, end) - max(first, start)
        assert shared_frames / (max(stop, end) - min(first, start)) > 0.5  # they swell and fade


def test_a_look_down_and_up_again_is_no_nod_and_unknown_angles_are_none() -> None:
    down = 0.3 * np.exp(-(((np.arange(90) - 45) / 5) ** 2))
    angle = np.stack([down, 0 * down, 0 * down], axis=1)
    assert not np.any(ExpressionMeasures().gestures(angle))
    assert not np.any(ExpressionMeasures().gestures(np.full((90, 3), np.nan)))


def test_measures_follow_the_face_and_not_its_pose_or_size(tracker: Tracker) -> None:
    face = points_in(tracker, cv2.resize(skimage.data.astronaut()[:240, 100:340], (384, 384))).astype(np.float64)
    yaw, roll = 0.4, 0.3
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    open_, smiling, surprised = face.copy(), face.copy(), face.copy()
    open_[14, 1] += 20
    smiling[[61, 291]] += [(-8, -8, 0), (8, -8, 0)]
    surprised[[107, 105, 336, 334], 1] -= 10
    found = measures(np.stack([face, 1.7 * face @ turn.T @ tilt.T + 5, open_, smiling, surprised]))
    assert found["smile"][0] > 0.54  # Eileen Collins does
    for name, changed in (("mouth_open", 2), ("smile", 3), ("brow_raise", 4)):
        values = found[name]
        assert values[1] == pytest.approx(values[0])
        assert values[changed] > values[0] + 0.05
        np.testing.assert_allclose(np.delete(values, changed), values[0])


def test_a_still_picture_is_rejected_by_its_lack_of_motion(tmp_path: Path) -> None:
    face = np.random.default_rng(0).uniform(0, 384, (1, 478, 3)).astype(np.float32)
    clip = clip_of(np.repeat(face, 30, axis=0), np.zeros((30, 3), np.float32), tmp_path)
    columns = ExpressionMeasures().process(clip)
    for column in ExpressionMeasures().writes():
        column.check(columns[column.name], 30)
    with pytest.raises(Reject, match=r"still_face: speaker: 0.0000, expected 0.001 or more"):
        ExpressionMeasures(ExpressionMeasures.Settings(min_motion=0.001)).process(clip)
