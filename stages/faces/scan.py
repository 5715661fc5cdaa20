"""One pass over the frames of a clip: faces in some of them, cuts in all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.faces.boxes import Floats
from stages.faces.cuts import CutFinder
from stages.faces.detector import Faces
from stages.faces.looker import Looker
from stages.faces.tracks import Track


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


def scan(frames: Iterable[NDArray[np.uint8]], looked_at: NDArray[np.intp], looker: Looker, scale: float) -> Scan:
    """Look for cuts in all frames and for faces in those given.

    Parameters
    ----------
    frames : (height, width, 3) uint8 RGB, reduced.
    looked_at : indices of the frames to look at, rising.
    scale : size of the source's picture in sizes of the reduced one.
    """
    cuts, wanted = CutFinder(), set(looked_at.tolist())
    with looker:
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
