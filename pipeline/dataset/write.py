"""Writing a data set: the one place that writes shards and ``dataset.json``.

A build packs the finished clips of a split from its column files, sorted by clip id and bounded in size. Shards are a
pure function of the columns and the settings: the same input gives the same bytes, whatever the order of clips, the
number of workers or of crashes in between; one that already stands with the wanted fingerprint is left. Predictions,
random sets and the sets of tests hand over rows (`write_dataset`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.clock import FPS, SAMPLE_RATE_HZ
from pipeline.dataset.read import FILE, read_schema
from pipeline.dataset.storage import Location
from pipeline.dataset.store import Store, how_to_write
from pipeline.plan import ClipTask, Pipeline, as_text, digest, digest_of
from pipeline.stage import setting
from schemas.clip import CLIP_COLUMNS, SPLITS
from schemas.column import Column
from schemas.dataset import (
    MANIFEST,
    SHARD_NAME,
    ColumnEntry,
    Description,
    Maker,
    Predicted,
    Shard,
    shard_name,
    shard_schema,
)
from schemas.errors import UserError

ROW_GROUP_CLIPS = 32  # a reader that wants one clip decompresses no more than this
PARTS_AT_HAND = 16  # whose columns are kept while a shard is packed; clips that were added later lie in other parts
PACK_VERSION = 1
STRING_BYTES = 32  # a guess for a path or a name; shard sizes need no more
UNKNOWN_AXIS = 64  # and for the length of an axis that is not the frame axis

Row = Mapping[str, Any]


@dataclass(frozen=True)
class PackSettings:
    """Settings of packing: ``[stages.pack]`` in the manifest, ``--set pack.max_shard_mb=256``."""

    max_shard_mb: int = setting(512, "size of a shard before compression, in MB (10^6 bytes)", least=1)
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
            fingerprint = digest_of(_content(pipeline, columns, group))
            shards.append(PlannedShard(shard_name(split, number, len(groups)), tuple(group), fingerprint))
    return shards


def _content(pipeline: Pipeline, columns: Sequence[Column], clips: Sequence[ClipTask]) -> Iterator[str]:
    """What a shard depends on: the text of [version, columns, [[row, fingerprints], ...]], which is long, in pieces."""
    yield f"[{PACK_VERSION}, {as_text([str(column.field()) for column in columns])}, ["
    for number, task in enumerate(clips):
        yield (", " if number else "") + as_text([task.row.columns(), pipeline.fingerprints(task)])
    yield "]]"


def _cut(clips: Sequence[ClipTask], columns: Sequence[Column], limit_bytes: int) -> list[list[ClipTask]]:
    @cache
    def estimated_bytes(num_frames: int) -> int:
        return sum(_estimated_bytes(column, num_frames) for column in columns)

    groups: list[list[ClipTask]] = []
    used = 0
    for task in clips:
        size = estimated_bytes(task.row.num_frames)
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
            tables = _joined(store, pipeline, shard.clips, columns, part_of)
            write_shard(store, shard.name, tables, shard.fingerprint)
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


def _joined(
    store: Store,
    pipeline: Pipeline,
    clips: Sequence[ClipTask],
    columns: Sequence[Column],
    part_of: Mapping[str, str],
) -> Iterator[pa.Table]:
    """All columns of clips side by side, a row a clip, in as many tables as the shard has row groups.

    So no more than some parts are in memory, however large the shard. `columns` stand in the order of the stages.
    """
    wanted = {name: [column.name for column in own if column in columns] for name, own in pipeline.written.items()}
    schema = shard_schema(columns)

    @lru_cache(maxsize=PARTS_AT_HAND * len(wanted))
    def part_table(stage: str, part: str) -> tuple[pa.Table, dict[str, int]]:
        table = store.read_table(stage, part, wanted[stage])
        return table, {clip_id: i for i, clip_id in enumerate(table["clip_id"].to_pylist())}

    for start in range(0, len(clips), ROW_GROUP_CLIPS):
        group = clips[start : start + ROW_GROUP_CLIPS]
        rows = [task.row.columns() for task in group]
        arrays: list[Any] = [pa.array([row[c.name] for row in rows], type=c.arrow_type) for c in CLIP_COLUMNS]
        order = [(part_of[task.row.clip_id], task.row.clip_id) for task in group]
        for stage, names in wanted.items():
            if names:
                table = pa.concat_tables(
                    table.slice(first, count)
                    for part, of_part in groupby(order, lambda place: place[0])
                    for table, index in [part_table(stage, part)]
                    for first, count in _runs([index[clip_id] for _, clip_id in of_part])
                ).combine_chunks()
                arrays += [table[name] for name in names]
        yield pa.table(arrays, schema=schema)


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and number of rows that follow each other."""
    for _, run in groupby(enumerate(rows), lambda place: place[1] - place[0]):
        members = [row for _, row in run]
        yield members[0], len(members)


