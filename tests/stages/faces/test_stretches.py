"""Head videos followed in stretches: the same points as frame by frame, whoever else comes into the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from pipeline.media.encode import GOP_FRAMES, OwnVideo, VideoWriter, read_video
from stages.faces.mesh_batch import MeshTracker
from stages.faces.stretches import AT_ONCE, follow_in_stretches, stretches
from stages.faces.tracker import tracker_on

SIDE_PX = 384


@pytest.fixture(scope="module")
def tracker() -> MeshTracker:
    return tracker_on("cpu", min_detection=0.5, min_presence=0.9, heads=AT_ONCE)


def face(size_px: int, x: float, y: float, frame: np.ndarray | None = None) -> np.ndarray:
    """The face of Eileen Collins of NASA (public domain) at a place of a picture, uint8 (384, 384, 3)."""
    whole = np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8) if frame is None else frame.copy()
    scale = size_px / 200
    matrix = np.array([[scale, 0, x - scale * 125], [0, scale, y]])
    around = np.zeros((512, 512), np.uint8)
    around[:200, 125:325] = 255
    region = cv2.warpAffine(around, matrix, (SIDE_PX, SIDE_PX))
    drawn = cv2.warpAffine(skimage.data.astronaut(), matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_AREA)
    return np.where(region[..., None] > 0, drawn, whole)


def written(path: Path, frames: Sequence[np.ndarray]) -> Path:
    with VideoWriter(path, (SIDE_PX, SIDE_PX), crf=10, preset="ultrafast") as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.mark.parametrize("num_frames", [1, 29, 30, 31, 60, 61, 119, 311, 2700])
def test_stretches_cover_a_video_and_are_equally_long(num_frames: int) -> None:
    found = stretches(num_frames)
    assert [frame for stretch in found for frame in stretch] == list(range(num_frames))
    assert len(found) == min(AT_ONCE, -(-num_frames // GOP_FRAMES))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_a_face_that_moves_goes_and_comes_has_the_points_of_one_track(tmp_path: Path, tracker: MeshTracker) -> None:
    there = [face(260, 60 + 20 * np.sin(k / 9), 50 + k / 4) for k in range(130)]
    gone = [np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8)] * 12
    begin = stretches(len(there) + len(gone))[2].start  # where nobody is
    video = written(tmp_path / "a.mp4", [*there[: begin - 5], *gone, *there[begin - 5 :]])
    still = written(tmp_path / "b.mp4", there[:1])
    moving, one = follow_in_stretches(tracker, [OwnVideo(video), OwnVideo(still)])
    (alone,) = tracker.follow([read_video(video)])
    assert len(stretches(len(moving))) == AT_ONCE and one.shape == (1, 478, 3)
    np.testing.assert_array_equal(np.isnan(moving), np.isnan(alone))
    assert np.isfinite(moving[:, 0, 0]).sum() == 130
    apart = np.linalg.norm((moving - alone)[..., :2], axis=2)
    assert np.nanmedian(apart) < 0.05
    assert np.nanmax(apart.mean(axis=1)) < 0.5  # a last bit grows from frame to frame; unjoined it is 1 px and more


def test_a_track_keeps_its_face_where_a_surer_one_comes(tmp_path: Path, tracker: MeshTracker) -> None:
    first = [face(150, 20, 190 - k / 8) for k in range(130)]
    both = [face(210, 172, 4, frame) if k >= 40 else frame for k, frame in enumerate(first)]
    video = written(tmp_path / "two.mp4", both)
    begin = stretches(len(both))[2].start
    there = list(read_video(video, range(begin, begin + 1)))
    assert tracker.detect(there)[0, 0] > 200  # alone, the stretch that begins here would follow the other one
    (points,), alone = follow_in_stretches(tracker, [OwnVideo(video)]), tracker.follow([read_video(video)])[0]
    assert (alone[:, :468, 0].mean(axis=1) < 180).all()
    np.testing.assert_allclose(points[..., :2].mean(axis=1), alone[..., :2].mean(axis=1), atol=0.5)
