"""What a film shows in a frame, as far as a clip of two people in conversation goes: a code, and its meaning."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from stages.faces.boxes import areas
from stages.faces.detector import Faces
from stages.faces.people import MIN_PROBABILITY, PairRules

LOOSE = 0.88  # of a size that counts: one look sees a face a little smaller than all looks at the median


class Sight(IntEnum):
    """Stored as it is: a new one goes to the end."""

    PAIR = 0
    NO_PICTURE = 1
    NO_FACE = 2
    ONE_PERSON = 3
    CROWD = 4
    FACE_TOO_SMALL = 5
    NOT_SIDE_BY_SIDE = 6
    SHORT_SHOT = 7


MEANINGS = {
    Sight.PAIR: "two people side by side",
    Sight.NO_PICTURE: "the film shows no picture, or one and the same, for longer than max_gap_s",
    Sight.NO_FACE: "no face is found",
    Sight.ONE_PERSON: "one face is found, or one that counts: the other is far smaller",
    Sight.CROWD: "more than two faces of comparable size are found",
    Sight.FACE_TOO_SMALL: "one of two faces is smaller than min_face_px",
    Sight.NOT_SIDE_BY_SIDE: "the two faces lie one above the other or change sides",
    Sight.SHORT_SHOT: "two people, in a shot or a look shorter than min_shot_s",
}


def glance(faces: Faces, rules: PairRules) -> Sight:
    """What one look tells, faces in pixels of the source. Generous: a pair that is none is found out later."""
    sides_px = np.sqrt(areas(faces.boxes))
    sure = faces.probabilities >= MIN_PROBABILITY
    if not sure.any():
        return Sight.NO_FACE
    least_px = rules.min_relative_size * float(sides_px[sure].max())
    if (sure & (sides_px >= least_px)).sum() > 2:
        return Sight.CROWD
    counting = np.sort(sides_px[sides_px >= LOOSE * least_px])
    if len(counting) < 2:
        return Sight.ONE_PERSON
    return Sight.PAIR if counting[-2] >= LOOSE * rules.min_face_px else Sight.FACE_TOO_SMALL


def smallest_face_px(rules: PairRules) -> float:
    """Side of the smallest face worth looking for, in pixels of the source."""
    return LOOSE * LOOSE * rules.min_face_px
