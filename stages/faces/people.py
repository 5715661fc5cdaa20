"""Who is in the clip: faces linked over time, and the two people that persist, or the reason why there are not two.

MTCNN takes hands, ties and pictures on a wall for faces, with probabilities up to .96, and misses a face for a moment
that laughs with a bowed head. So no single frame decides: a person is a face that is there for a good part of the clip
and about as large as the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import radians

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Reject, setting
from stages.faces.boxes import Floats, areas, centres, iou
from stages.faces.crops import heads
from stages.faces.cuts import ShotCut
from stages.faces.detector import Faces
from stages.faces.scan import Pictures, Scan

MIN_LINK_IOU = 0.2  # a head that moves by half its width between two looks still overlaps by a third
MAX_JUMP_SIZES = 1.0  # a face that was lost for a while comes back within its own size of where it was lost
MAX_SIZE_RATIO = 1.6  # and has about the same size
MIN_PROBABILITY = 0.9  # median over a track: faces have .95 in profile and .999 from the front, false ones .6 to .85
NOSE_DEPTH = 1.15  # of its tip before the eyes, in half eye distances: fits the angle of FaceMesh on 198 faces

REJECTS = {
    "no_face": "no face is found in the clip",
    "not_two_people": "not exactly two faces of comparable size last through the clip",
    "not_one_person": "speaker and listener come apart, and the film or the picture does not show one person alone",
    "not_side_by_side": "the two faces lie one above the other or change sides",
    "shot_cut": "the picture is cut inside the clip",
    "face_too_small": "a face is smaller than min_face_px",
    "face_missing": "a face is not found for longer than max_missing_s",
    "face_turned_away": "a face is turned by more than max_yaw_deg, or not found, for longer than max_missing_s",
}
MIN_APART_SIZES = 0.5  # how far the faces' centres lie apart sideways, in sizes of the smaller face


@dataclass
class FaceTrack:
    """One face over time."""

    looks: list[int]  # indices of the frames looked at in which it was found, rising
    faces: list[Faces]  # and the one face there

    @property
    def boxes(self) -> Floats:
        return np.concatenate([face.boxes for face in self.faces])

    @property
    def size_px(self) -> float:
        """Median side of a square as large as the box."""
        return float(np.median(np.sqrt(areas(self.boxes))))

    @property
    def centre_px(self) -> Floats:
        """Median centre x, y."""
        return np.asarray(np.median(centres(self.boxes), axis=0))


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


def link(looks: list[Faces]) -> list[FaceTrack]:
    """Faces of successive looks as tracks, each face in one of them.

    A face joins the track whose last box it overlaps most; then tracks that end are joined to tracks that begin later
    at the same place, nearest first.
    """
    tracks: list[FaceTrack] = []
    for look, faces in enumerate(looks):
        _continue(tracks, look, faces)
    return _rejoin(tracks)


def _continue(tracks: list[FaceTrack], look: int, faces: Faces) -> None:
    alive = [track for track in tracks if track.looks[-1] == look - 1]
    free = set(range(len(faces)))
    if alive and free:
        overlap = iou(np.stack([track.faces[-1].boxes for track in alive]), faces.boxes)
        for _ in range(min(overlap.shape)):
            row, column = (int(index) for index in np.unravel_index(overlap.argmax(), overlap.shape))
            if overlap[row, column] < MIN_LINK_IOU:
                break
            alive[row].looks.append(look)
            alive[row].faces.append(faces.take(column))
            free.discard(column)
            overlap[row], overlap[:, column] = -1, -1
    tracks += [FaceTrack([look], [faces.take(row)]) for row in sorted(free)]


def _rejoin(tracks: list[FaceTrack]) -> list[FaceTrack]:
    """Join what one person's face left behind when it was lost and found again."""
    joined: list[FaceTrack] = []
    for track in tracks:  # in the order in which they begin
        ended = [old for old in joined if old.looks[-1] < track.looks[0] and _same_place(old, track)]
        if ended:
            latest = max(ended, key=lambda old: old.looks[-1])
            latest.looks += track.looks
            latest.faces += track.faces
        else:
            joined.append(track)
    return joined


