"""Packing: finished clips of a split become Parquet shards, sorted by clip id and bounded in size.

Shards are a pure function of the columns and the settings: the same input gives the same bytes, whatever the order of
clips, the number of workers or of crashes in between. A shard that already stands with the wanted fingerprint is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa

from pipeline.dataset.read import read_schema
from pipeline.dataset.storage import Location
from pipeline.dataset.store import Store
from pipeline.dataset.write import write_shard
from pipeline.plan import ClipTask, Pipeline, digest
from pipeline.stage import setting
from schemas.clip import CLIP_COLUMNS, SPLITS
from schemas.column import Column
from schemas.dataset import SHARD_NAME, shard_name, shard_schema
from schemas.errors import UserError

PACK_VERSION = 1
STRING_BYTES = 32  # a guess for a path or a name; shard sizes need no more
UNKNOWN_AXIS = 64  # and for the length of an axis that is not the frame axis


@dataclass(frozen=True)
class PackSettings:
    """Settings of packing: ``[stages.pack]`` in the manifest, ``--set pack.max_shard_mb=256``."""

    max_shard_mb: int = setting(512, "size of a shard before compression, in MB (10^6 bytes)")
    include: tuple[str, ...] = setting((), "heavy columns to pack all the same, e.g. ['speaker_landmarks']")


@dataclass(frozen=True)
class PlannedShard:
    """One shard to write: its file name, its clips in order, and the fingerprint of its content."""

    name: str
    clips: tuple[ClipTask, ...]
    fingerprint: str


def packed_columns(pipeline: Pipeline, settings: PackSettings) -> list[Column]:
    """The stage columns that go into shards: all but the heavy ones that were not asked for."""
    for name in settings.include:
        if name not in pipeline.columns:
            heavy = ", ".join(column.name for column in pipeline.columns.values() if column.heavy)
            raise UserError(f"[stages.pack] include: no column {name!r}; heavy columns: {heavy or 'none'}")
    return [c for c in pipeline.columns.values() if not c.heavy or c.name in settings.include]


def plan_shards(pipeline: Pipeline, tasks: Sequence[ClipTask], settings: PackSettings) -> list[PlannedShard]:
    """Cut every split into shards by an estimate of size that depends on the clips' lengths alone."""
    columns = packed_columns(pipeline, settings)
    shards = []
    for split in SPLITS:
        clips = sorted((t for t in tasks if t.row.split == split), key=lambda t: t.row.clip_id)
        groups = _cut(clips, columns, settings.max_shard_mb * 10**6)
        for number, group in enumerate(groups):
            content = [[task.row.columns(), pipeline.fingerprints(task)] for task in group]
            fingerprint = digest([PACK_VERSION, [str(column.field()) for column in columns], content])
            shards.append(PlannedShard(shard_name(split, number, len(groups)), tuple(group), fingerprint))
    return shards


def _cut(clips: Sequence[ClipTask], columns: Sequence[Column], limit_bytes: int) -> list[list[ClipTask]]:
    groups: list[list[ClipTask]] = []
    used = 0
    for task in clips:
        size = sum(_estimated_bytes(column, task.row.span.num_frames) for column in columns)
        if not groups or used + size > limit_bytes:
            groups.append([])
            used = 0
        groups[-1].append(task)
        used += size
    return groups


def _estimated_bytes(column: Column, num_frames: int) -> int:
    count = 1
    for axis in column.axes:
        count *= axis if isinstance(axis, int) else num_frames if axis == "frame" else UNKNOWN_AXIS
    return count * (column.element_type.bit_width // 8 or 1 if column.is_numeric else STRING_BYTES)


def write_shards(
    store: Store, pipeline: Pipeline, shards: Sequence[PlannedShard], settings: PackSettings, part_of: Mapping[str, str]
) -> int:
    """Bring ``shards/`` to the planned state; returns how many files were written. Stale shards are removed last."""
    columns = packed_columns(pipeline, settings)
    written = 0
    for shard in shards:
        path = store.shards / shard.name
        if fingerprint_of(path) != shard.fingerprint:
            write_shard(store, shard.name, _join(store, pipeline, shard, columns, part_of), shard.fingerprint)
            written += 1
    wanted = {shard.name for shard in shards}
    for path in store.shards.glob("*.parquet"):
        if SHARD_NAME.fullmatch(path.name) and path.name not in wanted:
            path.unlink()
    return written


def fingerprint_of(path: Location) -> str | None:
    """The fingerprint that a shard file carries, None if there is no such file."""
    if not path.is_file():
        return None
    metadata = read_schema(path).metadata or {}
    fingerprint: bytes = metadata.get(b"fingerprint", b"")
    return fingerprint.decode()


def _join(
    store: Store, pipeline: Pipeline, shard: PlannedShard, columns: Sequence[Column], part_of: Mapping[str, str]
) -> pa.Table:
    """All columns of the shard's clips side by side, a row a clip; `columns` stand in the order of the stages."""
    manifest = [task.row.columns() for task in shard.clips]
    arrays: list[Any] = [pa.array([row[c.name] for row in manifest], type=c.arrow_type) for c in CLIP_COLUMNS]
    order = [(part_of[task.row.clip_id], task.row.clip_id) for task in shard.clips]
    for stage in pipeline.stages:
        wanted = [column for column in stage.writes if column in columns]
        if wanted:
            table = _rows_in_order(store, stage.name, [column.name for column in wanted], order)
            arrays += [table[column.name] for column in wanted]
    return pa.table(arrays, schema=shard_schema(columns))


def _rows_in_order(store: Store, stage: str, names: list[str], order: Sequence[tuple[str, str]]) -> pa.Table:
    @cache
    def part_table(part: str) -> tuple[pa.Table, dict[str, int]]:
        table = store.read_table(stage, part, names)
        return table, {clip_id: i for i, clip_id in enumerate(table["clip_id"].to_pylist())}

    rows = []
    for part, clip_id in order:
        table, index = part_table(part)
        rows.append(table.slice(index[clip_id], 1))
    return pa.concat_tables(rows).combine_chunks()
