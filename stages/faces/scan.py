"""One pass over the frames of a clip: cuts in all of them, faces in some.

A search of the whole frame costs ten times as much as a look at two known places, and heads hardly move in the time
between two searches. So every ``search_every``-th look is a search; in the looks between, the faces of the searches
before and after are proposed to the last two networks of the cascade, which correct the boxes and turn down what is no
face. A look that does not find the faces that both searches found is searched whole as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.faces.boxes import Floats, areas, iou, sizes
from stages.faces.cuts import CutFinder
from stages.faces.detector import FaceDetector, Faces, ladder_face_px

MIN_FACE_PX = 20  # smallest face looked for, in pixels of the reduced frame: what facenet-pytorch begins with
SLACK = 0.85  # of the size of a face that would count as a person: sizes vary from look to look
SAME_FACE_IOU = 0.2  # of a face in two searches about a second apart
AROUND = 0.1 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)  # box sizes: where faces are proposed


@dataclass(frozen=True, eq=False)
class Pictures:
    """The different frames of a source that a clip shows; the grid repeats some where the source has less than 30 fps.

    The clip's end ``end_s`` is, as all times here, in the source.
    """

    pts: NDArray[np.int64]  # (picture,) timestamps, rising
    of_frame: NDArray[np.intp]  # (frame,) index of the picture that each grid frame shows
    times_s: NDArray[np.float64]  # (picture,)
    end_s: float

    def __len__(self) -> int:
        return len(self.pts)

    def every(self, k: int) -> NDArray[np.intp]:
        """The pictures of every k-th grid frame and the last one."""
        return np.unique(np.append(self.of_frame[::k], len(self) - 1))


@dataclass(frozen=True, eq=False)
class Scan:
    """What the pass found."""

    looked_at: NDArray[np.intp]  # (look,) the pictures in which faces were looked for
    looks: list[Faces]  # (look,) the faces found there, in pixels of the source
    cuts: CutFinder  # has seen all pictures


def scan(frames: Iterable[NDArray[np.uint8]], looked_at: NDArray[np.intp], looker: Looker, scale: float) -> Scan:
    """Look for cuts in all frames, uint8 RGB (height, width, 3), and for faces in those of the rising indices given.

    The scale is the size of the source's picture in sizes of these reduced frames.
    """
    cuts, wanted = CutFinder(), set(looked_at.tolist())
    with looker:
        for index, frame in enumerate(frames):
            if index in wanted:
                looker.add(frame)
            cuts.add(frame)
        return Scan(looked_at, [faces.scaled(scale) for faces in looker.finish()], cuts)


class Looker:
    """Looks for faces in a thread of its own, so that the next frames are decoded meanwhile.

    A search costs as much as its smallest faces. The first frame is searched down to `MIN_FACE_PX`, each after it down
    to faces that are just too small to be one of the people, beside the largest of the search before.

    Parameters
    ----------
    scale : size of the source's picture in sizes of the frames given.
    relative_size : size, in sizes of the largest face, under which nobody counts as one of the people.
    search_every : every so many looks the whole frame is searched.
    """

    def __init__(self, detector: FaceDetector, scale: float, relative_size: float, search_every: int) -> None:
        self._detector, self._scale, self._relative_size = detector, scale, relative_size
        self._search_every = search_every
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._waiting: list[NDArray[np.uint8]] = []
        self._running: Future[list[Faces]] | None = None
        self._looks: list[Faces] = []

    def __enter__(self) -> Looker:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Look at the next frame, (height, width, 3) uint8 RGB; all of one size."""
        self._waiting.append(frame)
        if len(self._waiting) == self._search_every or self._running is None:
            self._start()

    def finish(self) -> list[Faces]:
        """The faces of all frames added, in pixels of these frames."""
        if self._waiting:
            self._start()
        self._collect()
        return self._looks

    def _start(self) -> None:
        self._collect()
        self._running = self._pool.submit(self._look, np.stack(self._waiting), self._looks[-1:])
        self._waiting = []

    def _collect(self) -> None:
        """Wait for the frames at work, so that no more than as many others wait in memory."""
        if self._running is not None:
            self._looks += self._running.result()

    def _look(self, frames: NDArray[np.uint8], before: list[Faces]) -> list[Faces]:
        """Search the last frame; ``before`` is the search before it, where there is one."""
        largest_px = np.sqrt(areas(before[0].boxes)).max(initial=0) if before else 0.0
        smallest_px = max(MIN_FACE_PX, SLACK * self._relative_size * float(largest_px)) * self._scale
        rung_px = ladder_face_px(smallest_px) / self._scale
        (after,) = self._detector.detect(frames[-1:], rung_px)
        looks = self._follow(frames[:-1], before[0], after) if before and len(frames) > 1 else []
        sure = _pairs(before[0].boxes, after.boxes).shape[1] if before else 0
        for index, faces in enumerate(looks):
            if len(faces) < max(sure, 1):
                (looks[index],) = self._detector.detect(frames[index : index + 1], rung_px)
        return [*looks, after]

    def _follow(self, frames: NDArray[np.uint8], before: Faces, after: Faces) -> list[Faces]:
        shares = np.arange(1, len(frames) + 1) / (len(frames) + 1)
        between = [boxes_between(before.boxes, after.boxes, share) for share in shares]
        return self._detector.confirm(frames, [_and_around(boxes) for boxes in between])


def boxes_between(before: Floats, after: Floats, share: float) -> Floats:
    """Where faces may be at a share of the time between two searches that found boxes (face, 4) each.

    A face that both found has moved evenly; one that only one of them found may be where it was found.
    """
    old, new = _pairs(before, after)
    moved = before[old] + np.float32(share) * (after[new] - before[old])
    return np.concatenate([moved, np.delete(before, old, axis=0), np.delete(after, new, axis=0)])


def _and_around(boxes: Floats) -> Floats:
    """Boxes (face, 4) and each moved a little to four sides: of several proposals the cascade keeps the best."""
    steps = AROUND[:, None] * sizes(boxes)  # (5, face, 2)
    return (boxes + np.tile(steps, 2)).reshape(-1, 4)


def _pairs(before: Floats, after: Floats) -> NDArray[np.intp]:
    """Rows of the same face in two searches, (2, pair): each one's largest overlap is the other."""
    if not len(before) or not len(after):
        return np.empty((2, 0), np.intp)
    overlap = iou(before[:, None], after)
    old, new = np.arange(len(before)), overlap.argmax(axis=1)
    mutual = (overlap.argmax(axis=0)[new] == old) & (overlap[old, new] >= SAME_FACE_IOU)
    return np.stack([old[mutual], new[mutual]])
