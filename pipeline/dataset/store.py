"""The store: every file of a data set, written whole or not at all.

In a folder, a file is written under ``.tmp/``, flushed to the disk and renamed. In object storage (`ObjectPath`) it is
written to a folder of this process and then put as one object. Either way it appears in one step and is the
done-marker: it carries the fingerprint of every row, so no second record can disagree with it. docs/storage.md has
the guarantees.

    OUT/media/<clip_id>/{speaker,listener}.mp4, audio.wav
    OUT/columns/<stage>/part-00017.parquet     outcomes and columns of one stage for the clips of one part
    OUT/ledger/                                parts, attempts, and the table of all outcomes
    OUT/shards/<split>-00000-of-00004.parquet, OUT/dataset.json, OUT/README.md
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.storage import Location, ObjectPath, arrow_source, lies_in
from schemas.column import Column
from schemas.errors import UserError
from schemas.outcome import OK, OUTCOME_FIELDS, Outcome


class Store:
    """The files of one data set under ``root``.

    In the folder ``local`` encoders write and stages read media: ``root`` itself, or for object storage a folder of
    this process that holds the media of the part at work.
    """

    def __init__(self, root: Location) -> None:
        self.root = root
        self.local = root if isinstance(root, Path) else _folder_of_process(root)
        self.scratch = self.local / ".tmp"
        self.shards = root / "shards"
        self.ledger = root / "ledger"

    # -- files -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def new_file(self, path: Location) -> Iterator[Path]:
        """A temporary path that becomes ``path`` in one step when the block ends without an error."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        temporary = self.scratch / f"{uuid.uuid4().hex}-{path.name}"
        try:
            yield temporary
            self.publish(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def publish(self, temporary: Path, path: Location) -> None:
        """Bring a finished file of the scratch folder to its place: flush it to the disk and rename it, or put it."""
        if not isinstance(path, Path):
            path.upload(temporary)
            return
        if not lies_in(path.parent, self.local):
            raise UserError(f"{path.parent}: a link leads out of the data set, to {path.parent.resolve()}; remove it")
        path.parent.mkdir(parents=True, exist_ok=True)
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)

    def write_text(self, path: Location, text: str) -> None:
        """Write a text file, unless it already says the same."""
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return
        with self.new_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def clear_scratch(self) -> None:
        """Remove what a killed build left half-written."""
        shutil.rmtree(self.scratch if isinstance(self.root, Path) else self.local, ignore_errors=True)

    # -- media -----------------------------------------------------------------------------------------------------

    def publish_media(self, clip_id: str, temporary: Path) -> str:
        """Move a finished media file to its place; returns its path relative to the data set."""
        relative = Path("media") / clip_id / temporary.name
        self.publish(temporary, self.root / relative)
        if temporary.is_file():  # put, not renamed: later stages of this process read it here
            (self.local / relative).parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(self.local / relative)
        return relative.as_posix()

    def fetch_media(self, relative: str) -> Path:
        """The local file behind a media column."""
        path = self.local / relative
        if isinstance(self.root, ObjectPath) and not path.is_file():
            with self.new_file(path) as temporary:
                (self.root / relative).download(temporary)
        return path

    def release_media(self, clip_ids: Iterable[str]) -> None:
        """Remove the local copies of clips' media where they are copies."""
        if isinstance(self.root, ObjectPath):
            for clip_id in clip_ids:
                shutil.rmtree(self.local / "media" / clip_id, ignore_errors=True)

    # -- columns ---------------------------------------------------------------------------------------------------

    def column_file(self, stage: str, part: str) -> Location:
        """Where a stage's columns of a part's clips stand."""
        return self.root / "columns" / stage / f"{part}.parquet"

    def column_files(self) -> list[Location]:
        """The files of all stages and parts."""
        found: list[Location] = [*(self.root / "columns").glob("*/*.parquet")]
        return sorted(found, key=str)

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
        return {
            clip_id: {column.name: column.from_arrow(rows[column.name][i]) for column in columns}
            for i, clip_id in enumerate(rows["clip_id"].to_pylist())
        }

    def columns_of_clip(self, path: Location, clip_id: str) -> dict[str, Any]:
        """All values that a file of columns holds for a clip, by the file's own declaration; empty if it has none."""
        table = pq.read_table(arrow_source(path), partitioning=None, filters=[("clip_id", "==", clip_id)])
        rows = [row for row in range(table.num_rows) if table["outcome"][row].as_py() == OK]
        columns = [Column.of_field(field) for field in list(table.schema)[len(OUTCOME_FIELDS) :]]
        return {column.name: column.from_arrow(table[column.name][row]) for row in rows for column in columns}

    def read_table(self, stage: str, part: str, names: Sequence[str]) -> pa.Table:
        """Columns of a part as Arrow; the file must be there."""
        source = arrow_source(self.column_file(stage, part))
        return pq.read_table(source, columns=["clip_id", *names], partitioning=None)

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
            remove_tree(self.root / "media" / clip_id)
        for path in self.column_files():
            self.drop_rows(path, clip_ids)

    def drop_rows(self, path: Location, clip_ids: Collection[str]) -> None:
        """Delete the rows of some clips from a file of columns."""
        table = pq.read_table(arrow_source(path), partitioning=None)
        kept = [clip_id not in clip_ids for clip_id in table["clip_id"].to_pylist()]
        if not all(kept):
            with self.new_file(path) as temporary:
                pq.write_table(table.filter(pa.array(kept, pa.bool_())), temporary, compression="zstd")

    def drop_columns(self, stage: str) -> None:
        """Forget everything a stage computed."""
        remove_tree(self.root / "columns" / stage)

    def _read(self, stage: str, part: str, names: Sequence[str]) -> pa.Table | None:
        path = self.column_file(stage, part)
        if not path.is_file():
            return None
        try:
            file = pq.ParquetFile(arrow_source(path))
            if not set(names) <= set(file.schema_arrow.names):
                return None  # written by an older version of the stage: as good as absent
            return file.read(columns=list(names))
        except pa.ArrowException as error:
            raise RuntimeError(f"{path} is damaged ({error}); delete it and build again") from error


def append_text(path: Location, text: str) -> None:
    """Add lines to a file of which there is one writer at a time.

    An object cannot grow, so it is put anew; those that grow are a few kilobytes (`pipeline.ledger.diary.Attempts`).
    """
    if isinstance(path, ObjectPath):
        path.write_bytes((path.read_bytes() if path.is_file() else b"") + text.encode())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def remove_tree(path: Location) -> None:
    """Delete all files below a place; none is fine too."""
    if isinstance(path, ObjectPath):
        path.remove_tree()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _folder_of_process(root: ObjectPath) -> Path:
    """Where this process keeps local files of a data set in object storage; removes those of dead processes."""
    name = hashlib.sha256(str(root).encode()).hexdigest()[:12]
    base = Path(tempfile.gettempdir()) / f"vico-{os.getuid()}-{name}"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.is_symlink() or base.stat().st_uid != os.getuid():  # somebody else could exchange the files
        raise UserError(f"{base} is not ours; remove it, or set TMPDIR to a folder in which nobody else writes")
    for other in base.glob("*"):
        if not Path("/proc", other.name).exists():
            shutil.rmtree(other, ignore_errors=True)
    return base / str(os.getpid())


def _flush(path: Path) -> None:
    """Make a file or folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
