"""One pass over the frames of a clip: cuts in all of them, faces in some.

A search of the whole frame costs ten times as much as a look at two known places, and heads hardly move in the time
between two searches. So every ``search_every``-th look is a search; in the looks between, the faces of the searches
before and after are proposed to the last two networks of the cascade, which correct the boxes and turn down what is no
face. A look that does not find the faces that both searches found is searched whole as well.

What surrounds the heads found so far is kept by the reader, so that crops can be cut afterwards without decoding again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import VideoTimes
from pipeline.media.reader import SourceReader
from stages.faces.boxes import Floats, areas, centres, containment, iou, sizes
from stages.faces.crops import heads, squares
from stages.faces.cuts import CutFinder, thumb_factor
from stages.faces.detector import FaceDetector, Faces, ladder_face_px

MIN_FACE_PX = 20  # smallest face looked for, in pixels of the reduced frame: what facenet-pytorch begins with
SLACK = 0.85  # of the size of a face that would count as a person: sizes vary from look to look
SAME_FACE_IOU = 0.2  # of a face in two searches about a second apart

KEPT_HEADS = 2  # in a frame; more are no pair
KEPT_ROOM = (1.2, 1.4)  # least and most side of what is kept, in sizes of the head: 1.3 held each crop of 30 clips
PIXEL_BYTES = 1.6  # of 4:2:0, and what rounding takes
ALL_INSIDE = 0.999  # of an area, as floats tell it


@dataclass(frozen=True, eq=False)
class Pictures:
    """The different frames of a source that a clip shows; the grid repeats some where the source has less than 30 fps.

    The clip's end ``end_s`` is, as all times here, in the source.
    """

    pts: NDArray[np.int64]  # (picture,) timestamps, rising
    of_frame: NDArray[np.intp]  # (frame,) index of the picture that each grid frame shows
    times_s: NDArray[np.float64]  # (picture,)
    end_s: float

    @staticmethod
    def of(times: VideoTimes, source_frame: NDArray[np.integer], end_s: float) -> Pictures:
        """Of a clip whose grid frames show these frames (frame,) of the source."""
        shown, of_frame = np.unique(source_frame, return_inverse=True)
        times_s = np.array([float(times.time_s(index)) for index in shown])
        return Pictures(times.pts[shown], of_frame, times_s, end_s)

    def __len__(self) -> int:
        return len(self.pts)

    def frame_at(self, time_s: float) -> int:
        """The first grid frame that shows the picture of that time."""
        return int(np.searchsorted(self.of_frame, np.searchsorted(self.times_s, time_s)))

    def every(self, k: int) -> NDArray[np.intp]:
        """The pictures of every k-th grid frame and the last one."""
        return np.unique(np.append(self.of_frame[::k], len(self) - 1))


@dataclass(frozen=True, eq=False)
class Scan:
    """What the pass found."""

    looked_at: NDArray[np.intp]  # (look,) the pictures in which faces were looked for
    looks: list[Faces]  # (look,) the faces found there, in pixels of the source
    cuts: CutFinder  # has seen all pictures


def scan(
    reader: SourceReader, pts: NDArray[np.int64], looked_at: NDArray[np.intp], width_px: int, *, detector: FaceDetector,
    min_relative_size: float, search_every: int, watched: bool = False,
) -> Scan:  # fmt: skip
    """Look for cuts in a source's frames at some timestamps (picture,), and for faces in those of the indices given.

    Faces are looked for in frames reduced to a width where they are wider, cuts in smaller ones yet.
    ``watched`` as `SourceReader.scan` takes it. The reader keeps what it has decoded around the heads for crops of
    the same frames.
    """
    info = reader.info()
    scale = info.width / min(width_px, info.width)
    size = width, height = min(width_px, info.width), round(info.height / scale)
    factor = thumb_factor(width)
    pictures = reader.scan(pts, (width // factor, max(height // factor, 1)), looked_at, size, watched=watched)
    around = _Surroundings(reader.keep_only, reader.limits.kept_bytes / PIXEL_BYTES / max(len(pts), 1))
    looker = Looker(detector, scale, min_relative_size, search_every, around.see)
    cuts = CutFinder()
    with looker:
        for thumb, frame in pictures:
            if frame is not None:
                looker.add(frame)
            cuts.add(thumb)
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
    searched : is told what every search finds, in pixels of the source, in the caller's thread.
    """

    def __init__(
        self,
        detector: FaceDetector,
        scale: float,
        relative_size: float,
        search_every: int,
        searched: Callable[[Floats], None] = lambda boxes: None,
    ) -> None:
        self._searched = searched
        self._detector, self._scale, self._relative_size = detector, scale, relative_size
        self._search_every = search_every
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._waiting: list[NDArray[np.uint8]] = []
        self._running: Future[list[Faces]] | None = None
        self._untold: Future[list[Faces]] | None = None
        self._looks: list[Faces] = []

    def __enter__(self) -> Looker:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Look at the next frame, (height, width, 3) uint8 RGB; all of one size."""
        self._tell()
        self._waiting.append(frame)
        if len(self._waiting) == self._search_every * self._detector.at_once or self._running is None:
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
        self._waiting, self._untold = [], self._running

    def _collect(self) -> None:
        """Wait for the frames at work, so that no more than as many others wait in memory."""
        if self._running is not None:
            self._looks += self._running.result()
            self._tell()

    def _tell(self) -> None:
        """Say what the latest search has found, once that is known."""
        if self._untold is not None and self._untold.done():
            self._searched(self._untold.result()[-1].scaled(self._scale).boxes)
            self._untold = None

    def _look(self, frames: NDArray[np.uint8], before: list[Faces]) -> list[Faces]:
        """Search every so many frames and the last; ``before`` is the search before them, where there is one."""
        searched = [*range(self._search_every - 1, len(frames) - 1, self._search_every), len(frames) - 1]
        ends = [*before, *self._search(frames[searched], before)]
        looks = dict(zip(searched, ends[len(before) :], strict=True))
        if not before:  # the first frame alone
            return list(looks.values())
        gaps = list(zip([-1, *searched], searched, ends, ends[1:], strict=False))
        proposed: dict[int, Floats] = {}
        for first, last, old, new in gaps:
            for row in range(first + 1, last):
                proposed[row] = boxes_between(old.boxes, new.boxes, (row - first) / (last - first))
        if proposed:
            looks |= zip(proposed, self._detector.confirm(frames[[*proposed]], [*proposed.values()]), strict=True)
        lost: dict[float, list[int]] = {}  # looks to be searched, by how far down
        for first, last, old, new in gaps:
            sure = max(_pairs(old.boxes, new.boxes).shape[1], 1)
            rows = lost.setdefault(self._rung_px([old]), [])
            rows += (row for row in range(first + 1, last) if len(looks[row]) < sure)
        for rung_px, rows in lost.items():
            for start in range(0, len(rows), self._detector.at_once):
                some = rows[start : start + self._detector.at_once]
                looks |= zip(some, self._detector.detect(frames[some], rung_px), strict=True)
        return [looks[row] for row in range(len(frames))]

    def _search(self, frames: NDArray[np.uint8], before: list[Faces]) -> list[Faces]:
        """The faces of whole frames, each searched as far down as the one before it asks for.

        As many at once as the detector takes are searched equally far down; the first that should not have been is
        searched again, so that the faces are those of one search after the other.
        """
        found: list[Faces] = []
        while len(found) < len(frames):
            rung_px = self._rung_px((found or before)[-1:])
            for faces in self._detector.detect(frames[len(found) : len(found) + self._detector.at_once], rung_px):
                if self._rung_px((found or before)[-1:]) != rung_px:
                    break
                found.append(faces)
        return found

    def _rung_px(self, before: list[Faces]) -> float:
        """Smallest face to look for, in pixels of the reduced frame, after this search or none."""
        largest_px = np.sqrt(areas(before[0].boxes)).max(initial=0) if before else 0.0
        smallest_px = max(MIN_FACE_PX, SLACK * self._relative_size * float(largest_px)) * self._scale
        return ladder_face_px(smallest_px) / self._scale


class _Surroundings:
    """Chooses what to keep of each frame: squares around the heads, as large as there is room for in all frames.

    A crop is a little larger than a head and covers the ways that it goes, which nobody knows yet.
    """

    def __init__(self, keep_only: Callable[[Floats], None], pixels: float) -> None:
        self._keep_only, self._pixels = keep_only, pixels
        self._squares = np.empty((0, 4), np.float32)

    def see(self, faces: Floats) -> None:
        """Boxes (face, 4) of faces that were found, largest first."""
        found = heads(faces[:KEPT_HEADS])
        side_px = sizes(found).max(axis=1)
        near = squares(centres(found), side_px)
        if len(found) and not (containment(near[:, None], self._squares) > ALL_INSIDE).any(axis=1).all():
            room = np.clip(np.sqrt(self._pixels / np.square(side_px).sum()), *KEPT_ROOM)
            self._squares = squares(centres(found), room * side_px)
            self._keep_only(self._squares)


def boxes_between(before: Floats, after: Floats, share: float) -> Floats:
    """Where faces may be at a share of the time between two searches that found boxes (face, 4) each.

    A face that both found has moved evenly; one that only one of them found may be where it was found.
    """
    old, new = _pairs(before, after)
    moved = before[old] + np.float32(share) * (after[new] - before[old])
    return np.concatenate([moved, np.delete(before, old, axis=0), np.delete(after, new, axis=0)])


def _pairs(before: Floats, after: Floats) -> NDArray[np.intp]:
    """Rows of the same face in two searches, (2, pair): each one's largest overlap is the other."""
    if not len(before) or not len(after):
        return np.empty((2, 0), np.intp)
    overlap = iou(before[:, None], after)
    old, new = np.arange(len(before)), overlap.argmax(axis=1)
    mutual = (overlap.argmax(axis=0)[new] == old) & (overlap[old, new] >= SAME_FACE_IOU)
    return np.stack([old[mutual], new[mutual]])
