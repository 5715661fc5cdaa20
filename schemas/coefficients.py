"""3DMM coefficients: whose numbers they are, and the orders in which they circulate.

A coefficient means something only beside the fitter and the weights that made it; `one_provenance` refuses to mix them.
All orders hold expression, angle (3) and translation (3); two add the crop (s, tx, ty). Their names carry the width
that they have with the published 64 numbers of expression; spaces of other fitters keep the order of the parts:

* ``baseline73``: angle, exp, trans, crop: the ViCo baseline's features;
* ``pirender73``: exp, angle, trans, crop: the semantics of PIRender (Ren et al., ICCV 2021);
* ``paper70``: exp, angle, trans: the papers' beta and p (Zhou et al., ECCV 2022).

Spaces of the users' own trackers may have other parts (`SPACES`), and orders of these (`OTHER_ORDERS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from schemas.dataset import Description
from schemas.errors import UserError

STAGE, OWN_STAGE = "threedmm", "coefficients"
NAMED_BY = {STAGE: "fitter", OWN_STAGE: "space"}  # who makes coefficients -> the setting that says what they are

PARTS = ("exp", "angle", "trans", "crop", "identity", "pose")  # columns of either person
PUBLISHED = {"exp": 64, "angle": 3, "trans": 3, "crop": 3}  # widths that the published layouts are named after
ORDERS = {
    "baseline73": ("angle", "exp", "trans", "crop"),
    "pirender73": ("exp", "angle", "trans", "crop"),
    "paper70": ("exp", "angle", "trans"),
}
OTHER_ORDERS = {"exp_pose": ("exp", "pose"), "exp_angle": ("exp", "angle"), "exp_alone": ("exp",)}
ALL_ORDERS = {**ORDERS, **OTHER_ORDERS}
SPACES: Mapping[str, Mapping[str, int]] = {  # of trackers -> a person's columns, in the order in which they circulate
    "flame": {"exp": 50, "pose": 6},  # as DECA and its kin give it (Feng et al., SIGGRAPH 2021): neck, then jaw
    "faceverse": {"exp": 52, "angle": 3, "trans": 3},  # as REACT's data have it
    "bfm": {"exp": 64, "angle": 3, "trans": 3},
    "arkit": {"exp": 52},  # blend shapes
}
STILL_CROPS = ("landmark_gn",)  # fitters whose crop is one for the clip: all motion is in the translation


class MixedCoefficientsError(UserError):
    """Coefficients of different making were to be used together, or a data set has none."""


@dataclass(frozen=True)
class Provenance:
    """Who made the coefficients of a data set: fitter, stage version, and sha256 of the weights or basis by name."""

    fitter: str
    version: int
    weights: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        loaded = ", ".join(f"{name} (sha256 {sha256[:12]})" for name, sha256 in self.weights) or "no weights"
        return f"{self.fitter} version {self.version} with {loaded}"


def one_provenance(descriptions: Mapping[str, Description]) -> Provenance:
    """The one maker of the coefficients of data sets, given by name.

    `MixedCoefficientsError`, which names the data sets and their makers, if they differ or one has none.
    """
    found = {name: _provenance(name, description) for name, description in descriptions.items()}
    if len(set(found.values())) != 1:
        listing = "; ".join(f"{name}: {made}" for name, made in found.items()) or "no data set"
        raise MixedCoefficientsError(
            f"expected coefficients of one fitter, found {listing}; build them with one setting"
        )
    return next(iter(found.values()))


def _provenance(name: str, description: Description) -> Provenance:
    stage = next((stage for stage in NAMED_BY if stage in description.stages), None)
    if stage is None:
        raise MixedCoefficientsError(
            f"{name}: expected coefficients of the stage {STAGE!r}, found {', '.join(description.stages)}; build the "
            "data set with that stage"
        )
    made = description.stages[stage]
    weights = made.weights if stage == STAGE else {}  # files of clips are no weights: other clips are of one space
    return Provenance(str(made.settings[NAMED_BY[stage]]), made.version, tuple(sorted(weights.items())))


@dataclass(frozen=True)
class Space:
    """What the numbers of a data set's coefficients are."""

    made_by: Provenance  # the fitter with all that identifies its numbers
    axes: Mapping[str, tuple[str | int, ...]]  # of `PARTS` -> axes of its column, the last a width

    @property
    def name(self) -> str:
        return self.made_by.fitter

    @property
    def order(self) -> str:
        """The order that holds all motion: where the crop moves from frame to frame, a head's place is in it."""
        moving = tuple(part for part in ("exp", "angle", "trans", "pose") if part in self.axes)
        for order, parts in OTHER_ORDERS.items():
            if moving == parts:
                return order
        return "baseline73" if "crop" in self.axes and self.name not in STILL_CROPS else "paper70"


@dataclass(frozen=True)
class Layout:
    """Where the numbers of a frame of motion stand: the parts of an order one behind the other, as wide as they are."""

    order: str  # a key of `ALL_ORDERS`
    widths: Mapping[str, int] = field(default_factory=lambda: PUBLISHED)  # part -> how many, unless a space has others

    @property
    def parts(self) -> dict[str, slice]:
        """Part -> where it stands."""
        if self.order not in ALL_ORDERS:
            raise ValueError(f"unknown order {self.order!r}; known: {', '.join(ALL_ORDERS)}")
        names = ALL_ORDERS[self.order]
        ends = accumulate(self.widths[name] for name in names)
        return {name: slice(end - self.widths[name], end) for name, end in zip(names, ends, strict=True)}

    @property
    def width(self) -> int:
        """Numbers a frame."""
        return sum(self.widths[name] for name in ALL_ORDERS[self.order])

    @property
    def expression_and_pose(self) -> tuple[slice, list[int]]:
        """The papers' beta and p. With a crop, p has it too: translation and crop together are a head's place.

        `UserError` for expressions alone: a model of both would learn nothing of p, or numbers that are none.
        """
        beta = self.parts["exp"]
        p = [i for i in range(self.width) if not beta.start <= i < beta.stop]
        if not p:
            raise UserError(
                "a listener of expression and head: found coefficients without the head's motion; choose another "
                "listener, or build the data set with it: [stages.coefficients] parts = ['exp=52', 'angle=3']"
            )
        return beta, p

    def join(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """One array (frame, width) from columns by part.

        ValueError if a column is missing or has another width: 10 expression dimensions are not 64.
        """
        for name in self.parts:
            found = columns[name].shape[-1] if name in columns else None
            if found != self.widths[name]:
                wanted = f"{name!r} with {self.widths[name]} dimensions"
                raise ValueError(f"{self.order}: expected {wanted}, found {found or 'no such column'}")
        return np.concatenate([columns[name] for name in self.parts], axis=-1)

    def split(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """The columns of an array (frame, width): the inverse of `join`."""
        if values.shape[-1] != self.width:
            raise ValueError(f"{self.order}: expected {self.width} dimensions, found {values.shape[-1]}")
        return {name: values[..., part] for name, part in self.parts.items()}
