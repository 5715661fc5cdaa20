"""Reading Parquet files that other people wrote: plain Arrow types only.

An Arrow schema may name extension types, and a library that has registered one rebuilds it from bytes in the file: in
Ray before 2.57 by unpickling them (CVE-2026-41486), that is by running what the file says. So the schema is searched
before Arrow looks at it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import ManifestError

_SCHEMA_KEY, _EXTENSION_KEY = b"ARROW:schema", b"ARROW:extension:name"


def read_plain(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a file, or some columns of it.

    Raises
    ------
    ManifestError : a type in it is no plain one, it lacks a column, or it is no Parquet file.
    """
    try:
        refuse_extensions(path)
        table = pq.read_table(path, columns=None if columns is None else list(columns), partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"{path}: cannot be read as Parquet: {error}") from None
    if missing := sorted(set(columns or ()) - set(table.column_names)):
        raise ManifestError(f"{path}: holds no column {', '.join(missing)}")
    return table


def refuse_extensions(path: Path) -> None:
    """`ManifestError` if the file's schema names an extension type; no type of it is built to find that out."""
    stored = pq.read_metadata(path).metadata or {}
    try:
        schema = base64.b64decode(stored.get(_SCHEMA_KEY, b""))
    except binascii.Error:
        raise ManifestError(f"{path}: its Arrow schema is damaged") from None
    # Names stand literally in a flatbuffer; a schema of ours never holds this one.
    if _EXTENSION_KEY in schema or _EXTENSION_KEY in stored:
        raise ManifestError(f"{path}: it holds an extension type, expected plain Arrow types; do not open it elsewhere")
