"""Measures: one number a clip, from whatever columns a data set has, so that clips can be sorted worst first.

They follow from a column's declaration alone: a stage that nobody has written yet gets its measures too. Steps between
frames are Euclidean over a frame's numbers; what is not finite is left out and counted.

    .invalid  share of frames with a number that is not finite; of `..._valid` and `..._detected` columns, of false
    .jump     largest step from a frame to the next        .motion  mean step, a second
    .mean .min .max  of columns with a number a frame      .share   of frames that are true
    .rate     how often it becomes true, a minute          and scalars as they are, and lists of words by their numbers
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.clock import frames_in
from schemas.column import Column

HIGH, LOW = "high", "low"
VALIDITY = ("_valid", "_detected")  # ends of the names of columns that say whether a frame counts
SCALARS_A_FRAME = 2  # columns as narrow as this have levels that mean something together, such as both eyes' openness
MAX_WIDTH = 1024  # numbers a frame; wider ones, such as landmarks, are too heavy to be read for an index


@dataclass(frozen=True)
class Measure:
    """One number a clip."""

    name: str
    column: str
    unit: str
    meaning: str
    worst: str  # `HIGH` or `LOW`: which end one looks at first


def measures_of(column: Column) -> list[Measure]:
    """The measures of a column, by its declaration; none where there is nothing to count."""
    return [
        Measure(f"{column.name}{end}", column.name, unit, meaning, worst) for end, unit, meaning, worst in _of(column)
    ]


def _of(column: Column) -> list[tuple[str, str, str, str]]:
    unit, kind = column.unit, column.element_type
    if not column.axes and column.is_numeric and not pa.types.is_boolean(kind):
        return [("", unit, column.meaning, LOW)]
    if column.per_frame and column.is_numeric and width_of(column) <= MAX_WIDTH:
        if pa.types.is_boolean(kind):
            if column.name.endswith(VALIDITY):
                return [(".invalid", "1", f"share of frames that are not: {column.meaning}", HIGH)]
            share = (".share", "1", f"share of frames: {column.meaning}", HIGH)
            return [share, (".rate", "1/min", f"how often it begins: {column.meaning}", HIGH)]
        jump = (".jump", unit, f"largest step from a frame to the next: {column.meaning}", HIGH)
        if pa.types.is_integer(kind):
            return [jump]
        speed = unit if unit in ("", "1") else f"{unit}/s"
        motion = (".motion", "1/s" if unit in ("", "1") else speed, f"mean step, a second: {column.meaning}", HIGH)
        invalid = (".invalid", "1", f"share of frames without a finite value: {column.meaning}", HIGH)
        levels = [
            (f".{name}", unit, f"{name} over the clip: {column.meaning}", HIGH) for name in ("mean", "min", "max")
        ]
        return [jump, motion, invalid, *(levels if width_of(column) <= SCALARS_A_FRAME else [])]
    if len(column.axes) == 1 and pa.types.is_struct(kind):
        names = [name for name in _numbers_of(kind)]
        found = [
            (f".{name}.{how}", "", f"{how} {name}: {column.meaning}", LOW) for name in names for how in ("mean", "min")
        ]
        return [(".count", "", f"how many: {column.meaning}", LOW), *found]
    return []


def _numbers_of(kind: Any) -> list[str]:
    """Fields of a struct that are numbers and no times."""
    fields = [kind.field(i) for i in range(kind.num_fields)]
    return [field.name for field in fields if pa.types.is_floating(field.type) and not field.name.endswith("_s")]


def width_of(column: Column) -> int:
    """Numbers a frame."""
    return math.prod(axis for axis in column.axes if isinstance(axis, int))


def measure(column: Column, values: pa.Array) -> dict[str, np.ndarray]:
    """The measures of a column for clips, a row of ``values`` each: name -> float32 (clip,), NaN where none is."""
    declared = measures_of(column)
    if not declared:
        return {}
    if not column.axes:
        return {declared[0].name: _floats(values)}
    starts = values.offsets.to_numpy().astype(np.int64)
    flat = values.values
    if pa.types.is_struct(column.element_type):
        found = _of_structs(column, flat, starts)
    else:
        while pa.types.is_fixed_size_list(flat.type):
            flat = flat.flatten()
        numbers = _floats(flat).reshape(-1, width_of(column))
        found = _of_flags(column, numbers, starts) if pa.types.is_boolean(flat.type) else _of_numbers(numbers, starts)
    return {one.name: found[one.name.removeprefix(column.name)].astype(np.float32) for one in declared}


def _floats(values: pa.Array) -> np.ndarray:
    """Numbers as float32, missing ones as NaN."""
    return values.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)


def _of_structs(column: Column, flat: pa.StructArray, starts: np.ndarray) -> dict[str, np.ndarray]:
    found = {".count": np.diff(starts).astype(np.float32)}
    for name in _numbers_of(column.element_type):
        numbers = _floats(flat.field(name))
        found[f".{name}.mean"] = _mean(numbers, starts)
        found[f".{name}.min"] = _reduced(np.fmin, numbers, starts)
    return found


def _of_flags(column: Column, numbers: np.ndarray, starts: np.ndarray) -> dict[str, np.ndarray]:
    flag = numbers.max(axis=1, initial=0) if numbers.shape[1] != 1 else numbers[:, 0]
    share = _mean(flag, starts)
    begins = np.diff(flag, prepend=0.0) > 0
    inside = starts[:-1][np.diff(starts) > 0]
    begins[inside] = flag[inside] > 0  # not what the clip before ended with
    minutes = np.diff(starts) / frames_in(60.0)
    with np.errstate(all="ignore"):
        rate = _reduced(np.add, begins.astype(np.float32), starts) / minutes
    return {".share": share, ".invalid": 1 - share, ".rate": rate}


def _of_numbers(numbers: np.ndarray, starts: np.ndarray) -> dict[str, np.ndarray]:
    finite = np.isfinite(numbers).all(axis=1)
    with np.errstate(all="ignore"):
        steps = np.full(len(numbers), np.nan, np.float32)
        steps[1:] = np.sqrt(np.square(np.diff(numbers, axis=0)).sum(axis=1))
        steps[~np.isfinite(steps)] = np.nan
        steps[starts[:-1][np.diff(starts) > 0]] = np.nan  # from one clip to the next
        level = numbers.mean(axis=1) if numbers.shape[1] <= SCALARS_A_FRAME else steps
        level = np.where(finite, level, np.nan)
    return {
        ".jump": _reduced(np.fmax, steps, starts),
        ".motion": frames_in(_mean(steps, starts)),
        ".invalid": 1 - _mean(finite.astype(np.float32), starts),
        ".mean": _mean(level, starts),
        ".min": _reduced(np.fmin, level, starts),
        ".max": _reduced(np.fmax, level, starts),
    }


def _mean(numbers: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Mean of a clip's numbers that are not NaN."""
    there = ~np.isnan(numbers)
    total = _reduced(np.add, np.where(there, numbers, 0).astype(np.float64), starts)
    with np.errstate(all="ignore"):
        return total / _reduced(np.add, there.astype(np.float64), starts)


def _reduced(by: np.ufunc, numbers: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """A clip's numbers as one; NaN for a clip without any. ``starts`` (clip + 1,) says where each begins."""
    filled = np.diff(starts) > 0
    found = np.full(len(filled), np.nan)
    if filled.any():
        found[filled] = by.reduceat(numbers[: starts[-1]], starts[:-1][filled])
    return found
