"""The store: every file of a data set, written whole or not at all.

A file is written under ``.tmp/``, flushed to the disk and renamed. The renamed file is the done-marker: it carries the
fingerprint of every row, so no second record can disagree with it.

    OUT/media/<clip_id>/{speaker,listener}.mp4, audio.wav
    OUT/columns/<stage>/part-00017.parquet     outcomes and columns of one stage for the clips of one part
    OUT/ledger/                                parts, attempts, and the table of all outcomes
    OUT/shards/<split>-00000-of-00004.parquet, OUT/dataset.json, OUT/README.md
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import ManifestError
from schemas.column import Column
from schemas.ledger import OUTCOME_FIELDS, Outcome


class Store:
    """The files of one data set under ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scratch = root / ".tmp"
        self.shards = root / "shards"
        self.ledger = root / "ledger"

    # -- files -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def new_file(self, path: Path) -> Iterator[Path]:
        """A temporary path that becomes ``path`` in one step when the block ends without an error."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        temporary = self.scratch / f"{uuid.uuid4().hex}-{path.name}"
        try:
            yield temporary
            self.publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def publish(self, temporary: Path, path: Path) -> None:
        """Flush a finished file of the scratch folder to the disk and rename it into place."""
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise ManifestError(
                f"{path.parent}: a link leads out of the data set, to {path.parent.resolve()}; remove it"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file, unless it already says the same."""
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return
        with self.new_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def clear_scratch(self) -> None:
        """Remove what a killed build left half-written."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    # -- media -----------------------------------------------------------------------------------------------------

    def publish_media(self, clip_id: str, temporary: Path) -> str:
        """Move a finished media file to its place; returns its path relative to the data set."""
        relative = Path("media") / clip_id / temporary.name
        self.publish(temporary, self.root / relative)
        return relative.as_posix()

    # -- columns ---------------------------------------------------------------------------------------------------

    def column_file(self, stage: str, part: str) -> Path:
        """Where a stage's columns of a part's clips stand."""
        return self.root / "columns" / stage / f"{part}.parquet"

    def read_outcomes(self, stage: str, part: str) -> dict[str, Outcome]:
        """What a stage said of the clips of a part, without the columns; empty if the file is not there."""
        names = [field.name for field in OUTCOME_FIELDS]
        rows = self._read(stage, part, names)
        return {row["clip_id"]: Outcome(**row) for row in rows.to_pylist()} if rows is not None else {}

    def read_columns(self, stage: str, part: str, columns: Sequence[Column]) -> dict[str, dict[str, Any]]:
        """Values of some columns of the clips of a part: clip id -> column -> value (None where a clip has none)."""
        rows = self._read(stage, part, ["clip_id", *(column.name for column in columns)])
        if rows is None:
            return {}
        ids = rows["clip_id"].to_pylist()
        return {
            clip_id: {column.name: column.from_arrow(rows[column.name][i]) for column in columns}
            for i, clip_id in enumerate(ids)
        }

    def read_table(self, stage: str, part: str, names: Sequence[str]) -> pa.Table:
        """Columns of a part as Arrow; the file must be there."""
        return pq.read_table(self.column_file(stage, part), columns=["clip_id", *names], partitioning=None)

    def write_columns(
        self, stage: str, part: str, columns: Sequence[Column], rows: Sequence[Outcome], metadata: Mapping[str, Any]
    ) -> None:
        """Write a stage's outcomes and columns for the clips of a part, sorted by clip id."""
        rows = sorted(rows, key=lambda row: row.clip_id)
        arrays = [pa.array([getattr(row, f.name) for row in rows], type=f.type) for f in OUTCOME_FIELDS]
        arrays += [column.to_arrow(row.values.get(column.name) for row in rows) for column in columns]
        schema = pa.schema(
            [*OUTCOME_FIELDS, *(column.field() for column in columns)],
            metadata={key: json.dumps(value, sort_keys=True) for key, value in metadata.items()},
        )
        with self.new_file(self.column_file(stage, part)) as temporary:
            pq.write_table(pa.table(arrays, schema=schema), temporary, compression="zstd")

    def forget(self, clip_ids: Collection[str]) -> None:
        """Delete every file and row of some clips."""
        for clip_id in clip_ids:
            shutil.rmtree(self.root / "media" / clip_id, ignore_errors=True)
        for path in sorted((self.root / "columns").glob("*/*.parquet")):
            table = pq.read_table(path, partitioning=None)
            kept = pa.array([clip_id not in clip_ids for clip_id in table["clip_id"].to_pylist()], pa.bool_())
            if not all(kept.to_pylist()):
                with self.new_file(path) as temporary:
                    pq.write_table(table.filter(kept), temporary, compression="zstd")

    def drop_columns(self, stage: str) -> None:
        """Forget everything a stage computed."""
        shutil.rmtree(self.root / "columns" / stage, ignore_errors=True)

    def _read(self, stage: str, part: str, names: Sequence[str]) -> pa.Table | None:
        path = self.column_file(stage, part)
        if not path.is_file():
            return None
        try:
            file = pq.ParquetFile(path)
            if not set(names) <= set(file.schema_arrow.names):
                return None  # written by an older version of the stage: as good as absent
            return file.read(columns=list(names))
        except pa.ArrowException as error:
            raise RuntimeError(f"{path} is damaged ({error}); delete it and build again") from error


def _flush(path: Path) -> None:
    """Make a file or folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
