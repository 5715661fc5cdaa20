"""Stage ``sync``: with a checkpoint of SyncNet's layout, its numbers are the evaluator's; without one a build stops."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from pipeline.clip import Clip, Pair
from pipeline.clock import HOP_SAMPLES, Span, seconds_of
from pipeline.media.encode import VideoWriter, read_video, write_wav
from pipeline.stage import Reject
from pipeline.weights import CACHE_VARIABLE, find_weights
from schemas.column import ROLES
from stages.evaluate.metrics.lip_sync import confidence, offset
from stages.faces.detector import FaceDetector
from stages.speakers.mfcc import read_sound
from stages.speakers.syncnet import Network, SyncNet, face_boxes, squares
from stages.sync import WEIGHTS, Sync
from tests.stages.evaluate.metrics.test_embeddings import by_formula

FRAMES, SIDE_PX = 30, 384


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of the published layout where a user puts them; their values are nobody's."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    weights = find_weights(WEIGHTS)
    weights.root().mkdir()
    file = weights.root() / next(iter(weights.files))
    torch.save(by_formula(Network).state_dict(), file)
    return file


def clip_of(folder: Path, num_frames: int = FRAMES, portrait: bool = False) -> Clip:
    picture = cv2.resize(skimage.data.astronaut()[:240, 100:340], (SIDE_PX, SIDE_PX))  # NASA, public domain
    with VideoWriter(folder / "head.mp4", (SIDE_PX, SIDE_PX), preset="ultrafast") as writer:
        for frame in range(num_frames):
            writer.write(np.roll(picture, frame % 5, axis=1))
    sound = 0.1 * np.random.default_rng(0).standard_normal(num_frames * HOP_SAMPLES)
    write_wav(folder / "audio.wav", sound.astype(np.float32))
    values: dict[str, object] = {"clip_id": "source_0_1", "audio": "audio.wav"}
    values |= {f"{role}_video": "head.mp4" for role in ROLES}
    source = Pair(folder, folder, folder, portrait=True) if portrait else folder
    return Clip(values, Span(Fraction(0), seconds_of(num_frames)), source, folder, folder)


@pytest.mark.slow
def test_offset_and_confidence_are_those_of_the_evaluator_on_every_frame_at_25_a_second(
    checkpoint: Path, tmp_path: Path
) -> None:
    clip = clip_of(tmp_path, portrait=True)
    stage = Sync()
    stage.setup("cpu")
    columns = stage.process(clip)
    shown = {frame for frame in range(FRAMES) if frame % 6 != 3}
    boxes = face_boxes(read_video(tmp_path / "head.mp4", shown), FaceDetector("cpu"))
    faces = squares(read_video(tmp_path / "head.mp4", shown), boxes)
    places = SyncNet(checkpoint).embeddings(faces, len(shown), read_sound(tmp_path / "audio.wav"))
    assert columns["speaker_sync"] == pytest.approx(confidence(places), rel=1e-4)
    assert columns["speaker_sync_offset"] == offset(places)
    assert columns["listener_sync"] is None and columns["listener_sync_offset"] is None  # a portrait
    for column in stage.writes():
        column.check(columns[column.name], FRAMES)
    with pytest.raises(Reject, match=r"out_of_sync: confidence -?\d+\.\d+, expected 1000 or more"):
        Sync(Sync.Settings(min_confidence=1000))._check(columns["speaker_sync"], 0)
    with pytest.raises(Reject, match="out_of_sync: offset -4 frames at 25 fps, expected 2 at most"):
        Sync(Sync.Settings(max_offset=2))._check(9.0, -4)


def test_a_clip_no_longer_than_the_shifts_is_rejected(checkpoint: Path, tmp_path: Path) -> None:
    stage = Sync()
    stage.setup("cpu")
    with pytest.raises(Reject, match="too_short: 20 frames at 25 fps, expected more than 20"):
        stage.process(clip_of(tmp_path, num_frames=24))
