"""The two people of a clip, or the reason why it has not two people that one can use."""

from __future__ import annotations

from dataclasses import dataclass
from math import radians

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Reject, setting
from stages.faces.boxes import centres
from stages.faces.crops import heads
from stages.faces.cuts import Cut
from stages.faces.scan import Pictures, Scan
from stages.faces.tracks import Track, link, longest_run_s, people

REJECTS = {
    "no_face": "no face is found in the clip",
    "not_two_people": "not exactly two faces of comparable size last through the clip",
    "not_side_by_side": "the two faces lie one above the other or change sides",
    "shot_cut": "the picture is cut inside the clip",
    "face_too_small": "a face is smaller than min_face_px",
    "face_missing": "a face is not found for longer than max_missing_s",
    "face_turned_away": "a face is turned by more than max_yaw_deg, or not found, for longer than max_missing_s",
}
MIN_APART_SIZES = 0.5  # how far the faces' centres lie apart sideways, in sizes of the smaller face


@dataclass(frozen=True)
class PairRules:
    """What two people must fulfil."""

    min_share: float = setting(0.33, "a person's face is found in at least this share of the frames looked at")
    min_relative_size: float = setting(0.4, "and is at least this large, in sizes of the largest face that lasts")
    min_face_px: float = setting(64.0, "smallest side of a face box in the source, at the median")
    max_missing_s: float = setting(2.0, "longest time for which a face may be missing or turned away")
    max_yaw_deg: float = setting(60.0, "a face turned to the side by more is turned away")


def find_pair(scan: Scan, pictures: Pictures, picture_px: tuple[int, int], rules: PairRules) -> tuple[Track, Track]:
    """The left and the right person.

    Raises
    ------
    Reject : with a reason of `REJECTS` and the numbers found. Times count from the beginning of the source.
    """
    if not any(len(faces) for faces in scan.looks):
        raise Reject("no_face", f"found none in {len(scan.looks)} frames, expected 2 people")
    _check_cuts(scan.cuts.picture_cuts(), pictures)
    persons = people(link(scan.looks), len(scan.looks), rules.min_share, rules.min_relative_size)
    if len(persons) != 2:
        raise Reject("not_two_people", f"found {_listed(persons, len(scan.looks))}, expected 2 people")
    left, right = persons
    for person in persons:
        middle = heads(np.median(person.boxes, axis=0)) / np.tile(np.array(picture_px, np.float32), 2)
        _check_cuts(scan.cuts.head_cuts(middle), pictures)
    _check_sides(left, right)
    times_s = np.append(pictures.times_s[scan.looked_at], pictures.end_s)
    for side, person in (("left", left), ("right", right)):
        _check_face(f"the {side} face", person, times_s, rules)
    return left, right


def _check_cuts(cuts: list[Cut], pictures: Pictures) -> None:
    if cuts:
        places = "; ".join(f"at {pictures.times_s[cut.frame]:.2f} s, {cut.evidence}" for cut in cuts[:5])
        raise Reject("shot_cut", f"{len(cuts)} in the clip: {places}")


def _check_sides(left: Track, right: Track) -> None:
    apart_px = float(right.centre_px[0] - left.centre_px[0])
    expected_px = MIN_APART_SIZES * min(left.size_px, right.size_px)
    if apart_px < expected_px:
        raise Reject("not_side_by_side", f"{apart_px:.0f} px apart sideways, expected {expected_px:.0f} or more")
    _, in_left, in_right = np.intersect1d(left.looks, right.looks, return_indices=True)
    ahead_px = centres(np.stack(right.boxes))[in_right, 0] - centres(np.stack(left.boxes))[in_left, 0]
    if (ahead_px <= 0).any():
        raise Reject("not_side_by_side", f"the faces change sides in {(ahead_px <= 0).mean():.0%} of the frames")


def _check_face(name: str, person: Track, times_s: NDArray[np.float64], rules: PairRules) -> None:
    if person.size_px < rules.min_face_px:
        found = f"{name} measures {person.size_px:.0f} px"
        raise Reject("face_too_small", f"{found}, expected {rules.min_face_px:g} px or more")
    missing = np.ones(len(times_s) - 1, bool)
    missing[person.looks] = False
    away = np.zeros_like(missing)
    away[person.looks] = np.abs(person.yaws_rad()) > radians(rules.max_yaw_deg)
    for reason, wrong in (("face_missing", missing), ("face_turned_away", away | missing)):
        seconds, start_s = longest_run_s(wrong, times_s)
        if seconds > rules.max_missing_s:
            found = f"{name} for {seconds:.2f} s from {start_s:.2f} s on"
            raise Reject(reason, f"{found}, expected {rules.max_missing_s:g} s or less")


def _listed(persons: list[Track], num_looks: int) -> str:
    """The people found, for the ledger."""
    places = [
        f"{person.size_px:.0f} px at x {person.centre_px[0]:.0f} in {len(person.looks) / num_looks:.0%} of the frames"
        for person in persons
    ]
    return f"{len(persons)} ({'; '.join(places)})" if persons else "no lasting face"
