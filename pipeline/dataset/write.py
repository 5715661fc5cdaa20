"""Writing a data set: the one place that writes shards and ``dataset.json``.

Packing a build (`pipeline.dataset.pack`) hands over tables; predictions, random sets and the sets of tests hand over
rows. Either way the same rows give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.clock import FPS, SAMPLE_RATE_HZ
from pipeline.dataset.read import FILE
from pipeline.dataset.storage import Location
from pipeline.dataset.store import Store
from pipeline.plan import digest
from schemas.clip import CLIP_COLUMNS, SPLITS
from schemas.column import Column
from schemas.dataset import MANIFEST, ColumnEntry, Description, Maker, Predicted, Shard, shard_name, shard_schema

ROW_GROUP_CLIPS = 32  # a reader that wants one clip decompresses no more than this

Row = Mapping[str, Any]


def write_shard(store: Store, name: str, table: pa.Table, fingerprint: str) -> Shard:
    """Write one shard; its fingerprint travels in the file."""
    whole = table.replace_schema_metadata({"fingerprint": fingerprint})
    with store.new_file(store.shards / name) as temporary:
        pq.write_table(whole, temporary, compression="zstd", row_group_size=ROW_GROUP_CLIPS)
    return Shard(name, table.num_rows, fingerprint)


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
            shards.append(write_shard(store, shard_name(split, 0, 1), _table(members, columns), fingerprint))
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
    store.clear_scratch()
    return description


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> pa.Table:
    """Rows as Arrow, every value in its column's declared type and shape."""
    arrays = [
        column.to_arrow(column.check(row[column.name], row["num_frames"]) for row in rows)
        for column in (*CLIP_COLUMNS, *columns)
    ]
    return pa.table(arrays, schema=shard_schema(columns))