def _same_place(old: FaceTrack, new: FaceTrack) -> bool:
    last, first = old.faces[-1].boxes[0], new.faces[0].boxes[0]
    side_px = np.sqrt(np.array([areas(last), areas(first)]))
    apart_px = np.hypot(*(centres(first) - centres(last)))
    return bool(side_px.max() <= MAX_SIZE_RATIO * side_px.min() and apart_px <= MAX_JUMP_SIZES * side_px.min())


def people(tracks: list[FaceTrack], num_looks: int, min_share: float, min_relative_size: float) -> list[FaceTrack]:
    """The persons among the tracks, from left to right.

    A person is found in ``min_share`` of all looks: hands and people who walk by are not. And has a face of at least
    ``min_relative_size`` in sizes of the largest that lasts: photographs, insets and people in the background have not.
    """
    lasting = [
        track
        for track in tracks
        if len(track.looks) >= min_share * num_looks
        and np.median([float(face.probabilities[0]) for face in track.faces]) >= MIN_PROBABILITY
    ]
    largest_px = max((track.size_px for track in lasting), default=0.0)
    persons = [track for track in lasting if track.size_px >= min_relative_size * largest_px]
    return sorted(persons, key=lambda track: track.centre_px[0])


def longest_run_s(wrong: NDArray[np.bool_], times_s: NDArray[np.float64]) -> tuple[float, float]:
    """Length and beginning of the longest time in which all looks are wrong, each standing for the time until the next.

    The times (look + 1,) are those at which the looks (look,) were taken, and the clip's end.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wrong, [False]]).astype(np.int8)))
    starts_s, ends_s = times_s[edges[::2]], times_s[edges[1::2]]
    if not len(starts_s):
        return 0.0, float(times_s[0])
    longest = int((ends_s - starts_s).argmax())
    return float(ends_s[longest] - starts_s[longest]), float(starts_s[longest])


@dataclass(frozen=True)
class PairRules:
    """What two people must fulfil."""

    min_share: float = setting(0.33, "a person's face is found in at least this share of the frames looked at")
    min_relative_size: float = setting(0.4, "and is at least this large, in sizes of the largest face that lasts")
    min_face_px: float = setting(64.0, "smallest side of a face box in the source, at the median")
    max_missing_s: float = setting(2.0, "longest time for which a face may be missing or turned away")
    max_yaw_deg: float = setting(60.0, "a face turned to the side by more is turned away")


def find_pair(
    scan: Scan, pictures: Pictures, picture_px: tuple[int, int], rules: PairRules
) -> tuple[FaceTrack, FaceTrack]:
    """The left and the right person.

    Raises
    ------
    Reject : with a reason of `REJECTS` and the numbers found. Times count from the beginning of the source.
    """
    persons = _persons(scan, pictures, rules, "expected 2 people")
    if len(persons) != 2:
        raise Reject("not_two_people", f"found {_listed(persons, len(scan.looks))}, expected 2 people")
    left, right = persons
    for person in persons:
        _check_cuts(head_cuts(person, scan, picture_px), pictures)
    check_sides(left, right)
    for side, person in (("left", left), ("right", right)):
        _check_face(f"the {side} face", person, scan, rules, pictures)
    return left, right


def find_one(scan: Scan, pictures: Pictures, picture_px: tuple[int, int], rules: PairRules, role: str) -> FaceTrack:
    """The one person of a film or a picture, who has that role; raises as `find_pair`."""
    expected = f"expected the {role} alone"
    persons = _persons(scan, pictures, rules, expected)
    if len(persons) != 1:
        raise Reject("not_one_person", f"found {_listed(persons, len(scan.looks))}, {expected}")
    _check_cuts(head_cuts(persons[0], scan, picture_px), pictures)
    _check_face(f"the {role}'s face", persons[0], scan, rules, pictures)
    return persons[0]


def _persons(scan: Scan, pictures: Pictures, rules: PairRules, expected: str) -> list[FaceTrack]:
    if not any((faces.probabilities >= MIN_PROBABILITY).any() for faces in scan.looks):
        raise Reject("no_face", f"found none in {len(scan.looks)} frames, {expected}")
    _check_cuts(scan.cuts.picture_cuts(), pictures)
    return people(link(scan.looks), len(scan.looks), rules.min_share, rules.min_relative_size)


def head_cuts(person: FaceTrack, scan: Scan, picture_px: tuple[int, int]) -> list[ShotCut]:
    """The cuts that are seen around one person's head."""
    middle = heads(np.median(person.boxes, axis=0)) / np.tile(np.array(picture_px, np.float32), 2)
    return scan.cuts.head_cuts(middle)


