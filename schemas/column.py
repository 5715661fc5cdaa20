"""A column: a named quantity of a clip with an Arrow type, a shape with named axes, a unit and a meaning.

Shapes are written as axes. A name is an axis whose length is the clip's (``"frame"``) or the value's own
(``"token"``); a number is a fixed length. ``("frame", 45)`` becomes ``list<fixed_size_list<float32>[45]>``, a type
that pandas, pyarrow and Hugging Face ``datasets`` read without our code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

ROLES = ("speaker", "listener")
SPEAKER, LISTENER = ROLES  # the latter is whom a run predicts, unless it says otherwise
FRAME_AXIS = "frame"  # its length is the clip's num_frames: the frame clock
PORTRAIT, PICTURE_AXIS = "portrait", "picture"  # who stands for a listener without a video, and how many: 1


class ColumnError(ValueError):
    """A value does not have the type or shape that its column declares."""


@dataclass(frozen=True)
class Column:
    """One named quantity of a clip."""

    name: str  # `{role}` in it stands for speaker and listener, see `per_role`
    dtype: str | pa.DataType  # of one element: a name such as "float32", "bool", "string", or any Arrow type
    axes: tuple[str | int, ...] = ()  # shape, outermost first; names vary, numbers are fixed; empty for a scalar
    unit: str = ""  # SI symbol or field term ("px", "rad", "LUFS", "1"); empty where none applies
    meaning: str = ""  # one sentence for the column table
    heavy: bool = False  # left out of the shards unless the manifest asks for it
    media: bool = False  # the value is a file that the stage wrote; the column holds its path relative to the data set

    @classmethod
    def of_field(cls, field: pa.Field) -> Column:
        """The column behind a field of a file: the inverse of `field`, less what a file does not say (heavy, media)."""
        notes = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in (field.metadata or {}).items()}
        names = notes.get("axes", "()").strip("()").split(", ")
        kind: pa.DataType = field.type
        axes: list[str | int] = []
        while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            named = names[len(axes)] if len(axes) < len(names) else ""
            axes.append(kind.list_size if pa.types.is_fixed_size_list(kind) else named)
            kind = kind.value_type
        return cls(field.name, kind, tuple(axes), notes.get("unit", ""), notes.get("meaning", ""))

    @property
    def element_type(self) -> pa.DataType:
        return pa.type_for_alias(self.dtype) if isinstance(self.dtype, str) else self.dtype

    @property
    def arrow_type(self) -> pa.DataType:
        kind = self.element_type
        for axis in reversed(self.axes):
            element = pa.field("element", kind)  # the name that Parquet gives it anyway
            kind = pa.list_(element, axis) if isinstance(axis, int) else pa.list_(element)
        return kind

    @property
    def per_frame(self) -> bool:
        return bool(self.axes) and self.axes[0] == FRAME_AXIS

    @property
    def shape(self) -> str:
        """The shape as the docs print it: ``(frame, 45)``."""
        return f"({', '.join(str(axis) for axis in self.axes)})" if self.axes else ""

    @property
    def is_numeric(self) -> bool:
        """Whether values are numpy arrays or scalars rather than strings or structs."""
        kind = self.element_type
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))

    def field(self) -> pa.Field:
        """The Arrow field with axes, unit and meaning in its metadata."""
        notes = {"axes": self.shape, "unit": self.unit, "meaning": self.meaning}
        return pa.field(self.name, self.arrow_type, metadata={k: v for k, v in notes.items() if v})

    def check(self, value: Any, num_frames: int) -> Any:
        """The value in the column's own type, or `ColumnError` if type or shape is wrong.

        Floats are narrowed to the declared width; every other change of kind (float to integer, integer to bool) and
        every wrong length is an error, because a stage that returns one has a bug.
        """
        if value is None and not self.nullable:
            raise ColumnError(f"column {self.name!r} {self.shape}: a value of fixed length cannot be None")
        if value is None or not self.is_numeric:
            return value
        array = np.asarray(value)
        wanted = np.dtype(self.element_type.to_pandas_dtype())
        if not (array.dtype.kind == wanted.kind or (wanted.kind == "f" and array.dtype.kind in "iu")):
            raise ColumnError(f"column {self.name!r}: expected {wanted}, found {array.dtype}")
        if array.ndim != len(self.axes):
            raise ColumnError(f"column {self.name!r}: expected shape {self.shape or 'scalar'}, found {array.shape}")
        for axis, length in zip(self.axes, array.shape, strict=True):
            expected = num_frames if axis == FRAME_AXIS else axis if isinstance(axis, int) else length
            if length != expected:
                raise ColumnError(
                    f"column {self.name!r} {self.shape}: axis {axis!r} must have length {expected}, found {length}"
                )
        return array.astype(wanted, copy=False)

    @property
    def nullable(self) -> bool:
        """Whether a value may be missing: pyarrow cannot read back a missing fixed-size list that it wrote."""
        return not (self.axes and isinstance(self.axes[0], int))

    def to_arrow(self, values: Iterable[Any]) -> pa.Array:
        """Checked values (None for a missing one), a row each, as one Arrow array built from numpy buffers.

        Where a column is not `nullable`, zeros stand for None; only rows of clips without an outcome "ok" hold any.
        """
        rows = list(values)
        if not (self.axes and self.is_numeric):
            plain = [row.item() if isinstance(row, np.generic | np.ndarray) else row for row in rows]
            return pa.array(plain, type=self.arrow_type)
        whole = [row if row is not None else self._empty() for row in rows]
        flat = np.concatenate([row.reshape(-1) for row in whole]) if whole else np.empty(0)
        array = pa.array(flat, type=self.element_type)
        for depth in range(len(self.axes) - 1, -1, -1):
            kind = replace(self, axes=self.axes[depth:]).arrow_type
            if isinstance(self.axes[depth], int):
                array = pa.FixedSizeListArray.from_arrays(array, type=kind)
            else:
                lengths = _axis_lengths(whole, depth)
                offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
                array = pa.ListArray.from_arrays(pa.array(offsets), array, type=kind)
        if self.nullable and any(row is None for row in rows):
            missing = pa.array([row is None for row in rows])
            array = pa.compute.if_else(missing, pa.scalar(None, type=self.arrow_type), array)
        return array

    def from_arrow(self, scalar: pa.Scalar) -> Any:
        """The value of one row: a numpy array of the declared shape (a view where Arrow allows), or a Python object."""
        if not scalar.is_valid:
            return None
        if not (self.axes and self.is_numeric):
            return scalar.as_py()
        array = scalar.values
        shape: list[int] = []
        for axis in self.axes:
            shape.append(axis if isinstance(axis, int) else len(array) if not shape else -1)
            if len(shape) < len(self.axes):
                array = array.flatten()
        flat = array.to_numpy(zero_copy_only=False)
        return flat.reshape(shape)

    def _empty(self) -> np.ndarray:
        return np.zeros([axis if isinstance(axis, int) else 0 for axis in self.axes])


def _axis_lengths(rows: list[np.ndarray], depth: int) -> list[int]:
    """Length of a variable axis in every list that stands at this depth."""
    lengths: list[int] = []
    for row in rows:
        lengths += [row.shape[depth]] * int(np.prod(row.shape[:depth], dtype=int))
    return lengths


def portrait_of(column: Column) -> Column | None:
    """The column that holds of a listener's picture what a column holds of its video; None where it is of no frames.

    Of a clip without a video of its listener the one is null, of all other clips the other.
    """
    name = portrait_name(column.name)
    if not name or not (column.per_frame or column.media):
        return None
    axes = tuple(PICTURE_AXIS if axis == FRAME_AXIS else axis for axis in column.axes)
    return replace(column, name=name, axes=axes, meaning=f"of the listener's picture: {column.meaning}")


def portrait_name(column: str) -> str:
    """What `portrait_of` calls a column of the listener; empty for others."""
    role, _, rest = column.partition("_")
    return f"{PORTRAIT}_{rest}" if role == ROLES[1] else ""


def with_portraits(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Columns, and after them those of the listener's picture."""
    own = tuple(columns)
    return (*own, *(portrait for column in own if (portrait := portrait_of(column))))


def per_role(*columns: Column) -> tuple[Column, ...]:
    """Columns for both roles from columns whose name and meaning hold ``{role}``, all of the speaker's first."""
    return tuple(
        replace(column, name=column.name.format(role=role), meaning=column.meaning.format(role=role))
        for role in ROLES
        for column in columns
    )


def both(*names: str) -> tuple[str, ...]:
    """Column names for both roles: ``both("{role}_video")`` is ``("speaker_video", "listener_video")``."""
    return tuple(name.format(role=role) for role in ROLES for name in names)


def other_role(role: str) -> str:
    """The role of the one whom a person of a role talks with."""
    return SPEAKER if role == LISTENER else LISTENER


def plain_fields(fields: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """What files say of a dataclass's fields, for `dataclasses.asdict`: a role only where it is not the listener's.

    So files about listeners are the same as before there was a choice.
    """
    return {name: value for name, value in fields if (name, value) != ("role", LISTENER)}
