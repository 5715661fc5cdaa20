"""Spaces of coefficients that layouts mean, and what a data set must say to hold numbers of one.

There the maker's fitter has the space's name, and of either person there are the space's columns:

* `FLAME`, as DECA and its kin give it (Feng et al., SIGGRAPH 2021): ``exp`` (frame, 50) and ``pose`` (frame, 6), the
  neck's or head's rotation, then the jaw's, each an axis times an angle in radians;
* `FACEVERSE`, as REACT's data have it: ``exp`` (frame, 52), ``angle`` (frame, 3) in radians, ``trans`` (frame, 3).

FLAME and FaceVerse themselves are behind licences; only their users' numbers pass here.
"""

from __future__ import annotations

import numpy as np

from jobs.layouts import Row
from pipeline.dataset.read import columns_of, read_description, space_of
from pipeline.dataset.storage import Location
from schemas.coefficients import SPACES, STAGE
from schemas.column import FRAME_AXIS, ROLES, Column
from schemas.dataset import Maker
from schemas.errors import UserError

FLAME, FACEVERSE = "flame", "faceverse"
RADIANS = ("pose", "angle")
WIDTHS = {name: SPACES[name] for name in (FLAME, FACEVERSE)}  # of a person's columns


def columns_in(space: str) -> list[Column]:
    """The columns of a space, of either person."""
    return [
        Column(f"{role}_{name}", "float32", (FRAME_AXIS, width), "rad" if name in RADIANS else "1", f"{space}: {name}")
        for role in ROLES
        for name, width in WIDTHS[space].items()
    ]


def holds_coefficients(dataset: Location) -> bool:
    """Whether a data set has any, of whatever space."""
    return "listener_exp" in read_description(dataset).packed


def require_space(dataset: Location, layout: str, space: str) -> list[str]:
    """The names of a space's columns; `UserError` if a data set holds others: their numbers would mislead."""
    found = space_of(dataset)
    if found.name != space:
        raise UserError(
            f"{dataset}: the layout {layout} means coefficients of {space}, found those of {found.made_by}; expected a "
            "data set with coefficients of your own tracker"
        )
    wanted = {column.name: column for column in columns_in(space)}
    for name, column in columns_of(dataset, wanted).items():
        if column.axes != wanted[name].axes:
            raise UserError(f"{dataset}: {name}: expected {wanted[name].shape} of {space}, found {column.shape}")
    return list(wanted)


def finite(row: Row, name: str) -> np.ndarray:
    """The numbers of a column, float32 (frame, D); `UserError` that names the frames that hold none."""
    values = np.asarray(row[name], np.float32)
    missing = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(missing):
        raise UserError(
            f"{name}: expected numbers in all {len(values)} frames, found none in {len(missing)}, the first frame "
            f"{missing[0]}; the tracker lost the face there: choose other clips"
        )
    return values


def maker_of(space: str) -> dict[str, Maker]:
    """Who made the coefficients of a data set whose tracker nobody told."""
    writes = tuple((column.name, str(column.arrow_type)) for column in columns_in(space))
    return {STAGE: Maker(STAGE, version=0, settings={"fitter": space}, writes=writes)}
