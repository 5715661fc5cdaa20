"""Columns against pyarrow's and pandas' own view of them."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.column import Column, ColumnError, per_role


def test_a_per_frame_vector_is_a_list_of_fixed_size_lists() -> None:
    kind = Column("acoustic", "float32", ("frame", 45)).arrow_type
    assert kind.equals(pa.list_(pa.list_(pa.float32(), 45)))  # Arrow compares types, not the names of list elements


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (Column("x", "float32", ("frame", 3)), [np.ones((2, 3), np.float32), None, np.zeros((0, 3), np.float32)]),
        (Column("x", "float32", ("frame", 5, 3)), [np.arange(30, dtype=np.float32).reshape(2, 5, 3)]),
        (Column("x", "bool", ("frame",)), [np.array([True, False]), None]),
        (Column("x", "float32", (4,)), [np.arange(4, dtype=np.float32)]),
        (Column("x", "string", ("token",)), [["a", "b"], [], None]),
        (Column("x", "int32"), [np.int32(3), None]),
    ],
)
def test_values_survive_arrow_and_parquet(column: Column, values: list, tmp_path) -> None:
    table = pa.table([column.to_arrow(values)], schema=pa.schema([column.field()]))
    pq.write_table(table, tmp_path / "t.parquet")
    back = pq.read_table(tmp_path / "t.parquet")["x"]
    assert back.type == column.arrow_type
    for value, scalar in zip(values, back, strict=True):
        found = column.from_arrow(scalar)
        assert (found is None) == (value is None)
        np.testing.assert_array_equal(found, value)


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 7), st.just(3))))
def test_our_arrow_arrays_equal_those_that_pyarrow_makes_of_lists(array: np.ndarray) -> None:
    column = Column("x", "float32", ("frame", 3))
    ours = column.to_arrow([array, array])
    theirs = pa.array([array.tolist(), array.tolist()], type=column.arrow_type)
    np.testing.assert_array_equal(ours.flatten().flatten().to_numpy(), theirs.flatten().flatten().to_numpy())
    assert ours.offsets.equals(theirs.offsets)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (Column("x", "float32", ("frame", 3)), np.zeros((2, 3)), ""),
        (Column("x", "float32", ("frame", 3)), np.zeros((5, 3)), "axis 'frame' must have length 2, found 5"),
        (Column("x", "int32", ("frame",)), np.zeros(2), "expected int32, found float64"),
        (Column("x", "bool", ("frame",)), np.zeros(2, np.int64), "expected bool, found int64"),
    ],
)
def test_another_length_or_kind_is_an_error_and_another_width_is_not(column: Column, value, message: str) -> None:
    with pytest.raises(ColumnError, match=message) if message else nullcontext():
        assert column.check(value, num_frames=2).dtype == np.float32


def test_a_missing_value_of_fixed_length_is_refused_because_parquet_could_not_be_read_back(tmp_path) -> None:
    column = Column("box", "float32", (4,))
    with pytest.raises(ColumnError, match="cannot be None"):
        column.check(None, 2)
    theirs = pa.table({"box": pa.array([[1, 2, 3, 4], None], type=column.arrow_type)})
    pq.write_table(theirs, tmp_path / "t.parquet")
    with pytest.raises(pa.ArrowInvalid):  # the day this passes, the rule can go
        pq.read_table(tmp_path / "t.parquet")


def test_a_column_for_both_roles_is_written_once() -> None:
    names = [column.name for column in per_role(Column("{role}_blink", "bool", ("frame",), meaning="{role} blinks"))]
    assert names == ["speaker_blink", "listener_blink"]
