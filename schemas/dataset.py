"""A shard: a Parquet file of finished clips, all columns joined; what a trainer reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa

from schemas.clip import CLIP_COLUMNS
from schemas.column import Column

SHARD_NAME = re.compile(r"(?P<split>[a-z]+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.parquet")


def shard_name(split: str, number: int, count: int) -> str:
    """``train-00000-of-00004.parquet``: the naming that Hugging Face ``datasets`` and others know."""
    return f"{split}-{number:05d}-of-{count:05d}.parquet"


def shard_schema(columns: Sequence[Column]) -> pa.Schema:
    """The manifest's columns, then those of the stages, with axes, unit and meaning in each field's metadata."""
    return pa.schema([column.field() for column in (*CLIP_COLUMNS, *columns)])
