"""Stage ``landmarks``: against points of another program, faces moved by known pixels, and frames without a face."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from pipeline.clip import Clip
from pipeline.clock import FPS, Span
from pipeline.media.encode import VideoWriter, read_video
from pipeline.media.reader import SourceReader
from pipeline.stage import Reject
from stages.faces.tracker import tracker_on
from stages.landmarks import Landmarks

ROOT = Path(__file__).parents[2]
SIDE_PX = 384
NOSE_TIP, RIGHT_EYE_OUTER, LEFT_EYE_OUTER, RIGHT_IRIS, LEFT_IRIS = 1, 33, 263, 468, 473


@cache
def face(shift_px: tuple[float, float] = (0, 0)) -> np.ndarray:
    """A real face, Eileen Collins of NASA (public domain), uint8 (384, 384, 3), moved by whole or broken pixels."""
    scale = SIDE_PX / 240
    matrix = np.array([[scale, 0, shift_px[0] - scale * 100], [0, scale, shift_px[1]]])
    options = {"flags": cv2.INTER_AREA, "borderMode": cv2.BORDER_REPLICATE}
    return cv2.warpAffine(skimage.data.astronaut(), matrix, (SIDE_PX, SIDE_PX), **options)


def wall() -> np.ndarray:
    """Bricks: texture, and no face."""
    return np.repeat(cv2.resize(skimage.data.brick(), (SIDE_PX, SIDE_PX))[:, :, None], 3, axis=2)


def clip_of(folder: Path, speaker: list[np.ndarray], listener: list[np.ndarray] | None = None) -> Clip:
    """A clip with these frames, as the face stage leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    for role, frames in (("speaker", speaker), ("listener", listener or speaker)):
        with VideoWriter(folder / f"{role}.mp4", (SIDE_PX, SIDE_PX), crf=10, preset="ultrafast") as writer:
            for frame in frames:
                writer.write(frame)
    values = {"clip_id": "source_0_1", "speaker_video": "speaker.mp4", "listener_video": "listener.mp4"}
    values = {**values, "source_damaged": np.zeros(len(speaker), bool)}
    span = Span(Fraction(0), Fraction(len(speaker), FPS))
    return Clip(values, span, folder / "source.mp4", folder, folder / "scratch")


def made(**settings: float) -> Landmarks:
    stage = Landmarks(Landmarks.Settings(**settings))
    stage.setup("cpu")
    return stage


@pytest.fixture(scope="module")
def stage() -> Landmarks:
    return made()


def distance_px(points: np.ndarray, others: np.ndarray) -> float:
    """Mean distance of the points in the picture plane."""
    return float(np.linalg.norm((points - others)[..., :2], axis=-1).mean())


def test_every_column_has_its_declared_type_and_shape(stage: Landmarks, tmp_path: Path) -> None:
    values = stage.process(clip_of(tmp_path, [face()] * 4))
    assert list(values) == [column.name for column in stage.writes()]
    for column in stage.writes():
        column.check(values[column.name], num_frames=4)
    assert values["listener_landmarks"].dtype == np.float32


def test_the_points_lie_where_they_lie_in_the_picture(stage: Landmarks, tmp_path: Path) -> None:
    points = stage.process(clip_of(tmp_path, [face()] * 2))["speaker_landmarks"][0]
    assert points[RIGHT_EYE_OUTER, 0] < points[RIGHT_IRIS, 0] < points[NOSE_TIP, 0]  # the subject's right: image left
    assert points[NOSE_TIP, 0] < points[LEFT_IRIS, 0] < points[LEFT_EYE_OUTER, 0]
    assert points[NOSE_TIP, 2] < points[RIGHT_EYE_OUTER, 2]  # the nose is nearer to the camera, at smaller z
    for iris in (RIGHT_IRIS, LEFT_IRIS):  # the darkest thing around is the pupil
        x, y = points[iris, :2].round().astype(int)
        assert face()[y - 2 : y + 3, x - 2 : x + 3].mean() < 0.6 * face()[y + 30 : y + 40, x - 5 : x + 5].mean()


