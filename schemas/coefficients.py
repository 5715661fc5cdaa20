"""3DMM coefficients: whose numbers they are, and the orders in which they circulate.

A coefficient means something only beside the fitter and the weights that made it; `one_provenance` refuses to mix them.
All orders hold expression (64), angle (3) and translation (3); two add the crop (s, tx, ty):

* ``baseline73``: angle, exp, trans, crop: the ViCo baseline's features;
* ``pirender73``: exp, angle, trans, crop: the semantics of PIRender (Ren et al., ICCV 2021);
* ``paper70``: exp, angle, trans: the papers' beta and p (Zhou et al., ECCV 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schemas.dataset import Description
from schemas.errors import UserError

STAGE = "threedmm"

WIDTHS = {"exp": 64, "angle": 3, "trans": 3, "crop": 3}
ORDERS = {
    "baseline73": ("angle", "exp", "trans", "crop"),
    "pirender73": ("exp", "angle", "trans", "crop"),
    "paper70": ("exp", "angle", "trans"),
}


class MixedCoefficientsError(UserError):
    """Coefficients of different making were to be used together, or a data set has none."""


@dataclass(frozen=True)
class Provenance:
    """Who made the coefficients of a data set: fitter, stage version, and sha256 of the weights or basis by name."""

    fitter: str
    version: int
    weights: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        loaded = ", ".join(f"{name} (sha256 {sha256[:12]})" for name, sha256 in self.weights)
        return f"{self.fitter} version {self.version} with {loaded}"


def one_provenance(descriptions: Mapping[str, Description]) -> Provenance:
    """The one maker of the coefficients of data sets, given by name.

    Raises
    ------
    MixedCoefficientsError : they differ, or one has none; names the data sets and their makers.
    """
    found = {name: _provenance(name, description) for name, description in descriptions.items()}
    if len(set(found.values())) != 1:
        listing = "; ".join(f"{name}: {made}" for name, made in found.items()) or "no data set"
        raise MixedCoefficientsError(
            f"expected coefficients of one fitter, found {listing}; build them with one setting"
        )
    return next(iter(found.values()))


def _provenance(name: str, description: Description) -> Provenance:
    if STAGE not in description.stages:
        raise MixedCoefficientsError(
            f"{name}: expected coefficients of the stage {STAGE!r}, found {', '.join(description.stages)}; build the "
            "data set with that stage"
        )
    made = description.stages[STAGE]
    return Provenance(str(made.settings["fitter"]), made.version, tuple(sorted(made.weights.items())))


def join(columns: Mapping[str, np.ndarray], order: str) -> np.ndarray:
    """One array (frame, 70 or 73) from the columns ``exp``, ``angle``, ``trans`` and ``crop``.

    Raises
    ------
    ValueError : a column is missing or does not have the order's width; 10 expression dimensions are not 64.
    """
    parts = []
    for name in _names(order):
        found = columns[name].shape[-1] if name in columns else None
        if found != WIDTHS[name]:
            raise ValueError(
                f"{order}: expected {name!r} with {WIDTHS[name]} dimensions, found {found or 'no such column'}"
            )
        parts.append(columns[name])
    return np.concatenate(parts, axis=-1)


def split(values: np.ndarray, order: str) -> dict[str, np.ndarray]:
    """The columns of an array (frame, 70 or 73): the inverse of `join`."""
    names = _names(order)
    widths = [WIDTHS[name] for name in names]
    if values.shape[-1] != sum(widths):
        raise ValueError(f"{order}: expected {sum(widths)} dimensions, found {values.shape[-1]}")
    return dict(zip(names, np.split(values, np.cumsum(widths)[:-1], axis=-1), strict=True))


def convert(values: np.ndarray, source: str, target: str, crop: np.ndarray | None = None) -> np.ndarray:
    """An array in another order; ``crop`` (frame, 3) is what the 73 have and the 70 do not."""
    columns = split(values, source)
    if crop is not None:
        columns.setdefault("crop", crop)
    return join(columns, target)


def _names(order: str) -> tuple[str, ...]:
    if order not in ORDERS:
        raise ValueError(f"unknown order {order!r}; known: {', '.join(ORDERS)}")
    return ORDERS[order]
