"""One pass over the frames of a clip: faces in some of them, cuts in all."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.faces.boxes import Floats, areas
from stages.faces.cuts import CutFinder
from stages.faces.detector import FaceDetector, Faces, ladder_face_px
from stages.faces.tracks import Track

BATCH_FRAMES = 8  # looked at together
MIN_FACE_PX = 20  # smallest face looked for, in pixels of the reduced frame: what facenet-pytorch begins with
SLACK = 0.85  # of the size of a face that would count as a person: sizes vary from look to look


@dataclass(frozen=True, eq=False)
class Pictures:
    """The different frames of a source that a clip shows; the grid repeats some where the source has less than 30 fps.

    Attributes
    ----------
    pts : (picture,) timestamps, rising.
    of_frame : (frame,) index of the picture that each grid frame shows.
    times_s : (picture,) in the source; end_s : the clip's end in the source.
    """

    pts: NDArray[np.int64]
    of_frame: NDArray[np.intp]
    times_s: NDArray[np.float64]
    end_s: float

    def __len__(self) -> int:
        return len(self.pts)

    def every(self, k: int) -> NDArray[np.intp]:
        """The pictures of every k-th grid frame and the last one."""
        return np.unique(np.append(self.of_frame[::k], len(self) - 1))


@dataclass(frozen=True, eq=False)
class Scan:
    """What the pass found.

    Attributes
    ----------
    looked_at : (look,) the pictures in which faces were looked for.
    looks : (look,) the faces found there, in pixels of the source.
    cuts : has seen all pictures.
    """

    looked_at: NDArray[np.intp]
    looks: list[Faces]
    cuts: CutFinder


class _Looker:
    """Looks for faces in batches, in a thread of its own, so that the next frames are decoded meanwhile.

    A search costs as much as its smallest faces. The first frame is searched down to `MIN_FACE_PX`, each batch after it
    down to faces that are just too small to be one of the people, beside the largest of the batch before.
    """

    def __init__(self, detector: FaceDetector, pool: ThreadPoolExecutor, scale: float, relative_size: float) -> None:
        self._detector, self._pool, self._scale, self._relative_size = detector, pool, scale, relative_size
        self._waiting: list[NDArray[np.uint8]] = []
        self._running: Future[list[Faces]] | None = None
        self._looks: list[Faces] = []
        self._largest_px = 0.0

    def add(self, frame: NDArray[np.uint8]) -> None:
        self._waiting.append(frame)
        if len(self._waiting) == (BATCH_FRAMES if self._largest_px else 1):
            self._start()

    def finish(self) -> list[Faces]:
        """The faces of all frames added, in pixels of the reduced frames."""
        if self._waiting:
            self._start()
        self._collect()
        return self._looks

    def _start(self) -> None:
        self._collect()
        smallest_px = max(MIN_FACE_PX, SLACK * self._relative_size * self._largest_px) * self._scale
        rung_px = ladder_face_px(smallest_px) / self._scale
        self._running = self._pool.submit(self._detector.detect, np.stack(self._waiting), rung_px)
        self._waiting = []

    def _collect(self) -> None:
        """Wait for the batch at work, so that no more than one other waits in memory."""
        if self._running is not None:
            looks = self._running.result()
            self._looks += looks
            self._largest_px = float(np.median([np.sqrt(areas(faces.boxes)).max(initial=0) for faces in looks]))
            self._running = None


def scan(
    frames: Iterable[NDArray[np.uint8]],
    looked_at: NDArray[np.intp],
    detector: FaceDetector,
    scale: float,
    min_relative_size: float,
) -> Scan:
    """Look for cuts in all frames and for faces in those given.

    Parameters
    ----------
    frames : (height, width, 3) uint8 RGB, reduced.
    looked_at : indices of the frames to look at, rising.
    scale : size of the source's picture in sizes of the reduced one.
    min_relative_size : size, in sizes of the largest face, under which nobody counts as one of the people.
    """
    cuts, wanted = CutFinder(), set(looked_at.tolist())
    with ThreadPoolExecutor(max_workers=1) as pool:
        looker = _Looker(detector, pool, scale, min_relative_size)
        for index, frame in enumerate(frames):
            if index in wanted:
                looker.add(frame)
            cuts.add(frame)
        return Scan(looked_at, [faces.scaled(scale) for faces in looker.finish()], cuts)


def boxes_over_time(person: Track, found: Scan, pictures: Pictures) -> Floats:
    """A person's face box in every grid frame, (frame, 4): interpolated in time between finds, held at the ends."""
    finds_s = pictures.times_s[found.looked_at[person.looks]]
    edges = [np.interp(pictures.times_s, finds_s, edge) for edge in np.stack(person.boxes, axis=1)]
    return np.stack(edges, axis=1).astype(np.float32)[pictures.of_frame]


def detected_over_time(person: Track, found: Scan, pictures: Pictures) -> NDArray[np.bool_]:
    """Whether each grid frame (frame,) shows a picture in which the person's face was found."""
    return np.isin(pictures.of_frame, found.looked_at[person.looks])
