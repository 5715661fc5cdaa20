"""The shots of a film in which exactly two people are to be seen, and where their faces are throughout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import runs
from pipeline.stage import Reject
from stages.faces.boxes import Floats, areas
from stages.faces.people import MIN_PROBABILITY, FaceTrack, PairRules, check_sides, head_cuts, link, people, yaw_rad
from stages.faces.scan import Pictures, Scan
from stages.faces.sights import Sight

INTRUDERS = 2  # looks in a row in which a third face is found before it counts: one look alone takes a hand for a face


@dataclass(frozen=True, eq=False)
class Shot:
    """Pictures ``start`` to ``end``, without the last, of one stretch of film, without a cut."""

    start: int
    end: int
    sight: Sight
    pair: tuple[FaceTrack, FaceTrack] | None  # left and right, whose looks count from the stretch's first

    def pictures(self) -> NDArray[np.intp]:
        return np.arange(self.start, self.end)

    def boxes(self, side: int, found: Scan, pictures: Pictures) -> Floats:
        """Face boxes (picture, 4) in pixels of the source: interpolated in time between finds, held at the ends."""
        track = self._track(side)
        return self._over_time(track.boxes.T, side, found, pictures).astype(np.float32)

    def yaw_rad(self, side: int, found: Scan, pictures: Pictures) -> Floats:
        """How far the head is turned to the side, (picture,)."""
        points = np.concatenate([face.points for face in self._track(side).faces])
        return self._over_time(yaw_rad(points)[None], side, found, pictures)[:, 0].astype(np.float32)

    def intruded(self, found: Scan, least: float) -> NDArray[np.bool_]:
        """The pictures (picture,) in which a third face is to be seen, of ``least`` sizes of the larger of the two."""
        first, last = np.searchsorted(found.looked_at, [self.start, self.end])
        largest_px = max(self._track(side).size_px for side in (0, 1))
        known = [dict(zip(track.looks, track.faces, strict=True)) for track in self.pair or ()]
        third = np.zeros(last - first, bool)
        for look in range(first, last):
            faces = found.looks[look]
            counts = (faces.probabilities >= MIN_PROBABILITY) & (np.sqrt(areas(faces.boxes)) >= least * largest_px)
            third[look - first] = counts.sum() > sum(look in of_track for of_track in known) and counts.sum() > 2
        lasting = np.zeros_like(third)
        for start, end in runs(third):
            lasting[start:end] = end - start >= INTRUDERS
        nearest = np.abs(self.pictures()[:, None] - found.looked_at[first:last]).argmin(axis=1) if last > first else 0
        return lasting[nearest] if last > first else np.zeros(self.end - self.start, bool)

    def _track(self, side: int) -> FaceTrack:
        assert self.pair is not None
        return self.pair[side]

    def _over_time(self, rows: Floats, side: int, found: Scan, pictures: Pictures) -> NDArray[np.float64]:
        finds_s = pictures.times_s[found.looked_at[self._track(side).looks]]
        times_s = pictures.times_s[self.start : self.end]
        return np.stack([np.interp(times_s, finds_s, row) for row in rows], axis=1)


def find_shots(found: Scan, pictures: Pictures, picture_px: tuple[int, int], rules: PairRules) -> Iterator[Shot]:
    """The shots of a stretch of film, in order, without a gap."""
    for start, end in _between([cut.frame for cut in found.cuts.picture_cuts()], 0, len(pictures)):
        shot = _judged(found, start, end, rules)
        if shot.pair is None:
            yield shot
            continue
        jumps = set()
        for person in shot.pair:
            jumps |= {cut.frame for cut in head_cuts(person, found, picture_px)}
        inside = sorted(frame for frame in jumps if start < frame < end)
        yield from (_judged(found, *part, rules) for part in _between(inside, start, end)) if inside else (shot,)


def _between(cuts: list[int], start: int, end: int) -> Iterator[tuple[int, int]]:
    edges = sorted({start, *cuts, end})
    return zip(edges[:-1], edges[1:], strict=True)


def _judged(found: Scan, start: int, end: int, rules: PairRules) -> Shot:
    """Who is in a shot, by the looks into it."""
    first, last = (int(place) for place in np.searchsorted(found.looked_at, [start, end]))
    looks = found.looks[first:last]
    if not any((faces.probabilities >= MIN_PROBABILITY).any() for faces in looks):
        return Shot(start, end, Sight.NO_FACE if looks else Sight.SHORT_SHOT, None)
    persons = people(link(looks), len(looks), rules.min_share, rules.min_relative_size)
    if len(persons) != 2:
        return Shot(start, end, Sight.CROWD if len(persons) > 2 else Sight.ONE_PERSON, None)
    left, right = persons
    try:
        check_sides(left, right)
    except Reject:
        return Shot(start, end, Sight.NOT_SIDE_BY_SIDE, None)
    if min(left.size_px, right.size_px) < rules.min_face_px:
        return Shot(start, end, Sight.FACE_TOO_SMALL, None)
    for person in persons:
        person.looks = [look + first for look in person.looks]
    return Shot(start, end, Sight.PAIR, (left, right))
