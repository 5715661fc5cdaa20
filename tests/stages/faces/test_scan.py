"""The detection schedule: following finds the faces that searching finds, with a fraction of the searches."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.media.encode import VideoWriter
from pipeline.media.reader import SourceReader
from stages.faces.boxes import iou
from stages.faces.crops import static_square
from stages.faces.detector import FaceDetector, Faces
from stages.faces.people import link
from stages.faces.scan import Looker, boxes_between, scan

SEARCH_EVERY = 5
NUM_LOOKS = 11  # the first, and two times five


class CountingDetector(FaceDetector):
    """Knows how many whole frames it has searched."""

    searched = 0

    def detect(self, frames: NDArray[np.uint8], min_face_px: float = 20) -> list[Faces]:
        self.searched += len(frames)
        return super().detect(frames, min_face_px)


def two_heads(look: int) -> NDArray[np.uint8]:
    """Two real faces (NASA, public domain, in scikit-image): the left one sways by a third of its width in a second."""
    from skimage.data import astronaut

    face = astronaut()[0:220, 110:330]
    frame = np.full((270, 480, 3), 90, np.uint8)
    left = 40 + round(25 * np.sin(look / 2))
    frame[30:210, left : left + 180] = cv2.resize(face, (180, 180), interpolation=cv2.INTER_AREA)
    frame[60:220, 300:460] = cv2.resize(face[:, ::-1], (160, 160), interpolation=cv2.INTER_AREA)
    return frame


def looks_of(
    frames: list[NDArray[np.uint8]], search_every: int, device: str = "cpu", at_once: int = 1
) -> tuple[list[Faces], int]:
    detector = CountingDetector(device, at_once)
    with Looker(detector, 1.0, 0.4, search_every) as looker:
        for frame in frames:
            looker.add(frame)
        return looker.finish(), detector.searched


def test_followed_faces_are_where_a_search_finds_them() -> None:
    frames = [two_heads(look) for look in range(NUM_LOOKS)]
    followed, searched = looks_of(frames, SEARCH_EVERY)
    everywhere, searched_all = looks_of(frames, 1)
    assert (searched, searched_all) == (3, NUM_LOOKS)
    assert [len(faces) for faces in followed] == [len(faces) for faces in everywhere] == [2] * NUM_LOOKS
    overlap = [iou(a.boxes[:, None], b.boxes).max(axis=1) for a, b in zip(followed, everywhere, strict=True)]
    assert np.mean(overlap) > 0.9 and np.min(overlap) > 0.75  # MTCNN's box depends on its proposal


@pytest.mark.parametrize(
    ("num_looks", "gone", "searched"),
    [(NUM_LOOKS, [3], 3 + 1), (NUM_LOOKS, [0, 1, 2, 3], 3), (0, [], 0), (1, [], 1), (4, [], 2)],
)
def test_a_look_that_loses_a_face_is_searched_whole_and_who_comes_is_followed_back(
    num_looks: int, gone: list[int], searched: int
) -> None:
    frames = [two_heads(look) for look in range(num_looks)]
    for look in gone:
        frames[look][:, 250:] = 90  # without the right person
    looks, found = looks_of(frames, SEARCH_EVERY)
    assert [len(faces) for faces in looks] == [1 if look in gone else 2 for look in range(num_looks)]
    assert found == searched


def test_the_heads_of_a_film_that_was_scanned_are_cropped_without_decoding_it_again(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    with VideoWriter(film, (480, 270)) as writer:
        for frame in range(3 * NUM_LOOKS):
            writer.write(two_heads(frame // 3))
    with SourceReader(film) as reader:
        pts = reader.frame_times().pts
        looked_at = np.arange(0, len(pts), 3)
        how = {"detector": FaceDetector(), "min_relative_size": 0.4, "search_every": SEARCH_EVERY}
        found = scan(reader, pts, looked_at, 480, **how)
        tracks = sorted(link(found.looks), key=lambda track: track.centre_px[0])
        squares = np.stack([static_square(track.boxes, 1.4, (480, 270)) for track in tracks])
        everywhere = np.tile(squares, (len(pts), 1, 1))
        os.truncate(film, 0)
        assert len(squares) == 2 and len(list(reader.crops(pts, everywhere, 128))) == len(pts)


def test_a_face_found_twice_is_proposed_in_between_and_a_lone_one_where_it_was() -> None:
    before = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    after = np.array([[90, 90, 99, 99], [4, 0, 14, 10]], np.float32)
    expected = [[1, 0, 11, 10], [50, 50, 60, 60], [90, 90, 99, 99]]
    np.testing.assert_allclose(boxes_between(before, after, 0.25), expected)
    np.testing.assert_allclose(boxes_between(before[:0], after, 0.5), after)


def test_what_a_gpu_searches_together_it_finds_as_one_search_after_the_other_does(device: str) -> None:
    frames = [two_heads(look) for look in range(NUM_LOOKS)]
    for look in (3, 4):
        frames[look] = cv2.resize(frames[look][:, :240], (480, 270))  # one head, twice as wide, and the other gone
    for look in (6, 7):
        frames[look][:, 250:] = 90
    alone, searched = looks_of(frames, 2)
    together, searched_together = looks_of(frames, 2, device, at_once=4)
    assert searched_together > searched  # what the large head asked for was not known before
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other) > 0
        np.testing.assert_allclose(other.boxes, one.boxes, atol=0.05)
        np.testing.assert_allclose(other.points, one.points, atol=0.05)
        np.testing.assert_allclose(other.probabilities, one.probabilities, atol=1e-3)
