"""Stage ``face``: roles, crops and reasons, on generated films of real faces and on real films."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import FPS, Span, map_to_grid
from pipeline.media.encode import VideoWriter, read_video
from pipeline.media.reader import SourceReader
from pipeline.settings import resolve
from pipeline.stage import Reject
from schemas.column import ROLES
from schemas.errors import UserError
from stages.face import Face
from stages.faces.boxes import centres, containment, iou, sizes

Frame = NDArray[np.uint8]
Film = Callable[[int], Frame]
Found = dict[str, Any]

SIZE_PX = (640, 360)
NUM_FRAMES = 36


def head(size_px: int, mirrored: bool = False) -> Frame:
    """A real face (NASA, public domain, in scikit-image)."""
    from skimage.data import astronaut

    picture = astronaut()[0:220, 110:330]
    picture = picture[:, ::-1] if mirrored else picture
    return np.asarray(cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_AREA))


LEFT_HEAD, RIGHT_HEAD = head(260), head(220, mirrored=True)


def sway_px(frame: int) -> int:
    return round(12 * np.sin(2 * np.pi * frame / 24))


def two_people(frame: int) -> Frame:
    """A large head on the left that sways, a smaller one on the right that sits still; a wall of their own each."""
    picture = np.empty((SIZE_PX[1], SIZE_PX[0], 3), np.uint8)
    picture[:, :320], picture[:, 320:] = (110, 120, 90), (70, 90, 120)
    picture[60:320, 30 + sway_px(frame) : 290 + sway_px(frame)] = LEFT_HEAD
    picture[90:310, 380:600] = RIGHT_HEAD
    return picture


def source_of(folder: Path, film: Film, num_frames: int = NUM_FRAMES) -> Path:
    path = folder / "source.mp4"
    with VideoWriter(path, SIZE_PX, crf=10) as writer:
        for frame in range(num_frames):
            writer.write(np.ascontiguousarray(film(frame), np.uint8))
    return path


def process(stage: Face, source: Path, span: Span, folder: Path, speaker_side: str = "left") -> Found:
    """The stage's columns of one clip, checked as the store checks them."""
    columns = {"clip_id": "clip", "speaker_side": speaker_side, "audio_level_dbfs": -20.0}
    columns |= {"sound_damaged": np.zeros(span.num_frames, bool)}
    clip = Clip(columns, span, source, folder, folder / "scratch")
    try:
        clip.values["source_frame"] = map_to_grid(span, clip.reader().frame_times()).source_frame
        found = stage.process(clip)
    finally:
        clip.close()
    assert sorted(found) == sorted(column.name for column in stage.writes())
    return {column.name: column.check(found[column.name], span.num_frames) for column in stage.writes()}


def stage_with(**settings: Any) -> Face:
    stage = Face(resolve("face", Face.Settings, settings))
    stage.setup("cpu")
    return stage


@pytest.fixture(scope="module")
def stage() -> Face:
    return stage_with()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return source_of(tmp_path_factory.mktemp("film"), two_people)


WHOLE = Span(Fraction(0), Fraction(NUM_FRAMES, FPS))