def test_clips_followed_side_by_side_give_the_columns_of_each_alone(
    stage: Landmarks, tmp_path: Path, device: str
) -> None:
    moving = [face((2.0 * k, 0)) for k in range(4)]
    clips = [
        clip_of(tmp_path / "a", moving),
        clip_of(tmp_path / "b", moving, [wall()] * 4),
        clip_of(tmp_path / "c", moving[:2], moving[::-1][:2]),
    ]
    together = Landmarks()
    together.setup(device)
    found = together.process_part(clips)
    assert isinstance(found[1], Reject) and found[1].reason == "face_not_tracked"
    for clip, values in ((clips[0], found[0]), (clips[2], found[2])):
        assert isinstance(values, dict)
        for name, alone in stage.process(clip).items():
            np.testing.assert_allclose(values[name], alone, rtol=0, atol=0.5)


@pytest.mark.shared
def test_a_first_look_gives_the_points_of_another_program_within_half_a_pixel(shared: Path) -> None:
    golden = json.loads((shared / "golden" / "face" / "mtcnn_facemesh.json").read_text())
    name = "a_dyadic/interview_tv_splitscreen.mp4"
    wanted = {entry["frame"]: entry["faces"] for entry in golden["frames"] if entry["file"] == name}
    tracker = tracker_on("cpu", min_detection=0.5, min_presence=0.5, heads=1)
    worst_px = []
    with SourceReader(shared / "media" / name) as reader:
        times = reader.frame_times()
        for (_, rgb), faces in zip(reader.frames([times.pts[k] for k in wanted]), wanted.values(), strict=True):
            for found in faces:
                picture = [golden_crop(rgb, *found["crop"])]
                (points,), _ = tracker.look(picture, tracker.detect(picture))
                worst_px.append(np.abs(points.numpy()[golden["mesh_indices"]] - np.array(found["mesh"])).max())
    assert len(worst_px) == 20
    assert max(worst_px) < 0.5


def golden_crop(rgb: np.ndarray, x0: int, y0: int, side: int) -> np.ndarray:
    """The square as golden/README.md describes it: zeros outside the picture, bilinear to 256 px."""
    padded = np.pad(rgb, ((side, side), (side, side), (0, 0)))
    return cv2.resize(padded[y0 + side : y0 + 2 * side, x0 + side : x0 + 2 * side], (256, 256))


def test_points_move_with_a_face_that_is_moved_by_known_pixels(stage: Landmarks, tmp_path: Path) -> None:
    shifts_px = [(0.0, 0.0), (4.0, 0.0), (8.0, 3.0), (12.0, 6.5), (16.0, 10.0)]
    points = stage.process(clip_of(tmp_path, [face(shift) for shift in shifts_px]))["speaker_landmarks"]
    np.testing.assert_allclose((points - points[0])[..., :2].mean(axis=1), shifts_px, atol=0.8)


def test_a_jump_arrives_in_its_own_frame_without_lag(stage: Landmarks, tmp_path: Path) -> None:
    """A temporal filter would bring part of the jump later; the tracker's square, a frame old, adds a tenth to it."""
    jump_px = 14.0
    frames = [face()] * 6 + [face((jump_px, 0.0))] * 6
    x_px = stage.process(clip_of(tmp_path, frames))["speaker_landmarks"][..., 0].mean(axis=1)
    steps_px = np.diff(x_px)
    assert steps_px.argmax() == 5
    assert jump_px - 0.5 < steps_px[5] < 1.15 * jump_px
    assert np.abs(np.delete(steps_px, [5, 6])).max() < 0.5


@pytest.mark.shared
@pytest.mark.parametrize("name", ["cz7zhbn7aq0u", "d336vte2a17j", "fd21te30h4a7", "ek3utk9fn46v"])
def test_the_first_frame_does_not_stand_apart(name: str, shared: Path) -> None:
    """Heads held still: the step from the detector's square to the tracker's must not show as motion in frame 1."""
    both_heads = next(read_video(shared / "media" / "vico" / f"{name}.mp4"))
    tracker = tracker_on("cpu", min_detection=0.5, min_presence=0.9, heads=1)
    for half in np.split(both_heads, 2, axis=1):
        still = cv2.resize(half, (SIDE_PX, SIDE_PX))
        first, square = tracker.look([still], tracker.detect([still]))
        unsettled_px = distance_px(first[0].numpy(), tracker.look([still], square)[0][0].numpy())
        settled_px = distance_px(*tracker.follow([[still] * 2])[0])
        assert unsettled_px > 1
        assert settled_px < 0.5


