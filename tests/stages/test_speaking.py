"""Stage ``speaking`` on a real clip of two halves: the right person speaks, and swapped roles are said."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.clip import Clip, Pair
from pipeline.clock import HOP_SAMPLES, Span
from pipeline.media.encode import VideoWriter, read_video, write_wav
from pipeline.media.reader import SourceReader
from pipeline.stage import Reject, Warned
from pipeline.weights import CACHE_VARIABLE
from schemas.column import ROLES
from stages.faces.mesh import NUM_POINTS, face_boxes
from stages.faces.tracker import Tracker
from stages.speaking import LR_ASD, SWAPPED, Speaking

FRAMES = 75  # of vico/cz7zhbn7aq0u.mp4, whose left person speaks; 512 x 256 at 30 frames/s
SIDE_PX = 256
MakeClip = Callable[[str], Clip]


@pytest.fixture(scope="module")
def clip_with_speaker(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeClip:
    """A clip as the stages before leave it, with the person of a side typed as its speaker."""
    folder = tmp_path_factory.mktemp("clip")
    source = shared / "media/vico/cz7zhbn7aq0u.mp4"
    span = Span(Fraction(0), Fraction(FRAMES, 30))
    with SourceReader(source) as reader:
        write_wav(folder / "audio.wav", reader.audio(span)[: FRAMES * HOP_SAMPLES])
    frames = list(read_video(source, set(range(FRAMES))))
    tracker = Tracker(min_detection=0.5, min_presence=0.9)
    tracks = {}
    for side, first in (("left", 0), ("right", SIDE_PX)):
        half = [np.ascontiguousarray(rgb[:, first : first + SIDE_PX]) for rgb in frames]
        with VideoWriter(folder / f"{side}.mp4", (SIDE_PX, SIDE_PX), crf=10, preset="ultrafast") as writer:
            for picture in half:
                writer.write(picture)
        missing = np.full((NUM_POINTS, 3), np.nan, np.float32)
        tracks[side] = np.stack([missing if found is None else found for found in tracker.follow(half)])

    def make(speaker: str) -> Clip:
        sides = {"speaker": speaker, "listener": "right" if speaker == "left" else "left"}
        values: dict[str, object] = {"clip_id": "source_0_1", "audio": "audio.wav"}
        for role in ROLES:
            track = tracks[sides[role]]
            values |= {f"{role}_video": f"{sides[role]}.mp4", f"{role}_landmarks": track}
            values[f"{role}_landmarks_valid"] = np.isfinite(track).all(axis=(1, 2))
        return Clip(values, span, source, folder, folder)

    return make


def stage(**settings: object) -> Speaking:
    made = Speaking(Speaking.Settings(**settings))
    made.setup("cpu")
    return made


@pytest.fixture
def checkpoint(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's checkpoint where a user puts it."""
    (tmp_path / LR_ASD).symlink_to(shared / "models/lr_asd")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))


@pytest.mark.shared
def test_who_speaks_scores_higher_and_a_clip_typed_rightly_has_no_warning(clip_with_speaker: MakeClip) -> None:
    found = stage().process(clip_with_speaker("left"))
    assert not isinstance(found, Warned)
    assert (found["speaker_speaking"] > found["listener_speaking"]).mean() >= 0.95
    assert found["speaker_speaking"].shape == (FRAMES,)


def test_a_clip_whose_listener_is_a_picture_is_rejected(tmp_path: Path) -> None:
    files = Pair(tmp_path / "film.mp4", tmp_path / "face.png", tmp_path / "film.mp4", portrait=True)
    clip = Clip({"clip_id": "film_0_1"}, Span(Fraction(0), Fraction(1)), files, tmp_path, tmp_path)
    with pytest.raises(Reject) as rejected:
        Speaking(Speaking.Settings()).process(clip)
    assert rejected.value.reason in Speaking.rejects


@pytest.mark.shared
def test_swapped_roles_are_a_warning_with_numbers_and_strictly_a_rejection(clip_with_speaker: MakeClip) -> None:
    found = stage().process(clip_with_speaker("right"))
    assert isinstance(found, Warned) and found.reason == SWAPPED and "voiced frames" in found.detail
    with pytest.raises(Reject, match="voiced frames") as rejected:
        stage(strict=True).process(clip_with_speaker("right"))
    assert rejected.value.reason == SWAPPED


@pytest.mark.shared
@pytest.mark.slow
def test_lr_asd_finds_the_swapped_roles_too(clip_with_speaker: MakeClip, checkpoint: None) -> None:
    found = stage(backend=LR_ASD).process(clip_with_speaker("right"))
    assert isinstance(found, Warned) and found.reason == SWAPPED
    assert (found["listener_speaking"] > found["speaker_speaking"]).mean() >= 0.95


def test_a_box_goes_on_between_valid_frames() -> None:
    landmarks = np.full((5, NUM_POINTS, 3), np.nan, np.float32)
    valid = np.array([False, True, False, True, False])
    for frame in (1, 3):
        landmarks[frame] = np.linspace(0, 100, NUM_POINTS)[:, None] + 10 * frame
        landmarks[frame, 468:] = 1e6  # the irises, which are no part of the mesh
    boxes = face_boxes(landmarks, valid)
    np.testing.assert_allclose(boxes[:, 0], [10, 10, 20, 30, 30])
    assert (boxes < 200).all()
