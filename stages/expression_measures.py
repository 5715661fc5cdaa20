"""Stage ``expression_measures``: smile, mouth, brows, nods and shakes of both people, as numbers with a definition.

Plain geometry, no trained network: what listener papers count when they say that somebody nods or smiles back.

* ``mouth_open``: distance of the inner lips, FaceMesh 13 and 14.
* ``smile``: distance of the corners of the mouth, 61 and 291, plus their height over the base of the nose, 2, along the
  line from there to the bridge, 168: FACS's lip corner puller (AU 12) draws them apart and up. Of people of ``vico`` by
  whose halves ``golden/labels`` says that they smile it is above .54, of the others below.
* ``brow_raise``: mean distance of inner and outer brows, 107, 105, 336 and 334, from the corners of their eyes.

All in three dimensions, so that a turn of the head changes little, and in distances of the outer corners of the eyes.
Faces differ at rest: compare a person with himself where a few hundredths matter.

A nod is a head that swings up and down, a shake one that swings from side to side, without a rest and by turns, as
extremes of the head's angle: Kawato and Ohya, "Real-time Detection of Nodding and Head-shaking", FG 2000. Which angle
swings further decides between them. A single look down and up again is no nod.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import frames_in, runs
from pipeline.stage import Reject, Stage, setting
from schemas.column import FRAME_AXIS, ROLES, Column, both, per_role

Floats = NDArray[np.floating[Any]]

EYES = (33, 263)  # outer corners, the subject's right first
LIPS, CORNERS = (13, 14), (61, 291)
NOSE = (2, 168)  # base and bridge
BROWS = ((107, 133), (105, 33), (336, 362), (334, 263))  # a point of a brow and the corner of the eye below it
REST = 0.1  # of a swing: so near to its ends the head is still there, or there already
PITCH, YAW = 0, 1  # of the columns `angle`


class ExpressionMeasures(Stage):
    """Smile, opening of the mouth, brows, nods and shakes from FaceMesh and the head's angles."""

    @dataclass(frozen=True)
    class Settings:
        swing_rad: float = setting(0.05, "least swing of the head from one extreme to the next in a nod or shake")
        swings: int = setting(3, "least number of swings of a nod or shake, each against the one before", least=1)
        slowest_s: float = setting(0.5, "longest time of a swing, and of a rest between two")
        min_motion: float = setting(
            0.0,
            "standard deviation that smile, mouth or brows of each role must reach in a clip; a still face has 0",
        )

    opt_in = True
    reads = both("{role}_landmarks", "{role}_landmarks_valid", "{role}_angle")
    writes = per_role(
        *(
            Column(f"{{role}}_{name}", "float32", (FRAME_AXIS,), "1", f"{meaning}; NaN where no face was found")
            for name, meaning in (
                ("smile", "width of the {role}'s mouth and height of its corners, in distances of the eyes"),
                ("mouth_open", "distance of the {role}'s lips, in distances of the eyes"),
                ("brow_raise", "distance of the {role}'s brows from the eyes, in distances of the eyes"),
            )
        ),
        Column("{role}_nod", "bool", (FRAME_AXIS,), meaning="whether the {role} nods"),
        Column("{role}_shake", "bool", (FRAME_AXIS,), meaning="whether the {role} shakes the head"),
    )
    rejects = {"still_face": "smile, mouth and brows of a role move less than min_motion"}

    def process(self, clip: Clip) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for role in ROLES:
            seen = clip[f"{role}_landmarks_valid"][:, None, None]
            found = measures(np.where(seen, clip[f"{role}_landmarks"], np.nan))
            if len(seen) > 1:  # a listener's portrait cannot move
                self._check(role, found)
            nod, shake = self.gestures(clip[f"{role}_angle"])
            columns |= {f"{role}_{name}": values for name, values in {**found, "nod": nod, "shake": shake}.items()}
        return columns

    def _check(self, role: str, found: dict[str, Floats]) -> None:
        known = [values[np.isfinite(values)] for values in found.values()]
        motion = max(float(values.std()) if len(values) else 0.0 for values in known)
        if motion < self.settings.min_motion:
            raise Reject("still_face", f"{role}: {motion:.4f}, expected {self.settings.min_motion:g} or more")

    def gestures(self, angle: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Frames of nods and of shakes, bool (frame,) each, from pitch, yaw, roll (frame, 3) in rad or NaN."""
        shown = [np.zeros(len(angle), bool), np.zeros(len(angle), bool)]
        for axis, other in ((PITCH, YAW), (YAW, PITCH)):
            for first, stop in self._oscillations(angle[:, axis]):
                if np.ptp(angle[first:stop, axis]) > np.ptp(angle[first:stop, other]):
                    shown[axis][first:stop] = True
        return shown[PITCH], shown[YAW]

    def _oscillations(self, angle: Floats) -> list[tuple[int, int]]:
        """Where an angle (frame,) swings to and fro often enough: first frame and the one after the last."""
        found: list[tuple[int, int]] = []
        slowest = frames_in(self.settings.slowest_s)
        for first, stop in runs(np.isfinite(angle)):
            chains: list[list[tuple[int, int]]] = []
            for begin, end in _swings(angle[first:stop], self.settings.swing_rad):
                if end - begin > slowest:
                    continue
                if chains and begin - chains[-1][-1][1] <= slowest:
                    chains[-1].append((begin, end))
                else:
                    chains.append([(begin, end)])
            long_ones = [chain for chain in chains if len(chain) >= self.settings.swings]
            found += [(first + chain[0][0], first + chain[-1][1] + 1) for chain in long_ones]
        return found


def measures(landmarks: Floats) -> dict[str, Floats]:
    """Smile, mouth_open and brow_raise, (frame,) each, in distances of the outer corners of the eyes.

    From landmarks (frame, 478, 3) in px; NaN where they are.
    """
    points = landmarks.astype(np.float64)
    eyes = _apart(points, *EYES)
    up = points[:, NOSE[1]] - points[:, NOSE[0]]
    corners = points[:, CORNERS].mean(axis=1) - points[:, NOSE[0]]
    rise = (corners * up).sum(axis=1) / np.linalg.norm(up, axis=1)
    return {
        "smile": (_apart(points, *CORNERS) + rise) / eyes,
        "mouth_open": _apart(points, *LIPS) / eyes,
        "brow_raise": np.mean([_apart(points, *pair) for pair in BROWS], axis=0) / eyes,
    }


def _apart(points: Floats, one: int, other: int) -> Floats:
    found: Floats = np.linalg.norm(points[:, one] - points[:, other], axis=1)
    return found


def _swings(angle: Floats, least: float) -> list[tuple[int, int]]:
    """First and last frame of every swing of an angle (frame,) between extremes that lie ``least`` or more apart."""
    turns, low, high = [], 0, 0  # frames of the extremes, and of the lowest and highest value since the last one
    rises: bool | None = None
    for frame, value in enumerate(angle):
        low, high = (frame if value < angle[low] else low), (frame if value > angle[high] else high)
        if rises is not True and value - angle[low] >= least:
            turns.append(low)
            rises, high = True, frame
        elif rises is not False and angle[high] - value >= least:
            turns.append(high)
            rises, low = False, frame
    if turns:
        turns.append(high if rises else low)
    found = []
    for start, end in zip(turns, turns[1:], strict=False):
        way = np.abs(angle[start : end + 1] - angle[start]) / abs(angle[end] - angle[start])
        found.append((start + int(np.flatnonzero(way <= REST)[-1]), start + int(np.argmax(way >= 1 - REST))))
    return found