def test_frames_without_a_face_are_not_valid_and_hold_no_numbers(tmp_path: Path) -> None:
    frames = [face()] * 8 + [wall()] * 5 + [face()] * 3 + [wall()] + [face((5.0, 5.0))] * 4
    expected = np.array([True] * 8 + [False] * 5 + [True] * 3 + [False] + [True] * 4)
    values = made(min_valid=0.5).process(clip_of(tmp_path, [face()] * len(frames), frames))
    np.testing.assert_array_equal(values["listener_landmarks_valid"], expected)
    assert np.isnan(values["listener_landmarks"][~expected]).all()
    assert np.isfinite(values["listener_landmarks"][expected]).all()
    assert values["speaker_landmarks_valid"].all()


def test_damaged_frames_are_not_valid_though_a_face_is_seen(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, [face()] * 6)
    clip.values["source_damaged"][2:4] = True
    values = made(min_valid=0.5).process(clip)
    for role in ("speaker", "listener"):
        assert values[f"{role}_landmarks_valid"].tolist() == [True, True, False, False, True, True]
        np.testing.assert_array_equal(np.isnan(values[f"{role}_landmarks"]).all(axis=(1, 2)), [0, 0, 1, 1, 0, 0])
    clip.values["source_damaged"][:] = True
    with pytest.raises(Reject, match="face_not_tracked"):
        made(min_valid=0.5).process(clip)


def test_a_face_that_turns_up_elsewhere_is_found_in_the_same_frame(stage: Landmarks, tmp_path: Path) -> None:
    small = cv2.resize(face(), (SIDE_PX // 2, SIDE_PX // 2), interpolation=cv2.INTER_AREA)
    left, right = np.zeros((2, SIDE_PX, SIDE_PX, 3), np.uint8)
    left[: SIDE_PX // 2, : SIDE_PX // 2] = small
    right[SIDE_PX // 2 :, SIDE_PX // 2 :] = small
    values = stage.process(clip_of(tmp_path, [left] * 4 + [right] * 4))
    assert values["speaker_landmarks_valid"].all()
    moved_px = np.diff(values["speaker_landmarks"][[3, 4]], axis=0)[0, :, :2].mean(axis=0)
    np.testing.assert_allclose(moved_px, SIDE_PX / 2, atol=3)


@pytest.mark.parametrize("min_presence", [0.9, 0.0])
def test_the_numbers_of_a_clip_do_not_depend_on_what_ran_before(min_presence: float, tmp_path: Path) -> None:
    moving = [face((float(k), 0.0)) for k in range(6)]
    first = clip_of(tmp_path / "first", moving, [face((0.0, 9.0))] * 6)
    other = clip_of(tmp_path / "other", [face((20.0, 20.0))] * 3, [wall()] * 2 + [face()])
    swapped = clip_of(tmp_path / "swapped", [face((0.0, 9.0))] * 6, moving)
    stage = made(min_presence=min_presence, min_valid=0.0)
    before = stage.process(first)
    stage.process(other)
    after, exchanged = stage.process(first), stage.process(swapped)
    fresh = made(min_presence=min_presence, min_valid=0.0).process(first)
    for role, partner in (("speaker", "listener"), ("listener", "speaker")):
        column = before[f"{role}_landmarks"]
        np.testing.assert_array_equal(after[f"{role}_landmarks"], column)
        np.testing.assert_array_equal(fresh[f"{role}_landmarks"], column)
        np.testing.assert_array_equal(exchanged[f"{partner}_landmarks"], column)


def test_a_clip_with_too_few_valid_frames_is_rejected_with_both_shares(stage: Landmarks, tmp_path: Path) -> None:
    clip = clip_of(tmp_path, [face()] * 10, [face()] * 8 + [wall()] * 2)
    with pytest.raises(Reject) as rejected:
        stage.process(clip)
    assert rejected.value.reason in stage.rejects
    assert rejected.value.detail == "of 10 frames: speaker in 100.0%, listener in 80.0%; expected at least 90.0%"
    made(min_valid=0.8).process(clip)


def test_nothing_is_printed(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from tests.stages.test_landmarks import clip_of, face, made
clip, stage = clip_of(Path({str(tmp_path)!r}), [face()] * 3), made()
for _ in range(2):
    stage.process(clip)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_module_that_is_only_imported_does_not_load_mediapipe() -> None:
    program = "import sys, stages.landmarks, stages.blink; sys.exit('mediapipe' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
