"""What a run reads of a data set, and whether a data set can give it: columns, widths, makers, frame rate, attitudes.

A run records its `Inputs`; a data set whose columns were made otherwise is refused, with the column named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.read import read_description
from schemas.coefficients import ORDERS, STAGE, Layout, one_fitter, provenance_of
from schemas.column import FRAME_AXIS, ROLES
from schemas.errors import UserError

ACOUSTIC, ACOUSTIC_WIDTH = "acoustic", 45
TOKEN_AXIS, FRAME_TOKEN = "token", "frame_token"  # columns of tokens come to frames through the latter
NO_LABEL = "unlabelled"  # the attitude of clips that have none


@dataclass(frozen=True)
class ColumnShape:
    """Element type of a column as Arrow names it, and its axes as `schemas.column.Column` writes them."""

    dtype: str
    axes: tuple[str | int, ...]

    @property
    def fixed(self) -> tuple[int, ...]:
        """The axes that every value has alike."""
        return tuple(axis for axis in self.axes if isinstance(axis, int))

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join(map(str, self.axes))})"


@dataclass(frozen=True)
class Inputs:
    """What a run reads.

    Attributes
    ----------
    order : layout of motion, a key of `schemas.coefficients.ORDERS`.
    extra : columns that go into ``Batch.extra``.
    fps : frames a second.
    attitudes : the vocabulary; a clip's attitude is its index.
    shapes : every column read -> its type and axes.
    makers : stage that made one of them -> what identifies its output.
    """

    order: str
    extra: tuple[str, ...]
    fps: int
    attitudes: tuple[str, ...]
    shapes: Mapping[str, ColumnShape]
    makers: Mapping[str, Any]

    @property
    def columns(self) -> list[str]:
        return list(self.shapes)

    @property
    def layout(self) -> Layout:
        """Where the parts of a frame of motion stand."""
        return Layout(self.order, {part: self.shapes[f"speaker_{part}"].fixed[-1] for part in ORDERS[self.order]})

    def runs_along_frames(self, name: str) -> bool:
        """Whether an extra column says something of every frame, and not of the clip as a whole."""
        return self.shapes[name].axes[:1] in ((FRAME_AXIS,), (TOKEN_AXIS,))


def inputs_of(roots: Sequence[Path], order: str, extra: Sequence[str]) -> Inputs:
    """What a model of an order reads of some data sets.

    Raises
    ------
    UserError : a column is missing, has another width than the order, or the data sets do not fit each other.
    MixedCoefficientsError : their coefficients are not of one fitter.
    """
    one_fitter(roots)
    found = [_inputs_of(root, order, tuple(extra)) for root in roots]
    for root, other in zip(roots[1:], found[1:], strict=True):
        check_alike(root, other, found[0])
    return found[0]


def check_alike(root: Path, found: Inputs, wanted: Inputs) -> None:
    """Raise `UserError` unless a data set's columns mean what the run's did; it names those that differ."""
    for name, shape in wanted.shapes.items():
        if found.shapes[name] != shape:
            raise UserError(f"{root}: column {name!r}: expected {shape}, found {found.shapes[name]}")
    for stage, maker in wanted.makers.items():
        if found.makers[stage] != maker:
            columns = ", ".join(name for name in wanted.shapes if name in found.makers[stage]["columns"])
            raise UserError(
                f"{root}: columns {columns}: the run learned from those that {stage!r} made with {maker['made']}, "
                f"found {found.makers[stage]['made']}; build the data set with the same settings, or train another run"
            )
    if found.fps != wanted.fps:
        raise UserError(f"{root}: expected {wanted.fps} frames a second, found {found.fps}")


def _inputs_of(root: Path, order: str, extra: tuple[str, ...]) -> Inputs:
    description = read_description(root)
    motion = [f"{role}_{name}" for role in ROLES for name in ORDERS[order]]
    names = [*motion, *(f"{role}_coeffs_valid" for role in ROLES), ACOUSTIC, *extra]
    shapes = column_shapes(root, names)
    if any(TOKEN_AXIS in shapes[name].axes for name in extra):
        shapes |= column_shapes(root, [FRAME_TOKEN])
    expected = {f"{role}_{part}": shapes[f"speaker_{part}"].axes for role in ROLES for part in ORDERS[order]}
    expected[ACOUSTIC] = (FRAME_AXIS, ACOUSTIC_WIDTH)
    for name, axes in expected.items():
        if shapes[name].axes != axes:
            raise UserError(
                f"{root}: column {name!r}: expected axes {axes} for motion in the order {order}, found "
                f"{shapes[name].axes}"
            )
    for name in extra:
        if shapes[name].dtype not in ("bool", "int32", "int64", "float", "double"):
            raise UserError(f"{root}: column {name!r}: a listener reads numbers, found {shapes[name]}")
    vocabulary = tuple(description["vocabulary"]["attitude"])
    return Inputs(order, extra, description["fps"], vocabulary, shapes, _makers(root, description, list(shapes)))


def column_shapes(root: Path, names: Sequence[str]) -> dict[str, ColumnShape]:
    """Types and axes of columns of a data set's shards; `UserError` names a missing one."""
    description = read_description(root)
    if missing := [name for name in names if name not in description["packed"]]:
        raise UserError(f"{root}: its shards hold no column {', '.join(missing)}, which the listener reads")
    if not description["shards"]:
        raise UserError(f"{root}: holds no clips; python -m jobs.check {root}")
    schema = pq.read_schema(root / "shards" / description["shards"][0]["file"])
    return {name: _shape(schema.field(name)) for name in names}


def _shape(field: pa.Field) -> ColumnShape:
    kind, fixed = field.type, []
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        fixed.append(kind.list_size if pa.types.is_fixed_size_list(kind) else None)
        kind = kind.value_type
    named = (field.metadata or {}).get(b"axes", b"()").decode().strip("()").split(", ")
    axes = [size if size is not None else name for size, name in zip(fixed, named, strict=False)]
    return ColumnShape(str(kind), tuple(axes))


def _makers(root: Path, description: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Who made the columns: for coefficients the fitter with its weights, else version, settings and weights."""
    makers = {}
    for stage, made in description["stages"].items():
        columns = [name for name, _ in made["writes"] if name in names]
        if columns:
            settings = {key: made[key] for key in ("version", "settings", "weights")}
            makers[stage] = {"columns": columns, "made": str(provenance_of(root)) if stage == STAGE else str(settings)}
    return makers
