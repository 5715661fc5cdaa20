"""Reading Parquet files that other people wrote: plain Arrow types only.

An Arrow schema may name extension types, and a library that has registered one rebuilds it from bytes in the file: in
Ray before 2.57 by unpickling them (CVE-2026-41486), that is by running what the file says. pyarrow does so as soon as
it opens a file, even for its metadata alone. So the footer is searched before pyarrow sees the file.
"""

from __future__ import annotations

import base64
import os
import re
import struct
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.storage import Location, arrow_source
from schemas.errors import UserError

_TAIL = struct.Struct("<I4s")  # length of the footer, magic
_MAGIC = b"PAR1"
_EXTENSION_KEY = b"ARROW:extension:name"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{16,}")


def read_plain(path: Location, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a file, or some columns of it.

    Raises
    ------
    UserError : a type in it is no plain one, it lacks a column, or it is no Parquet file.
    """
    try:
        if _EXTENSION_KEY in _schemas(_footer(path)):
            raise UserError(f"{path}: it holds an extension type, expected plain Arrow types; open it nowhere else")
        wanted = None if columns is None else list(columns)
        table = pq.read_table(arrow_source(path), columns=wanted, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}") from None
    if missing := sorted(set(columns or ()) - set(table.column_names)):
        raise UserError(f"{path}: holds no column {', '.join(missing)}")
    return table


def _footer(path: Location) -> bytes:
    """The last part of a Parquet file, which describes the rest."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _TAIL.size, 0))
        tail = file.read(_TAIL.size)
        length, magic = _TAIL.unpack(tail) if len(tail) == _TAIL.size else (0, b"")
        if magic != _MAGIC or length > size - _TAIL.size:
            raise pa.ArrowInvalid("it does not end as such a file ends")
        file.seek(size - _TAIL.size - length)
        return file.read(length)


def _schemas(footer: bytes) -> bytes:
    """Everything in a footer that may be an Arrow schema: they stand there in base64, names in them literally.

    What precedes a text may by chance belong to the same alphabet, so each is decoded from its first four characters.
    """
    texts = (found[0][start:] for found in _BASE64.finditer(footer) for start in range(4))
    return b"\n".join(base64.b64decode(text[: len(text) // 4 * 4]) for text in texts)
