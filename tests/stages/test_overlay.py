"""Stage ``overlay``: a subtitle over a real face that moves, and the same letters where they are none."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from pipeline.clip import Clip
from pipeline.clock import Span, seconds_of
from pipeline.media.encode import VideoWriter
from pipeline.stage import Reject
from schemas.column import ROLES
from stages.faces.tracker import Tracker
from stages.overlay import Overlay

SIDE_PX = 384
FRAMES = 45
SWAY_PX = 12.0
TEXT = ("what do you say", (70, 262))


@pytest.fixture(scope="module")
def astronaut() -> tuple[np.ndarray, np.ndarray]:
    """Eileen Collins of NASA (public domain), and her landmarks."""
    picture = cv2.resize(skimage.data.astronaut()[:240, 100:340], (SIDE_PX, SIDE_PX))
    return picture, next(iter(Tracker(min_detection=0.5, min_presence=0.5).follow([picture])))


def moved(picture: np.ndarray, by_px: np.ndarray) -> np.ndarray:
    matrix = np.array([[1, 0, by_px[0]], [0, 1, by_px[1]]])
    return cv2.warpAffine(picture, matrix, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE)


def written(picture: np.ndarray) -> np.ndarray:
    """White letters with a black rim, as subtitles have them."""
    out = picture.copy()
    for grey, width in ((0, 6), (255, 2)):
        cv2.putText(out, *TEXT, cv2.FONT_HERSHEY_SIMPLEX, 0.9, (grey,) * 3, width, cv2.LINE_AA)
    return out


def overlay(folder: Path, pictures: list[np.ndarray], landmarks: np.ndarray, track: np.ndarray, **settings) -> float:
    with VideoWriter(folder / "head.mp4", (SIDE_PX, SIDE_PX)) as writer:
        for picture in pictures:
            writer.write(picture)
    values: dict[str, object] = {"clip_id": "source_0_1"}
    for role in ROLES:
        values |= {f"{role}_video": "head.mp4", f"{role}_landmarks": landmarks.astype(np.float32)}
        values |= {f"{role}_landmarks_valid": np.ones(len(landmarks), bool), f"{role}_crop_track": track}
    clip = Clip(values, Span(Fraction(0), seconds_of(len(landmarks))), folder, folder, folder)
    stage = Overlay(Overlay.Settings(**settings))
    columns = stage.process(clip)
    for column in stage.writes():
        column.check(columns[column.name], len(landmarks))
    return float(columns["listener_overlay"])


def test_a_subtitle_over_a_face_is_found_and_letters_that_move_with_it_are_none(tmp_path: Path, astronaut) -> None:
    picture, points = astronaut
    way = SWAY_PX * np.sin(2 * np.pi * np.arange(FRAMES) / FRAMES)[:, None] * (1.0, 0.4)
    landmarks = points + np.pad(way, ((0, 0), (0, 1)))[:, None]
    still = np.tile(np.array([100, 50, 292, 242], np.float32), (FRAMES, 1))  # 2 px of the video are one of the source
    heads = [moved(picture, by) for by in way]
    assert overlay(tmp_path, heads, landmarks, still) < 0.005
    titled = [written(head) for head in heads]
    assert overlay(tmp_path, titled, landmarks, still) > 0.04
    assert overlay(tmp_path, [moved(written(picture), by) for by in way], landmarks, still) < 0.005
    with pytest.raises(Reject, match=r"overlay: speaker: 0\.\d+ of the face, expected 0.02 or less"):
        overlay(tmp_path, titled, landmarks, still, max_share=0.02)

    # The crop follows the head: it rests in the video, and what stands in the source moves there
    following = still + np.tile(way, 2).astype(np.float32) / 2
    rests = np.repeat(points[None], FRAMES, axis=0)
    assert (
        overlay(tmp_path, [moved(written(head), -by) for head, by in zip(heads, way, strict=True)], rests, following)
        > 0.04
    )


def test_over_a_face_that_keeps_still_nothing_is_known(tmp_path: Path, astronaut) -> None:
    picture, points = astronaut
    still = np.tile(np.array([100, 50, 292, 242], np.float32), (FRAMES, 1))
    rests = np.repeat(points[None], FRAMES, axis=0)
    assert np.isnan(overlay(tmp_path, [written(picture)] * FRAMES, rests, still, max_share=0.02))