@pytest.fixture(scope="module")
def found(stage: Face, film: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return process(stage, film, WHOLE, tmp_path_factory.mktemp("found"))


def test_both_heads_come_out_in_videos_of_the_clips_length(found: Found) -> None:
    for role in ROLES:
        frames = list(read_video(found[f"{role}_video"]))
        assert len(frames) == NUM_FRAMES
        assert frames[0].shape == (384, 384, 3)
        assert containment(found[f"{role}_crop_track"], found[f"{role}_box"]).min() > 0.99


def test_the_box_moves_with_the_face_and_says_in_which_frames_it_was_found(found: Found) -> None:
    drawn_px = np.array([sway_px(frame) for frame in range(NUM_FRAMES)])
    moved_px = centres(found["speaker_box"])[:, 0] - centres(found["speaker_box"])[:, 0].mean()
    assert np.corrcoef(drawn_px, moved_px)[0, 1] > 0.97
    assert np.abs(moved_px - (drawn_px - drawn_px.mean())).mean() < 3
    assert np.ptp(centres(found["listener_box"]), axis=0).max() < 3
    expected = sorted({*range(0, NUM_FRAMES, Face().settings.detect_every), NUM_FRAMES - 1})
    for role in ROLES:
        assert np.flatnonzero(found[f"{role}_box_detected"]).tolist() == expected


def test_roles_follow_the_speakers_side(found: Found, stage: Face, film: Path, tmp_path: Path) -> None:
    left, right = found, process(stage, film, WHOLE, tmp_path, "right")
    for name in ("box", "crop_box", "crop_track"):
        np.testing.assert_array_equal(left[f"speaker_{name}"], right[f"listener_{name}"])
        np.testing.assert_array_equal(left[f"listener_{name}"], right[f"speaker_{name}"])
    assert centres(left["speaker_box"])[:, 0].max() < 320 < centres(right["speaker_box"])[:, 0].min()
    assert Path(left["speaker_video"]).read_bytes() == Path(right["listener_video"]).read_bytes()


def test_the_static_crop_holds_still(found: Found) -> None:
    np.testing.assert_array_equal(found["speaker_crop_track"], np.tile(found["speaker_crop_box"], (NUM_FRAMES, 1)))
    width, height = sizes(found["speaker_crop_box"])
    assert width == height
    frames = np.stack(list(read_video(found["listener_video"]))).astype(float)
    assert np.abs(frames - frames[0]).mean() < 2  # the listener sits still, and so must the crop


@pytest.mark.parametrize("policy", ["smooth", "per_frame"])
def test_moving_crops_follow_the_head_they_show(policy: str, film: Path, tmp_path: Path) -> None:
    found = process(stage_with(policy=policy), film, WHOLE, tmp_path)
    track, boxes = found["speaker_crop_track"], found["speaker_box"]
    assert len(list(read_video(found["speaker_video"]))) == NUM_FRAMES
    assert containment(track, boxes).min() > 0.95
    detected = found["speaker_box_detected"]
    assert detected.all() if policy == "per_frame" else 0.1 < detected.mean() < 0.5
    steps_px = np.abs(np.diff(centres(track)[:, 0]))
    assert steps_px.max() < 2 if policy == "smooth" else steps_px.max() > 2


def test_the_same_clip_gives_the_same_bytes(found: Found, stage: Face, film: Path, tmp_path: Path) -> None:
    second = process(stage, film, WHOLE, tmp_path)
    for name, value in found.items():
        if name.endswith("_video"):
            assert Path(value).read_bytes() == Path(second[name]).read_bytes()
        else:
            np.testing.assert_array_equal(value, second[name])


@pytest.mark.parametrize(
    ("film_of", "reason", "detail"),
    [
        (lambda frame: np.where(np.arange(640)[:, None] < 320, two_people(frame), 100), "not_two_people", "found 1"),
        (lambda frame: np.full((360, 640, 3), 128, np.uint8), "no_face", "found none"),
        (lambda frame: two_people(frame) if frame < 18 else 255 - two_people(frame)[:, ::-1], "shot_cut", "at 0.60 s"),
    ],
)
def test_unusable_clips_say_why(film_of: Film, reason: str, detail: str, stage: Face, tmp_path: Path) -> None:
    with pytest.raises(Reject, match=detail) as caught:
        process(stage, source_of(tmp_path, film_of), WHOLE, tmp_path)
    assert caught.value.reason == reason
    assert list(caught.value.frames) == ([18] if reason == "shot_cut" else [])
    assert reason in Face.rejects
    assert not list((tmp_path / "scratch").glob("*.mp4"))


def test_a_silent_pair_is_rejected_after_the_picture(stage: Face, film: Path, tmp_path: Path) -> None:
    for level_dbfs, reason in ((-75.0, "silence"), (None, "no_audio")):
        columns = {"clip_id": "clip", "speaker_side": "left", "audio_level_dbfs": level_dbfs}
        columns |= {"source_frame": np.arange(NUM_FRAMES, dtype=np.int32), "sound_damaged": np.zeros(NUM_FRAMES, bool)}
        clip = Clip(columns, WHOLE, film, tmp_path, tmp_path)
        with pytest.raises(Reject) as caught:
            stage.process(clip)
        clip.close()
        assert caught.value.reason == reason


def test_settings_that_cannot_be_are_refused_with_what_can() -> None:
    with pytest.raises(UserError, match="per_frame"):
        resolve("face", Face.Settings, {"policy": "wobbly"})
    with pytest.raises(UserError, match="detect_every: found 0, allowed: 1 or more"):
        resolve("face", Face.Settings, {"detect_every": 0})
    assert resolve("face", Face.Settings, {"silence_dbfs": -90}).silence_dbfs == -90.0


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "start", "end"),
    [
        ("a_dyadic/interview_tv_splitscreen.mp4", "10.75", "13"),
        ("a_dyadic/grid_pair2_lbax4n_lbbc2a.mp4", "3", "5"),
        ("a_dyadic/hd_pairs_open.mp4", "6", "8"),  # ends at a cut, to the frame
        ("vico/donfyjh9ge50.mp4", "5", "7"),
    ],
)
def test_real_conversations_come_through(
    file: str, start: str, end: str, stage: Face, shared: Path, tmp_path: Path
) -> None:
    span = Span(Fraction(start), Fraction(end))
    found = process(stage, shared / "media" / file, span, tmp_path)
    for role in ROLES:
        assert len(list(read_video(found[f"{role}_video"]))) == span.num_frames
        inside = containment(found[f"{role}_crop_track"], found[f"{role}_box"])
        assert np.quantile(inside, 0.1) > 0.97


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "start", "end"),
    [
        ("a_dyadic/interview_tv_splitscreen.mp4", "0", "9"),
        ("a_dyadic/hd_pairs_open.mp4", "0", "8"),
        ("vico/donfyjh9ge50.mp4", "0", "9"),
    ],
)
def test_boxes_over_time_are_those_of_facenet_pytorch_at_full_resolution(
    file: str, start: str, end: str, stage: Face, shared: Path, tmp_path: Path
) -> None:
    span, overlaps = Span(Fraction(start), Fraction(end)), []
    found = process(stage, shared / "media" / file, span, tmp_path)
    with SourceReader(shared / "media" / file) as reader:
        shown = map_to_grid(span, reader.frame_times()).source_frame
    golden = json.loads((shared / "golden" / "face" / "mtcnn_facemesh.json").read_text())["frames"]
    for entry in golden:
        if entry["file"] == file and entry["frame"] in shown:
            frame = int(np.flatnonzero(shown == entry["frame"])[0])
            boxes = np.array([face["box"] for face in entry["faces"]], np.float32)
            overlaps += [iou(found[f"{role}_box"][frame], boxes).max() for role in ROLES]
    assert len(overlaps) >= 8 and np.mean(overlaps) >= 0.9


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "start", "end", "reason"),
    [
        ("a_dyadic/cnn_four_box.mp4", "2", "4", "not_two_people"),
        ("a_dyadic/hd_pairs_open.mp4", "7", "9", "shot_cut"),
        ("a_dyadic/grid_pair1_bbaf2n_brbk7n.mp4", "2", "4", "shot_cut"),
        ("a_dyadic/talkshow_cuts_352x288.mp4", "3", "8", "shot_cut"),
        ("e_robustness/fades_noface.mp4", "0", "4", "no_face"),
        ("e_robustness/street_crowd_1080p.mp4", "0", "1.5", "not_two_people"),
    ],
)
def test_real_films_without_two_people_are_rejected_for_the_right_reason(
    file: str, start: str, end: str, reason: str, stage: Face, shared: Path, tmp_path: Path
) -> None:
    with pytest.raises(Reject) as caught:
        process(stage, shared / "media" / file, Span(Fraction(start), Fraction(end)), tmp_path)
    assert caught.value.reason == reason
