"""Heads: how a face's landmarks say that it is turned, and what is wrong with angles that somebody else measured.

An order or a sign cannot be seen in numbers alone, but both show beside the same head's landmarks: of the 48 ways in
which three angles can be meant (three places, three signs) the one that follows the landmarks best is the one that
they are meant in, if it follows them clearly better than the one that was declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np

from stages.morphable.basis import Basis

AXES = ("pitch", "yaw", "roll")  # of `stages.morphable.rotation`
MIN_FRAMES = 30
DEGREES = 180 / np.pi
OUTSIDE_RAD = 2 * np.pi  # no head is turned so far


def head_angles(points: np.ndarray, basis: Basis) -> np.ndarray:
    """(pitch, yaw, roll) in rad, (frame, 3), of landmarks (frame, 478, 3) in px; NaN where these are.

    The rotation that brings a mean face nearest to the points (Kabsch 1976), with the signs of our own fits.
    """
    import torch

    from stages.morphable.rotation import angles_of

    seen = np.isfinite(points).all(axis=(1, 2))
    shape = (basis.mean - basis.mean.mean(axis=0)).astype(np.float64)
    placed = points[seen][:, basis.point] * np.array([1.0, -1.0, -1.0])  # y up, z to the viewer
    placed = placed - placed.mean(axis=1, keepdims=True)
    left, _, right = np.linalg.svd(np.einsum("tvi,vj->tij", placed, shape))
    left[..., 2] *= np.sign(np.linalg.det(left @ right))[:, None]  # a rotation, no reflection
    angles = np.full((len(points), 3), np.nan)
    angles[seen] = angles_of(torch.from_numpy(left @ right)).numpy()
    return angles


@dataclass(frozen=True)
class Evidence:
    """How sure a head makes us, by how much it moves."""

    still_rad: float  # standard deviation below which an axis says nothing
    clear: float  # the least r of the best reading
    lead: float  # how far it must lie above that of the declared one


EVIDENCES = (
    Evidence(
        0.05, clear=0.6, lead=0.3
    ),  # 8 degrees of range: there two fits agree by .7 on all 71 faces of threedmm.md
    Evidence(0.02, clear=0.85, lead=0.6),  # 3 degrees: there honest fits differ, most in pitch
)


@dataclass(frozen=True)
class Reading:
    """One way to read three numbers: for each of `AXES` the place at which it stands, and its sign."""

    places: tuple[int, ...] = (0, 1, 2)
    signs: tuple[int, ...] = (1, 1, 1)

    def of(self, told: np.ndarray) -> np.ndarray:
        """Angles as `AXES` from numbers (frame, 3) that are meant in this way."""
        return told[:, self.places] * self.signs

    def differences(self, axes: Sequence[int]) -> list[str]:
        """In words what is not as declared, of some axes."""
        found = []
        for axis in axes:
            place = self.places[axis]
            swapped = self.places[place] == axis
            if place != axis and not (swapped and place in axes and place < axis):
                told = f"{AXES[min(place, axis)]} and {AXES[max(place, axis)]} look swapped"
                found.append(told if swapped else f"{AXES[axis]} stands where {AXES[place]} should")
            if self.signs[axis] < 0:
                found.append(f"{AXES[axis]} looks wrong in sign")
        return found

    def in_words(self, declared: Reading) -> list[str]:
        """The names of a file's numbers, as the setting ``axes`` has them, if they were declared so and read so."""
        names = [""] * 3
        for axis in range(3):
            place = self.places[axis]
            sign = self.signs[axis] * declared.signs[place]
            names[declared.places[place]] = f"{'-' if sign < 0 else ''}{AXES[axis]}"
        return names


READINGS = sorted(
    (Reading(places, signs) for places in permutations(range(3)) for signs in product((1, -1), repeat=3)),
    key=lambda one: (sum(p != i for i, p in enumerate(one.places)), one.signs.count(-1)),
)  # those that differ least from what was declared first


@dataclass(frozen=True)
class Judged:
    """What the landmarks say of angles that somebody else measured."""

    declared: float  # r with the landmarks as declared, mean over the axes that move, weighted by how much; NaN: still
    best: float  # of the best reading
    by: Evidence
    moving: tuple[int, ...] = ()  # axes that count
    reading: Reading = Reading()  # the one that was declared, unless another is clearly better
    unit: int = 0  # 1: they look like degrees, -1: like radians that were taken for degrees

    def leads(self, r: float) -> bool:
        """Whether another way that follows the landmarks with this r is clearly the better one."""
        return r > self.by.clear and r > self.declared + self.by.lead

    @property
    def is_another(self) -> bool:
        """Whether a head that moves enough does something else than the declared angles."""
        return self.by is EVIDENCES[0] and self.declared < self.by.lead


def judge(told_rad: np.ndarray, seen_rad: np.ndarray) -> Judged:
    """Compare angles (frame, 3) with the landmarks' of the same frames."""
    both = np.isfinite(told_rad).all(axis=1) & np.isfinite(seen_rad).all(axis=1)
    told, seen = told_rad[both].astype(np.float64), seen_rad[both]
    outside = int(np.abs(told).max(initial=0) > OUTSIDE_RAD)
    deviation = seen.std(axis=0) if len(seen) >= MIN_FRAMES else np.zeros(3)
    by = next((one for one in EVIDENCES if deviation.max() > one.still_rad), EVIDENCES[-1])
    moving = tuple(axis for axis in range(3) if deviation[axis] > by.still_rad)
    if not moving:
        return Judged(np.nan, np.nan, by, unit=outside)
    size = told.std(axis=0)
    covariance = (told - told.mean(axis=0)).T @ (seen - seen.mean(axis=0)) / len(told)
    scale = np.outer(size, deviation)
    r = np.divide(covariance, scale, out=np.zeros((3, 3)), where=scale > 0)  # of number i with axis j
    weights = deviation[[*moving]]

    def follows(one: Reading) -> float:
        return float(np.average([one.signs[axis] * r[one.places[axis], axis] for axis in moving], weights=weights))

    fits = [follows(one) for one in READINGS]
    found = Judged(fits[0], max(fits), by, moving, unit=outside)
    if found.leads(found.best):
        found = replace(found, reading=READINGS[int(np.argmax(np.round(fits, 9)))])
    if found.best > by.clear:
        ratio = size[[found.reading.places[axis] for axis in moving]].sum() / weights.sum()
        found = replace(found, unit=outside or int(ratio > DEGREES / 3) - int(ratio < 3 / DEGREES))
    return found
