"""Who is in the clip: faces linked over time, and the two people that persist.

MTCNN takes hands, ties and pictures on a wall for faces, with probabilities up to .96, and misses a face for a moment
that laughs with a bowed head. So no single frame decides: a person is a face that is there for a good part of the clip
and about as large as the largest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stages.faces.boxes import Floats, areas, centres, iou
from stages.faces.detector import Faces

MIN_LINK_IOU = 0.2  # a head that moves by half its width between two looks still overlaps by a third
MAX_JUMP_SIZES = 1.0  # a face that was lost for a while comes back within its own size of where it was lost
MAX_SIZE_RATIO = 1.6  # and has about the same size
MIN_PROBABILITY = 0.9  # median over a track: faces have .95 in profile and .999 from the front, false ones .6 to .85
NOSE_DEPTH = 1.15  # of its tip before the eyes, in half eye distances: fits the angle of FaceMesh on 198 faces


@dataclass
class Track:
    """One face over time.

    Attributes
    ----------
    looks : indices of the frames looked at in which it was found, rising.
    boxes, probabilities, points : what was found there, see `Faces`.
    """

    looks: list[int] = field(default_factory=list)
    boxes: list[Floats] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    points: list[Floats] = field(default_factory=list)

    def add(self, look: int, faces: Faces, row: int) -> None:
        self.looks.append(look)
        self.boxes.append(faces.boxes[row])
        self.probabilities.append(float(faces.probabilities[row]))
        self.points.append(faces.points[row])

    def extend(self, later: Track) -> None:
        self.looks += later.looks
        self.boxes += later.boxes
        self.probabilities += later.probabilities
        self.points += later.points

    @property
    def size_px(self) -> float:
        """Median side of a square as large as the box."""
        return float(np.median(np.sqrt(areas(np.stack(self.boxes)))))

    @property
    def centre_px(self) -> Floats:
        """Median centre x, y."""
        return np.asarray(np.median(centres(np.stack(self.boxes)), axis=0))

    def yaws_rad(self) -> Floats:
        """How far the head is turned to the side at every look, see `yaw_rad`."""
        return yaw_rad(np.stack(self.points))


def yaw_rad(points: Floats) -> Floats:
    """Angle by which heads are turned to the side, from the five points (..., 5, 2) of `Faces`; > 0 to image right.

    Seen from above, the eyes lie at -1 and +1 on a line and the nose's tip stands `NOSE_DEPTH` out of its middle.
    Turned by an angle, the eyes come within cos(yaw) of the middle and the nose moves NOSE_DEPTH * sin(yaw) beside it.
    """
    half_eye_line = (points[..., 1, :] - points[..., 0, :]) / 2
    nose = points[..., 2, :] - (points[..., 0, :] + points[..., 1, :]) / 2
    half_distance = np.hypot(half_eye_line[..., 0], half_eye_line[..., 1])
    aside = (nose * half_eye_line).sum(axis=-1) / np.maximum(half_distance, 1e-6)  # along the line of the eyes
    return np.asarray(np.arctan2(aside, NOSE_DEPTH * half_distance))


def link(looks: list[Faces]) -> list[Track]:
    """Faces of successive looks as tracks, each face in one of them.

    A face joins the track whose last box it overlaps most; then tracks that end are joined to tracks that begin later
    at the same place, nearest first.
    """
    tracks: list[Track] = []
    for look, faces in enumerate(looks):
        _continue(tracks, look, faces)
    return _rejoin(tracks)


def _continue(tracks: list[Track], look: int, faces: Faces) -> None:
    alive = [track for track in tracks if track.looks[-1] == look - 1]
    free = set(range(len(faces)))
    if alive and free:
        overlap = iou(np.stack([track.boxes[-1] for track in alive])[:, None], faces.boxes)
        for _ in range(min(overlap.shape)):
            row, column = (int(index) for index in np.unravel_index(overlap.argmax(), overlap.shape))
            if overlap[row, column] < MIN_LINK_IOU:
                break
            alive[row].add(look, faces, column)
            free.discard(column)
            overlap[row], overlap[:, column] = -1, -1
    for row in sorted(free):
        tracks.append(Track())
        tracks[-1].add(look, faces, row)


def _rejoin(tracks: list[Track]) -> list[Track]:
    """Join what one person's face left behind when it was lost and found again."""
    joined: list[Track] = []
    for track in tracks:  # in the order in which they begin
        ended = [old for old in joined if old.looks[-1] < track.looks[0] and _same_place(old, track)]
        if ended:
            max(ended, key=lambda old: old.looks[-1]).extend(track)
        else:
            joined.append(track)
    return joined


def _same_place(old: Track, new: Track) -> bool:
    last, first = old.boxes[-1], new.boxes[0]
    side_px = np.sqrt(np.array([areas(last), areas(first)]))
    apart_px = np.hypot(*(centres(first) - centres(last)))
    return bool(side_px.max() <= MAX_SIZE_RATIO * side_px.min() and apart_px <= MAX_JUMP_SIZES * side_px.min())


def people(tracks: list[Track], num_looks: int, min_share: float, min_relative_size: float) -> list[Track]:
    """The persons among the tracks, from left to right.

    Parameters
    ----------
    num_looks : how many frames were looked at.
    min_share : a person is found in this share of them. Hands and people who walk by are not.
    min_relative_size : and has a face of at least this size, in sizes of the largest that lasts. Photographs on the
        wall, insets and people in the background have not.
    """
    lasting = [
        track
        for track in tracks
        if len(track.looks) >= min_share * num_looks and np.median(track.probabilities) >= MIN_PROBABILITY
    ]
    largest_px = max((track.size_px for track in lasting), default=0.0)
    persons = [track for track in lasting if track.size_px >= min_relative_size * largest_px]
    return sorted(persons, key=lambda track: track.centre_px[0])


def longest_run_s(wrong: NDArray[np.bool_], times_s: NDArray[np.float64]) -> tuple[float, float]:
    """Length and beginning of the longest time in which all looks are wrong, each standing for the time until the next.

    Parameters
    ----------
    wrong : (look,); times_s : (look + 1,) when they were taken, and the clip's end.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wrong, [False]]).astype(np.int8)))
    starts_s, ends_s = times_s[edges[::2]], times_s[edges[1::2]]
    if not len(starts_s):
        return 0.0, float(times_s[0])
    longest = int((ends_s - starts_s).argmax())
    return float(ends_s[longest] - starts_s[longest]), float(starts_s[longest])