def write_shard(store: Store, name: str, tables: Iterable[pa.Table], fingerprint: str) -> Shard:
    """Write one shard; its fingerprint travels in the file. Tables but the last hold whole row groups."""
    rest = iter(tables)
    first = next(rest)
    clips, schema = 0, first.schema.with_metadata({"fingerprint": fingerprint})
    with (
        store.new_file(store.shards / name) as temporary,
        pq.ParquetWriter(temporary, schema, **how_to_write(schema)) as writer,
    ):
        for table in chain([first], rest):
            writer.write_table(table, row_group_size=ROW_GROUP_CLIPS)
            clips += table.num_rows
    return Shard(name, clips, fingerprint)


def write_description(store: Store, description: Description) -> None:
    """Write ``dataset.json``, last of all: who finds it finds all else."""
    store.write_text(store.root / FILE, json.dumps(description.to_json(), indent=1) + "\n")


def write_dataset(
    root: Location,
    rows: Sequence[Row],
    columns: Sequence[Column],
    *,
    name: str,
    kind: str,
    stages: Mapping[str, Maker],
    identity: Any = None,
    fps: int = FPS,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    predicted: Predicted | None = None,
) -> Description:
    """Write rows as a data set with a shard a split; returns its description.

    Parameters
    ----------
    rows : a clip each, with the manifest's columns and ``columns``, checked here against their declarations.
    stages : who made the columns, by the name of the stage; a column that none of them wrote counts as the manifest's.
    identity : what the rows depend on, JSON-ready; together with the split it makes a shard's fingerprint.
    """
    store, shards = Store(root), []
    for split in SPLITS:
        members = sorted((row for row in rows if row["split"] == split), key=lambda row: str(row["clip_id"]))
        if members:
            fingerprint = digest([name, split, identity, [row["clip_id"] for row in members]])
            shards.append(write_shard(store, shard_name(split, 0, 1), [_table(members, columns)], fingerprint))
    writer = {column: stage for stage, maker in stages.items() for column, _ in maker.writes}
    entries = [ColumnEntry.of(column, writer.get(column.name, MANIFEST)) for column in (*CLIP_COLUMNS, *columns)]
    description = Description(
        name=name,
        kind=kind,
        fps=fps,
        sample_rate_hz=sample_rate_hz,
        columns=tuple(entries),
        packed=tuple(entry.name for entry in entries),
        stages=stages,
        shards=tuple(shards),
        wanted=len(rows),
        predicted=predicted,
    )
    write_description(store, description)
    store.seal()
    store.clear_scratch()
    return description


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> pa.Table:
    """Rows as Arrow, every value in its column's declared type and shape."""
    arrays = [
        column.to_arrow(column.check(row[column.name], row["num_frames"]) for row in rows)
        for column in (*CLIP_COLUMNS, *columns)
    ]
    return pa.table(arrays, schema=shard_schema(columns))
