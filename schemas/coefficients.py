"""The orders in which motion coefficients circulate, and functions between them.

All hold expression (64), angle (3) and translation (3); two add the crop (s, tx, ty):

* ``baseline73``: angle, exp, trans, crop: the ViCo baseline's features;
* ``pirender73``: exp, angle, trans, crop: the semantics of PIRender (Ren et al., ICCV 2021);
* ``paper70``: exp, angle, trans: the papers' beta and p (Zhou et al., ECCV 2022).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

WIDTHS = {"exp": 64, "angle": 3, "trans": 3, "crop": 3}
ORDERS = {
    "baseline73": ("angle", "exp", "trans", "crop"),
    "pirender73": ("exp", "angle", "trans", "crop"),
    "paper70": ("exp", "angle", "trans"),
}


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
            raise ValueError(f"{order}: expected {name!r} with {WIDTHS[name]} dimensions, found {found or 'no such column'}")
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
