"""The store: every file of a data set, written whole or not at all.

In a folder, a file is written under ``.tmp/``, flushed to the disk and renamed. In object storage (`ObjectPath`) it is
written to a folder of this process and then put as one object. Either way it appears in one step and is the
done-marker: it carries the fingerprint of every row, so no second record can disagree with it. docs/storage.md has
the guarantees.

    OUT/media/<clip_id>/{speaker,listener}.mp4, audio.wav
    OUT/columns/<stage>/part-00017.parquet     outcomes and columns of one stage for the clips of one part
    OUT/ledger/                                parts, attempts, and the table of all outcomes
    OUT/shards/<split>-00000-of-00004.parquet, OUT/dataset.json, OUT/README.md
    OUT/checksums.parquet                      of every file: `pipeline.dataset.checksums`
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
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.checksums import (
    LEDGER,
    LIST,
    LISTS,
    NO_FILE,
    VERIFIED,
    Checksum,
    affected,
    files_below,
    journal_of,
    relative_to,
    require_intact,
    sound_list,
    told,
    write_list,
)
from pipeline.dataset.claim import Superseded
from pipeline.dataset.storage import Location, ObjectPath, arrow_source, lies_in
from schemas.column import Column
from schemas.errors import UserError
from schemas.outcome import OK, OUTCOME_FIELDS, Outcome

DIARIES = f"{LEDGER}attempts/"
AT_ONCE_BYTES = 2**18  # a file that is read whole: Arrow would fetch it in a dozen pieces


class Store:
    """The files of one data set under ``root``.

    In the folder ``local`` encoders write and stages read media: ``root`` itself, or for object storage a folder of
    this process that holds the media of the part at work. A store of several processes, each of which may be killed,
    keeps a ``journal`` of what it writes.
    """

    def __init__(self, root: Location, *, journal: bool = False) -> None:
        self.root = root
        self.journal = journal
        self.writer = uuid.uuid4().hex[:8]  # who this is, among the processes that write
        self._notes: dict[str, Checksum] = {}  # of files written by this process that stand in no journal yet
        self.local = root if isinstance(root, Path) else _folder_of_process(root)
        self.scratch = self.local / ".tmp"
        self.shards = root / "shards"
        self.ledger = root / "ledger"

    # -- files -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def new_file(self, path: Location) -> Iterator[Path]:
        """A temporary path that becomes ``path`` in one step when the block ends without an error."""
        with self._scratch_file(path.name) as temporary:
            yield temporary
            self.publish(temporary, path)

    @contextlib.contextmanager
    def _scratch_file(self, name: str) -> Iterator[Path]:
        """A path for a file that goes with the block."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        path = self.scratch / f"{uuid.uuid4().hex}-{name}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def publish(self, temporary: Path, path: Location) -> None:
        """Bring a finished file of the scratch folder to its place: flush it to the disk and rename it, or put it."""
        self._note(temporary, path)
        if not isinstance(path, Path):
            path.upload(temporary)
            return
        self._refuse_links(path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)

    def _refuse_links(self, folder: Location) -> None:
        if isinstance(folder, Path) and not lies_in(folder, self.local):
            raise UserError(f"{folder}: a link leads out of the data set, to {folder.resolve()}; remove it")

    def write_text(self, path: Location, text: str) -> None:
        """Write a text file, unless it already says the same."""
        content = text.encode()
        if path.is_file() and path.read_bytes() == content:
            return
        with self.new_file(path) as temporary:
            temporary.write_bytes(content)

    def read_json(self, path: Location) -> dict[str, Any]:
        """What a JSON file of ours says, nothing where there is none; `UserError` if it is not what was written."""
        if not path.is_file():
            return {}
        name = relative_to(path, self.root)
        if name and name not in self._notes:  # what this process has just written needs no look
            require_intact(self.root, name, path)
        with self._refused(path):
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    # -- checksums -------------------------------------------------------------------------------------------------

    def _note(self, temporary: Path, path: Location) -> None:
        """Remember what a file is before it appears. Notes of media wait for the columns that name them."""
        name = relative_to(path, self.root)
        if name is None:
            return
        self._notes[name] = Checksum.of(temporary)
        if self.journal and (own := journal_of(name)):
            if isinstance(self.root, ObjectPath):  # a host that was cut off may be at a part that another has now
                own += f"-{self.writer}"
            journal = self.ledger / "written" / f"{own}.jsonl"
            self._refuse_links(journal.parent)
            append_text(journal, "".join(checksum.line(name) for name, checksum in self._notes.items()))
            self._notes.clear()

    def seal(self, *, adopt: bool = False) -> None:
        """Write the lists of checksums; the last thing that is done to a data set.

        A file that was never noted is listed where the data set has had no list so far, or where it is a diary that
        grows line by line; others are not ours and stay unlisted. With ``adopt`` all files are listed as they stand.
        """
        with self._scratch_file(LIST) as made:
            write_list(self._as_they_stand() if adopt else self._as_written(), made)
            for path in (self.root / name for name in LISTS):
                if not path.is_file() or Checksum.of(path) != Checksum.of(made):
                    with self.new_file(path) as temporary:
                        shutil.copyfile(made, temporary)
        remove_tree(self.ledger / "written")
        self._notes.clear()

    def _as_they_stand(self) -> Iterator[tuple[str, Checksum]]:
        files = (name for name, size in files_below(self.root) if size != NO_FILE)
        return ((name, Checksum.of(self.root / name)) for name in files)

    def _as_written(self) -> Iterator[tuple[str, Checksum]]:
        known = sound_list(self.root)
        for one in told(self.root, known, self._notes):
            if one.size is None:
                continue
            if one.listed and not one.noted and one.listed.bytes == one.size:  # as most are
                yield one.name, one.listed
                continue
            fitting = {checksum for checksum in one.checksums if checksum.bytes == one.size}
            if len(fitting) == 1:
                yield one.name, fitting.pop()
            elif one.checksums and not one.name.startswith(DIARIES):
                found = Checksum.of(self.root / one.name) if fitting else None  # a kill came between note and file
                yield one.name, found if found in fitting else one.checksums[-1]  # else damaged: as it should be
            elif one.size != NO_FILE and (one.name.startswith(DIARIES) or known is None):
                yield one.name, Checksum.of(self.root / one.name)

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

    def fetch_media(self, relative: str, part: str) -> Path:
        """The local file behind a media column of a clip of a part; `UserError` if it is not what was written."""
        path = self.local / relative
        if isinstance(self.root, ObjectPath) and not path.is_file():
            with self.new_file(path) as temporary:
                (self.root / relative).download(temporary)
        if relative not in self._notes:  # what this process has just written needs no look
            require_intact(self.root, relative, path, part)
        return path

    def release_media(self, clip_ids: Iterable[str]) -> None:
        """Remove the local copies of clips' media where they are copies."""
        if isinstance(self.root, ObjectPath):
            for clip_id in clip_ids:
                shutil.rmtree(self.local / "media" / clip_id, ignore_errors=True)

    # -- parts -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def taking(self, part: str) -> Iterator[None]:
        """Be the one that writes a part; whoever was at it may live on, on a host that was cut off."""
        holder = self._holder(part)
        if isinstance(holder, Path):
            self._refuse_links(holder.parent)
            holder.parent.mkdir(parents=True, exist_ok=True)
        holder.write_bytes(self.writer.encode())
        watch = self.root.watch() if isinstance(self.root, ObjectPath) and self.root.claim else None
        if watch:
            watch.require_part = partial(self.require_held, part)
        try:
            yield
        finally:
            if watch:
                watch.require_part = None

    def require_held(self, part: str) -> None:
        """`Superseded` if somebody has taken a part since we did, or the build that gave it to us has ended.

        With our view of the part we would undo the other's work.
        """
        try:
            holder = self._holder(part).read_bytes().decode(errors="replace")
        except FileNotFoundError:
            holder = ""
        if holder != self.writer:
            raise Superseded(f"{part}: another worker was given this part")

    def _holder(self, part: str) -> Location:
        return self.ledger / "written" / f"{part}.holder"

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
        if rows is None:
            return {}
        cells = zip(*(rows[name].to_pylist() for name in names), strict=True)  # four times faster than whole rows
        return {clip_id: Outcome(clip_id, *others) for clip_id, *others in cells}

    def read_columns(self, stage: str, part: str, columns: Sequence[Column]) -> dict[str, dict[str, Any]]:
        """Values of some columns of the clips of a part: clip id -> column -> value (None where a clip has none)."""
        self._require_intact(stage, part)
        rows = self._read(stage, part, ["clip_id", *(column.name for column in columns)])
        if rows is None:
            return {}
        return {
            clip_id: {column.name: column.from_arrow(rows[column.name][i]) for column in columns}
            for i, clip_id in enumerate(rows["clip_id"].to_pylist())
        }

    def columns_of_clip(self, path: Location, clip_id: str) -> dict[str, Any]:
        """All values that a file of columns holds for a clip, by the file's own declaration; empty if it has none."""
        where = [("clip_id", "==", clip_id)]
        with self._refused(path):
            table = pq.read_table(arrow_source(path), partitioning=None, filters=where, **VERIFIED)
        rows = [row for row in range(table.num_rows) if table["outcome"][row].as_py() == OK]
        columns = [Column.of_field(field) for field in list(table.schema)[len(OUTCOME_FIELDS) :]]
        return {column.name: column.from_arrow(table[column.name][row]) for row in rows for column in columns}

    def read_table(self, stage: str, part: str, names: Sequence[str]) -> pa.Table:
        """Columns of a part as Arrow; the file must be there."""
        path = self.column_file(stage, part)
        self._require_intact(stage, part)
        with self._refused(path):
            return pq.ParquetFile(arrow_source(path), **VERIFIED).read(columns=["clip_id", *names])

    def named_media(self, stage: str, part: str) -> dict[str, set[str]]:
        """Clip id -> its files below ``media/`` that a file of columns names."""
        with self._refused(self.column_file(stage, part)):
            schema = pq.read_schema(arrow_source(self.column_file(stage, part)))
        names = [field.name for field in list(schema)[len(OUTCOME_FIELDS) :] if field.type == pa.string()]
        rows = self.read_table(stage, part, names).to_pylist() if names else []
        return {
            row["clip_id"]: {row[n] for n in names if (row[n] or "").startswith(f"media/{row['clip_id']}/")}
            for row in rows
        }

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
        self.write_rows(self.column_file(stage, part), pa.table(arrays, schema=schema))

    def forget(self, clip_ids: Collection[str]) -> None:
        """Delete every file and row of some clips."""
        for clip_id in clip_ids:
            remove_tree(self.root / "media" / clip_id)
        for path in self.column_files():
            if not self.drop_rows(path, clip_ids):
                path.unlink()  # no build would write it again, so nobody could repair it

    def drop_rows(self, path: Location, clip_ids: Collection[str]) -> int:
        """Delete the rows of some clips from a file of columns; returns how many are left."""
        with self._refused(path):
            table = pq.read_table(arrow_source(path), partitioning=None, **VERIFIED)
        kept = [clip_id not in clip_ids for clip_id in table["clip_id"].to_pylist()]
        if not all(kept):
            self.write_rows(path, table.filter(pa.array(kept, pa.bool_())))
        return sum(kept)

    def write_rows(self, path: Location, table: pa.Table) -> None:
        """Write rows as they stand in a file of columns, or are left of it."""
        with self.new_file(path) as temporary:
            pq.write_table(table, temporary, **how_to_write(table.schema))

    def drop_columns(self, stage: str) -> None:
        """Forget everything a stage computed."""
        remove_tree(self.root / "columns" / stage)

    def _require_intact(self, stage: str, part: str) -> None:
        """Refuse columns on a disk that are not what was written; those in object storage are checked there."""
        path = self.column_file(stage, part)
        name = relative_to(path, self.root)
        if isinstance(path, Path) and name and name not in self._notes and path.is_file():
            require_intact(self.root, name, path)

    def _read(self, stage: str, part: str, names: Sequence[str]) -> pa.Table | None:
        path = self.column_file(stage, part)
        if not path.is_file():
            return None
        with self._refused(path):
            small = isinstance(path, Path) and path.stat().st_size <= AT_ONCE_BYTES
            source = pa.BufferReader(path.read_bytes()) if small else arrow_source(path)
            file = pq.ParquetFile(source, **VERIFIED)
            if not set(names) <= set(file.schema_arrow.names):
                return None  # written by an older version of the stage: as good as absent
            return file.read(columns=list(names), use_threads=False)  # starting them costs more than they bring

    @contextlib.contextmanager
    def _refused(self, path: Location) -> Iterator[None]:
        """Whatever a damaged file does to its reader is a `UserError` that names it."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            where = affected(path) if path.name.endswith(".parquet") else ""
            raise UserError(f"{path}: damaged: {error}{where}; python -m jobs.repair {self.root}") from error


def how_to_write(schema: pa.Schema) -> dict[str, Any]:
    """Arguments of Arrow's Parquet writers for files of ours.

    Of numbers that hardly repeat a dictionary is of no use, and to try costs four times what all the rest does. With
    the first bytes of all of them apart from the second ones landmarks take half the room.
    """
    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    return {
        "compression": "zstd",
        "write_page_checksum": True,
        "use_dictionary": [path for path, kind in leaves if not _is_float(kind)],
        "use_byte_stream_split": [path for path, kind in leaves if _is_float(kind)],
    }


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """The columns that Parquet makes of a column, by their paths."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path, kind


def _is_float(kind: pa.DataType) -> bool:
    return bool(pa.types.is_float32(kind) or pa.types.is_float64(kind))


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
