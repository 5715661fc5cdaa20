"""Which clips of a data set are meant, said as a condition: ``listener_sync > 4 and attitude == 'positive'``.

The grammar is a part of Python's, read through `ast` and never run: every form that is not named here is refused with
its place. What it says of a clip becomes an expression of Arrow's.

    and  or  not  ( )   < <= > >= == !=   also in chains: 2 < duration <= 10
    in  not in          a list of values: split in ('test', 'ood')
    is None             also is not None
    + - * /             of numbers; by 0 there is none, as in SQL
    mean min max std    of a column with a value a frame, mean(listener_blink), or of one of its several: max(x[2])

A missing value, and a number that is none (NaN), is neither above nor below, neither equal nor different: a clip is
chosen where the condition is true, so not where it hangs on such a value, and ``not`` makes no difference to that; say
``x is None``. In columns with a value a frame, frames without one are left out; a clip without any has no mean.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.column import Column
from schemas.errors import UserError

MAX_CHARACTERS = 10_000
NUMBER, TEXT, TRUTH = "a number", "text", "true or false"
AGGREGATES: Mapping[str, Callable[[np.ndarray], float]] = {"mean": np.mean, "min": np.min, "max": np.max, "std": np.std}
EQUALITY: Mapping[type, Callable[[Any, Any], Any]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
ORDER: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _divided(number: pc.Expression, by: pc.Expression) -> pc.Expression:
    return number / pc.if_else(by == 0, pc.scalar(pa.scalar(None, pa.float64())), by)


ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divided,
}
EXPECTED = "expected a condition such as mean(listener_blink) > .1 and attitude == 'positive'"


@dataclass(frozen=True)
class Term:
    """A piece of a condition, and what its value is: `NUMBER`, `TEXT` or `TRUTH`."""

    value: pc.Expression
    kind: str


@dataclass(frozen=True)
class Quantity:
    """One value a clip, from a column: itself, or the aggregate of a number in each of its frames."""

    column: Column
    aggregate: str = ""
    index: int | None = None

    def of(self, values: pa.ChunkedArray) -> pa.Array:
        """The values of clips, null where a clip has none; numbers as float64."""
        if self.aggregate:
            found = [self._aggregated(self.column.from_arrow(value)) for value in values]
            return pa.array(found, pa.float64())
        if kind_of(self.column) != NUMBER:
            return values
        numbers = values.cast(pa.float64())
        return pc.if_else(pc.is_nan(numbers), None, numbers)

    def _aggregated(self, frames: np.ndarray | None) -> float | None:
        if frames is None:
            return None
        numbers = np.asarray(frames if self.index is None else frames[:, self.index], np.float64)
        finite = numbers[np.isfinite(numbers)]
        return float(AGGREGATES[self.aggregate](finite)) if len(finite) else None


class Where:
    """A condition on the clips of a data set with these columns; `UserError` that names the place of what is wrong."""

    def __init__(self, text: str, columns: Mapping[str, Column]) -> None:
        self.text = " ".join(text.splitlines()).strip()
        self.columns = columns
        self.quantities: dict[str, Quantity] = {}  # as the condition writes them
        if len(self.text) > MAX_CHARACTERS:
            raise UserError(f"--where: expected no more than {MAX_CHARACTERS} characters, found {len(self.text)}")
        try:
            self._condition = self._truth(ast.parse(self.text, mode="eval").body)
        except SyntaxError as error:
            raise UserError(
                f"--where, character {error.offset or len(self.text) + 1}: {error.msg}; {EXPECTED}"
            ) from None
        except (RecursionError, MemoryError):
            raise UserError("--where: nested too deeply; give fewer parentheses") from None
        except ValueError as error:  # a null character
            raise UserError(f"--where: {error}; {EXPECTED}") from None

    @property
    def reads(self) -> list[str]:
        """Names of the columns that it asks for."""
        return list(dict.fromkeys(quantity.column.name for quantity in self.quantities.values()))

    @property
    def texts(self) -> list[str]:
        """Those of them that hold text."""
        return [name for name in self.reads if kind_of(self.columns[name]) == TEXT]

    def chosen(self, table: pa.Table) -> np.ndarray:
        """Which rows of a table with the columns that it `reads` are meant, bool (clip,)."""
        values = {name: quantity.of(table[quantity.column.name]) for name, quantity in self.quantities.items()}
        rows = pa.table({"row": np.arange(table.num_rows), **values}).filter(self._condition)["row"]
        mask = np.zeros(table.num_rows, bool)
        mask[rows.to_numpy()] = True
        return mask

    # -- the grammar -----------------------------------------------------------------------------------------------

    def _truth(self, node: ast.expr) -> pc.Expression:
        return self._of_kind(node, TRUTH)

    def _of_kind(self, node: ast.expr, kind: str) -> pc.Expression:
        term = self._term(node)
        if term.kind != kind:
            self._refuse(node, f"expected {kind}, found {term.kind}")
        return term.value

    def _term(self, node: ast.expr) -> Term:
        match node:
            case ast.BoolOp(op=op, values=values):
                joined = operator.and_ if isinstance(op, ast.And) else operator.or_
                return Term(reduce(joined, map(self._truth, values)), TRUTH)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Term(~self._truth(operand), TRUTH)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Term(pc.negate(self._of_kind(operand, NUMBER)), NUMBER)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
                numbers = (self._of_kind(left, NUMBER), self._of_kind(right, NUMBER))
                return Term(ARITHMETIC[type(op)](*numbers), NUMBER)
            case ast.Compare(left=left, ops=ops, comparators=others):
                pairs = zip([left, *others], ops, others, strict=False)
                return Term(reduce(operator.and_, [self._compared(*pair) for pair in pairs]), TRUTH)
            case ast.Constant(value=value):
                return self._constant(node, value)
            case ast.Name(id=name):
                return self._column(node, name)
            case ast.Call(func=ast.Name(id=name), args=[of], keywords=[]) if name in AGGREGATES:
                return self._aggregate(node, name, of)
        self._refuse(node, f"not allowed here; {EXPECTED}")

    def _constant(self, node: ast.expr, value: Any) -> Term:
        if isinstance(value, bool):
            return Term(pc.scalar(value), TRUTH)
        if isinstance(value, str):
            return Term(pc.scalar(value), TEXT)
        if isinstance(value, int | float) and abs(value) < 2**1000:  # what a float64 holds
            return Term(pc.scalar(float(value)), NUMBER)
        self._refuse(node, "expected a number, a text in quotes, True or False")

    def _compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> pc.Expression:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                self._refuse(right, "after `is` expected None; allowed for other values: ==")
            missing = self._term(left).value.is_null()
            return missing if isinstance(op, ast.Is) else ~missing
        one = self._term(left)
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
                self._refuse(right, "after `in` expected values in brackets: ('test', 'ood')")
            any_of = reduce(operator.or_, [one.value == self._of_kind(each, one.kind) for each in right.elts])
            return any_of if isinstance(op, ast.In) else ~any_of
        other = self._of_kind(right, one.kind)
        if type(op) in EQUALITY:
            return EQUALITY[type(op)](one.value, other)
        if one.kind != NUMBER:
            self._refuse(left, f"found {one.kind}, which has no order; allowed: == != in")
        return ORDER[type(op)](one.value, other)

    def _column(self, node: ast.expr, name: str) -> Term:
        column = self._found(node, name)
        kind = kind_of(column)
        if not kind:
            allowed = ", ".join(f"{how}({name}{'[0]' * (len(column.axes) == 2)})" for how in AGGREGATES)
            self._refuse(node, f"holds many values a clip, {column.shape}; expected one, such as {allowed}")
        return self._read(node, Quantity(column), kind)

    def _aggregate(self, node: ast.expr, how: str, of: ast.expr) -> Term:
        index: int | None = None
        named: ast.expr = of
        if isinstance(of, ast.Subscript) and isinstance(of.slice, ast.Constant) and type(of.slice.value) is int:
            named, index = of.value, of.slice.value
        if not isinstance(named, ast.Name):
            self._refuse(of, f"in {how}() expected the name of a column, or one of its numbers: x or x[2]")
        column = self._found(named, named.id)
        fixed = column.axes[1:]
        if not column.axes or isinstance(column.axes[0], int) or not column.is_numeric or len(fixed) > 1:
            self._refuse(of, f"in {how}() expected a column with a number a frame, found {_described(column)}")
        width = fixed[0] if fixed and isinstance(fixed[0], int) else 0
        if bool(fixed) != (index is not None) or index is not None and not 0 <= index < width:
            wanted = f"{named.id}[0] to {named.id}[{width - 1}]" if fixed else named.id
            self._refuse(of, f"in {how}() expected {wanted}, found {ast.unparse(node)}: the column is {column.shape}")
        return self._read(node, Quantity(column, how, index), NUMBER)

    def _read(self, node: ast.expr, quantity: Quantity, kind: str) -> Term:
        name = ast.unparse(node)
        self.quantities[name] = quantity
        return Term(pc.field(name), kind)

    def _found(self, node: ast.expr, name: str) -> Column:
        if name not in self.columns:
            single = [one for one, column in self.columns.items() if kind_of(column)]
            many = [one for one, column in self.columns.items() if column.per_frame and column.is_numeric]
            known = f"known: {', '.join(single)}; with values a frame, for mean() and its like: {', '.join(many)}"
            self._refuse(node, f"the shards hold no such column; {known}")
        return self.columns[name]

    def _refuse(self, node: ast.expr, why: str) -> NoReturn:
        place = len(self.text.encode()[: node.col_offset].decode()) + 1  # ast counts bytes
        piece = ast.get_source_segment(self.text, node) or ""
        raise UserError(f"--where, character {place}, {piece[:60]!r}: {why}")


def kind_of(column: Column) -> str:
    """What the one value a clip of a column is; empty where it has more, or a value that cannot be compared."""
    kind = column.element_type
    if column.axes:
        return ""
    if pa.types.is_boolean(kind):
        return TRUTH
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return TEXT
    return NUMBER if column.is_numeric else ""


def _described(column: Column) -> str:
    return f"{column.element_type} {column.shape}" if column.axes else f"{column.element_type}, one a clip"