def _check_cuts(cuts: list[ShotCut], pictures: Pictures) -> None:
    if cuts:
        places = "; ".join(f"at {pictures.times_s[cut.frame]:.2f} s, {cut.evidence}" for cut in cuts[:5])
        frames = [pictures.frame_at(pictures.times_s[cut.frame]) for cut in cuts]
        raise Reject("shot_cut", f"{len(cuts)} in the clip: {places}", frames)


def check_sides(left: FaceTrack, right: FaceTrack) -> None:
    """Raises `Reject` where two people do not sit side by side throughout."""
    apart_px = float(right.centre_px[0] - left.centre_px[0])
    expected_px = MIN_APART_SIZES * min(left.size_px, right.size_px)
    if apart_px < expected_px:
        raise Reject("not_side_by_side", f"{apart_px:.0f} px apart sideways, expected {expected_px:.0f} or more")
    _, in_left, in_right = np.intersect1d(left.looks, right.looks, return_indices=True)
    ahead_px = centres(right.boxes)[in_right, 0] - centres(left.boxes)[in_left, 0]
    if (ahead_px <= 0).any():
        raise Reject("not_side_by_side", f"the faces change sides in {(ahead_px <= 0).mean():.0%} of the frames")


def _check_face(name: str, person: FaceTrack, scan: Scan, rules: PairRules, pictures: Pictures) -> None:
    if person.size_px < rules.min_face_px:
        found = f"{name} measures {person.size_px:.0f} px"
        raise Reject("face_too_small", f"{found}, expected {rules.min_face_px:g} px or more")
    times_s = np.append(pictures.times_s[scan.looked_at], pictures.end_s)
    missing = np.ones(len(times_s) - 1, bool)
    missing[person.looks] = False
    away = np.zeros_like(missing)
    points = np.concatenate([face.points for face in person.faces])
    away[person.looks] = np.abs(yaw_rad(points)) > radians(rules.max_yaw_deg)
    for reason, wrong in (("face_missing", missing), ("face_turned_away", away | missing)):
        seconds, start_s = longest_run_s(wrong, times_s)
        if seconds > rules.max_missing_s:
            found = f"{name} for {seconds:.2f} s from {start_s:.2f} s on"
            raise Reject(reason, f"{found}, expected {rules.max_missing_s:g} s or less", [pictures.frame_at(start_s)])


def _listed(persons: list[FaceTrack], num_looks: int) -> str:
    """The people found, for the ledger."""
    places = [
        f"{person.size_px:.0f} px at x {person.centre_px[0]:.0f} in {len(person.looks) / num_looks:.0%} of the frames"
        for person in persons
    ]
    return f"{len(persons)} ({'; '.join(places)})" if persons else "no lasting face"


def boxes_over_time(person: FaceTrack, found: Scan, pictures: Pictures) -> Floats:
    """A person's face box in every grid frame, (frame, 4): interpolated in time between finds, held at the ends."""
    finds_s = pictures.times_s[found.looked_at[person.looks]]
    edges = [np.interp(pictures.times_s, finds_s, edge) for edge in person.boxes.T]
    return np.stack(edges, axis=1).astype(np.float32)[pictures.of_frame]


def detected_over_time(person: FaceTrack, found: Scan, pictures: Pictures) -> NDArray[np.bool_]:
    """Whether each grid frame (frame,) shows a picture in which the person's face was found."""
    return np.isin(pictures.of_frame, found.looked_at[person.looks])
