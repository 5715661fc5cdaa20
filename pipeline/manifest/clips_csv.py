"""clips.csv: a row a clip. Every mistake ends as a `UserError` with file, line, column, found and allowed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from operator import attrgetter
from pathlib import Path
from sys import intern
from typing import Any

from pipeline.clock import Span
from pipeline.settings import SHOWN, read_text
from schemas.clip import ATTITUDES, CLIP_COLUMNS, ID_MEANING, ID_PATTERN, SIDES, SPLITS
from schemas.errors import UserError

CSV_COLUMNS = ("source", "start_s", "end_s", "speaker_side", "attitude", "speaker_id", "listener_id", "split")
SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
ROUNDED = re.compile(r"\d{1,9}(\.\d{1,24})?(e-\d\d)?", re.ASCII)  # as programs write floats: .34 + .5, or 1e-05
MAX_CSV_BYTES = 2**30
MAX_CSV_COLUMNS = 64  # of which an error can name those that are wrong
_NAMES = [column.name for column in CLIP_COLUMNS]
_VALUES = attrgetter(*_NAMES)


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One row of clips.csv. ``line`` is its line number, for error messages.

    A driver holds all of them, a million perhaps: 430 bytes each with the task that is made of it.
    """

    clip_id: str
    source_id: str
    span: Span
    speaker_side: str | None  # none in a pair, where nobody sits beside the other
    attitude: str | None
    speaker_id: str | None  # none where nobody knows who it is
    listener_id: str | None
    split: str
    line: int

    @property
    def start_s(self) -> float:
        return float(self.span.start_s)

    @property
    def end_s(self) -> float:
        return float(self.span.end_s)

    @property
    def num_frames(self) -> int:
        return self.span.num_frames

    def columns(self) -> dict[str, Any]:
        """The clip's columns as the schema has them (`schemas.clip.CLIP_COLUMNS`)."""
        return dict(zip(_NAMES, _VALUES(self), strict=True))


def clip_id_for(source_id: str, span: Span) -> str:
    """``<source>_<start>_<end>`` in ViCo's grammar: six digits each, whole seconds, rounded outwards.

    ViCo never says whether its digits are seconds or HHMMSS (spec 1.1); ours are seconds.
    """
    return f"{source_id}_{int(span.start_s):06d}_{-int(-span.end_s // 1):06d}"


def read_clips_csv(path: Path, sources: Collection[str]) -> list[ClipRow]:
    """The rows of clips.csv, in file order, ``split`` left empty where the file leaves it empty."""
    text = read_text(path, MAX_CSV_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        _check_header(path, header)
        rows = []
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append(_read_row(path, reader.line_num, header, cells, sources))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not readable as CSV: {error}") from None
    if not rows:
        raise UserError(f"{path}: no clips; expected a row a clip under the header {','.join(CSV_COLUMNS)}")
    _unique_ids(path, rows)
    return rows


def _check_header(path: Path, header: list[str]) -> None:
    allowed = (*CSV_COLUMNS, "clip_id")
    if len(header) > MAX_CSV_COLUMNS:
        raise UserError(f"{path}, line 1: {len(header)} columns, allowed: {', '.join(allowed)}")
    missing = [name for name in CSV_COLUMNS if name not in header]
    unknown = [name for name in header if name not in allowed]
    twice = sorted({name for name in header if header.count(name) > 1})
    for problem, names in (("missing column", missing), ("unknown column", unknown), ("column given twice", twice)):
        if names:
            raise UserError(f"{path}, line 1: {problem} {', '.join(map(repr, names))}; allowed: {', '.join(allowed)}")


def _read_row(path: Path, line: int, header: list[str], cells: list[str], sources: Collection[str]) -> ClipRow:
    if len(cells) != len(header):
        raise UserError(f"{path}, line {line}: expected {len(header)} cells as in the header, found {len(cells)}")
    row = _Row(path, line, {name: cell.strip() for name, cell in zip(header, cells, strict=True)})
    source_id = row.one_of("source", sources)
    span = Span(row.seconds("start_s"), row.seconds("end_s"))
    if span.num_frames < 1:
        raise row.error("end_s", f"a time after start_s ({row.cells['start_s']})")
    return ClipRow(
        clip_id=row.identity("clip_id") if row.cells.get("clip_id") else clip_id_for(source_id, span),
        source_id=source_id,
        span=span,
        speaker_side=row.one_of("speaker_side", SIDES, optional=True) or None,
        attitude=row.one_of("attitude", ATTITUDES, optional=True) or None,
        speaker_id=intern(row.identity("speaker_id")) if row.cells["speaker_id"] else None,
        listener_id=intern(row.identity("listener_id")) if row.cells["listener_id"] else None,
        split=row.one_of("split", SPLITS, optional=True),
        line=line,
    )


@dataclass(frozen=True)
class _Row:
    """One line of a CSV file, read cell by cell; errors say file, line, column, found and allowed."""

    path: Path
    line: int
    cells: dict[str, str]

    def error(self, column: str, allowed: str) -> UserError:
        found = self.cells[column][:SHOWN]
        return UserError(f"{self.path}, line {self.line}, column {column!r}: found {found!r}, allowed: {allowed}")

    def one_of(self, column: str, allowed: Collection[str], *, optional: bool = False) -> str:
        value = self.cells[column]
        if value in allowed or (optional and not value):
            return intern(value)  # one text for all clips that say the same
        shown = ", ".join(islice(allowed, 20)) + (", ..." if len(allowed) > 20 else "")
        raise self.error(column, shown + (" or empty" if optional else ""))

    def identity(self, column: str) -> str:
        value = self.cells[column]
        if not ID_PATTERN.fullmatch(value):
            raise self.error(column, ID_MEANING)
        return value

    def seconds(self, column: str) -> Fraction:
        value = self.cells[column]
        if not SECONDS.fullmatch(value):
            if ROUNDED.fullmatch(value):
                return round(Fraction(value), 9)  # 0.8400000000000001 is .84: in a float no time is finer than that
            raise self.error(column, "seconds from the start of the source as a decimal number, e.g. 12 or 10.75")
        whole, _, places = value.partition(".")
        return Fraction(int(whole + places), 10 ** len(places))  # which reads its own text three times slower


def _unique_ids(path: Path, rows: list[ClipRow]) -> None:
    first: dict[str, ClipRow] = {}
    for row in rows:
        # Ids become folder names, and some file systems do not tell upper from lower case.
        other = first.setdefault(row.clip_id.lower(), row)
        if other is not row:
            raise UserError(
                f"{path}, lines {other.line} and {row.line}: both are clip {row.clip_id!r}; "
                "remove one, or give each its own id in a column clip_id"
            )
