"""Checksums of a data set at rest: what every file was when it was written, kept outside of it.

    OUT/checksums.parquet          size and sha256 of every file
    OUT/ledger/checksums.parquet   the same once more
    OUT/ledger/written/*.jsonl     what a build that has not ended yet has written; gone when it ends

The store notes a file before the file appears, so a build that is killed in between loses no checksum; the lists are
made from these notes when the build ends, never by reading what lies on the disk by then. A list carries the hash of
its own rows; where one is damaged the other is believed. What people edit or delete (``takedown.txt``, and of mining
``people.csv`` and ``withdrawn_faces.parquet``) is not listed.

A data set of a million clips has some million files. So lists, notes and files are streams in order of their names.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
import stat
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from pipeline.dataset.storage import Location, ObjectPath, arrow_source
from schemas.errors import UserError

LIST = "checksums.parquet"
LEDGER = "ledger/"
LISTS = (LIST, LEDGER + LIST)  # one is enough
OF_PEOPLE = ("takedown.txt", "people.csv", "withdrawn_faces.parquet")  # to change and to delete
WRITTEN = f"{LEDGER}written/"
UNLISTED = (".tmp/", ".lock", *OF_PEOPLE, WRITTEN, *LISTS)
SCHEMA = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("sha256", pa.binary(32))])
VERIFIED = {"page_checksum_verification": True}  # for Arrow's readers, which believe every page without it
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)  # what Arrow raises about a damaged file
BLOCK_BYTES = 2**20
GROUP_ROWS = 8192  # rows stand in order of their paths, so that who looks for one reads no more than these
NO_FOOTER = "its footer cannot be read"
NO_FILE = -1  # the size of a link, pipe or device: nothing of ours, and to open one may wait for ever
SETTLED_NS = 10**9  # a file that was written since may be written again without another time: clocks of disks tick
NOTES_AT_ONCE = 2**17  # are sorted in memory, 50 MB; of more, all but the last wait on the disk


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file was when it was written."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Location) -> Checksum:
        """Of a file as it is now."""
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
                size += len(block)
        return cls(size, digest.hexdigest())

    def line(self, path: str) -> str:
        """A note of it."""
        return json.dumps({"path": path, "bytes": self.bytes, "sha256": self.sha256}) + "\n"


def relative_to(path: Location, root: Location) -> str | None:
    """A file's name in the lists; None if it is no file that they hold."""
    if isinstance(path, ObjectPath) and isinstance(root, ObjectPath):
        name = path.key.removeprefix(f"{root.key}/")
    elif isinstance(path, Path) and isinstance(root, Path) and path.is_relative_to(root):
        name = path.relative_to(root).as_posix()
    else:
        return None  # a local copy of what lies in object storage
    return None if name.startswith(UNLISTED) else name


class Told(NamedTuple):
    """What is told of one file: by the list, by notes, the latest last, and by the file itself."""

    name: str
    listed: Checksum | None = None
    noted: tuple[Checksum, ...] = ()
    size: int | None = None  # in bytes; None where no file lies there, `NO_FILE` where what lies there is none

    @property
    def checksums(self) -> list[Checksum]:
        """All that was written of it, as far as it is known."""
        return [*([self.listed] if self.listed else []), *self.noted]


Piece = tuple[str, Checksum | None, Checksum | None, int | None]  # of a `Told`; a million clips have many millions


def told(root: Location, known: Location | None, own: Mapping[str, Checksum]) -> Iterator[Told]:
    """Every file that lies in a data set or of which a list or a note tells, in order of their names.

    ``known`` is the list to believe, ``own`` are notes that stand in no journal yet.
    """
    streams: list[Iterator[Piece]] = [
        ((name, checksum, None, None) for name, checksum in rows_of(known)),
        ((name, None, checksum, None) for name, checksum in notes(root)),
        ((name, None, own[name], None) for name in sorted(own)),
        ((name, None, None, size) for name, size in files_below(root)),
    ]
    by_name = itemgetter(0)
    for name, of_one in groupby(heapq.merge(*streams, key=by_name), key=by_name):
        listed, size = None, None
        noted: tuple[Checksum, ...] = ()
        for _, row, note, found in of_one:
            listed, size = row or listed, size if found is None else found
            noted = (*noted, note) if note else noted
        yield Told(name, listed, noted, size)


def sound_list(root: Location) -> Location | None:
    """The list of a data set that holds; None if it has none. `UserError` if one is damaged and none is sound."""
    damaged = 0
    for name in LISTS:
        if sound := is_sound(root / name):
            return root / name
        damaged += sound is False
    if damaged:
        again = f"python -m jobs.repair {root} --adopt makes one of the files as they stand"
        raise UserError(f"{root / LIST}: the lists of checksums are damaged; {again}")
    return None


def is_sound(path: Location) -> bool | None:
    """Whether a list is what was written; None if there is no such file, or nothing in it."""
    if not path.is_file():
        return None
    try:
        file = pq.ParquetFile(arrow_source(path), **VERIFIED)
        digest = hashlib.sha256()
        for batch in file.iter_batches(GROUP_ROWS):
            digest.update(_lines(batch))
        if (file.schema_arrow.metadata or {}).get(b"rows") != digest.hexdigest().encode():
            return False
        return True if file.metadata.num_rows else None
    except (*UNREADABLE, KeyError, TypeError, AttributeError):
        return False


def rows_of(path: Location | None) -> Iterator[tuple[str, Checksum]]:
    """What a sound list says every file was when it was written, in order of their names."""
    if path is not None:
        for batch in pq.ParquetFile(arrow_source(path), **VERIFIED).iter_batches(GROUP_ROWS):
            for name, size, sha256 in zip(*(batch[name].to_pylist() for name in SCHEMA.names), strict=True):
                if not name.startswith(UNLISTED):  # as old ones did
                    yield name, Checksum(size, sha256.hex())


def journal_of(name: str) -> str | None:
    """The journal that a file is noted in; None for media, whose notes stand beside those of their part's columns."""
    if name.startswith("media/"):
        return None
    return Path(name).stem if name.startswith("columns/") else "build"


def require_intact(root: Location, name: str, file: Location, part: str | None = None) -> None:
    """Refuse a file, or a local copy of it, that is not what was written; what no list holds passes.

    Notes of a clip's media stand beside those of its part: whoever knows the ``part`` need not read those of all.

    Raises
    ------
    UserError : it names the file, and with it the clip.
    """
    journal = part or journal_of(name)
    known = [*_row_of(root, name), *(checksum for noted, checksum in _notes(root, journal) if noted == name)]
    if not known:
        return
    found = _checksum_now(file) if isinstance(file, Path) else Checksum.of(file)
    if found not in known:
        where = affected(file) if name.endswith(".parquet") else ""
        raise UserError(
            f"{root / name}: damaged: expected the {known[-1].bytes} bytes that were written, found others{where}; "
            f"python -m jobs.repair {root}, or with --adopt where you have changed it yourself"
        )


def has_footer(path: Location) -> bool:
    """Whether a Parquet file ends as one."""
    try:
        pq.read_metadata(arrow_source(path))
    except UNREADABLE:
        return False
    return True


def affected(path: Location) -> str:
    """``; column x of clips a, b``: what of a Parquet file cannot be read, as far as the file still tells."""
    try:
        file = pq.ParquetFile(arrow_source(path), **VERIFIED)
        names = file.schema_arrow.names
    except UNREADABLE:
        return f"; {NO_FOOTER}"
    lost: Counter[str] = Counter()
    clips: list[str] = []
    for group in range(file.num_row_groups):
        bad = [name for name in names if not _reads(file, group, name)]
        lost.update(bad)
        if bad and "clip_id" not in bad:
            clips += file.read_row_group(group, columns=["clip_id"])["clip_id"].to_pylist()
    if not lost:
        return "; its columns can be read, what stands between them is damaged"
    some = ", ".join(clips[:5]) + (f" and {len(clips) - 5} more" if len(clips) > 5 else "")
    return f"; column {', '.join(sorted(lost))}" + (f" of clips {some}" if clips else "")


def _reads(file: pq.ParquetFile, group: int, name: str) -> bool:
    try:
        file.read_row_group(group, columns=[name])
    except UNREADABLE:
        return False
    return True


def _row_of(root: Location, name: str) -> list[Checksum]:
    """What the list says of one file: one checksum, or none."""
    for path in (root / listing for listing in LISTS):
        try:
            if isinstance(path, Path):
                found = _rows_beside(path, _stamp(path), name).get(name)
                return [found] if found else []
            rows = pq.read_table(arrow_source(path), filters=[("path", "==", name)], partitioning=None, **VERIFIED)
            return [Checksum(row["bytes"], row["sha256"].hex()) for row in rows.to_pylist()]
        except (*UNREADABLE, LookupError, ValueError, TypeError, AttributeError):
            continue  # not there, or damaged: that is no reason to refuse a film, and `find_damage` names it
    return []


Stamp = tuple[int, int, int]  # what changes where a file on a disk does


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _rows_beside(path: Path, stamp: Stamp, name: str) -> dict[str, Checksum]:
    """The rows of the group of a list in which this name stands, if it stands there at all."""
    return _rows_of_group(path, stamp, max(bisect_right(_first_names(path, stamp), name) - 1, 0))


@lru_cache(maxsize=4)  # whoever reads many files of a data set asks once for each
def _first_names(path: Path, stamp: Stamp) -> list[str]:
    groups = pq.read_metadata(path)
    return [groups.row_group(number).column(0).statistics.min for number in range(groups.num_row_groups)]


@lru_cache(maxsize=8)  # of some megabytes each
def _rows_of_group(path: Path, stamp: Stamp, group: int) -> dict[str, Checksum]:
    rows = pq.ParquetFile(path, **VERIFIED).read_row_group(group).to_pylist()
    return {row["path"]: Checksum(row["bytes"], row["sha256"].hex()) for row in rows}


def _checksum_now(path: Path) -> Checksum:
    """Of a file on a disk, read once for many askers: the viewer opens one shard for every value."""
    stamp = _stamp(path)
    is_settled = time.time_ns() - stamp[-1] > SETTLED_NS
    return _checksum_of(path, stamp) if is_settled else Checksum.of(path)


@lru_cache(maxsize=1024)
def _checksum_of(path: Path, stamp: Stamp) -> Checksum:
    return Checksum.of(path)


def write_list(rows: Iterable[tuple[str, Checksum]], path: Path) -> None:
    """Write rows, in order of their names, as a list, which the same rows give byte for byte.

    It begins with the hash of what follows, so the rows go to the disk twice.
    """
    rest, digest = iter(rows), hashlib.sha256()
    with TemporaryFile() as spilled:
        with pa.ipc.new_stream(spilled, SCHEMA) as stream:
            while group := list(islice(rest, GROUP_ROWS)):
                cells = zip(*((name, own.bytes, bytes.fromhex(own.sha256)) for name, own in group), strict=True)
                arrays = [pa.array(column, kind) for column, kind in zip(cells, SCHEMA.types, strict=True)]
                batch = pa.record_batch(arrays, schema=SCHEMA)
                digest.update(_lines(batch))
                stream.write_batch(batch)
        spilled.seek(0)
        schema = SCHEMA.with_metadata({"rows": digest.hexdigest()})
        with (
            pa.ipc.open_stream(spilled) as batches,
            pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)


def _lines(batch: pa.RecordBatch) -> bytes:
    lines = zip(*(batch[name].to_pylist() for name in SCHEMA.names), strict=True)
    return b"".join(b"%s %d %s\n" % (n.encode(), size, s) for n, size, s in lines)


def files_below(root: Location) -> Iterator[tuple[str, int]]:
    """Name and size of every file of a data set that a list may hold, in order of their names; `NO_FILE` for links.

    The names of one folder at a time are in memory; of object storage all, for Arrow lists them at once.
    """
    if isinstance(root, ObjectPath):
        below = sorted((path.key.removeprefix(f"{root.key}/"), size) for path, size in root.sizes(recursive=True))
        return ((name, size) for name, size in below if not name.startswith(UNLISTED))
    return _walk(str(root), "")


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    """Strings, no paths, and no entries of `os.scandir`: there may be a million in a folder."""
    with os.scandir(f"{folder}/{prefix}") as entries:
        names = sorted([entry.name + "/" * entry.is_dir(follow_symlinks=False) for entry in entries])
    for name in names:
        name = prefix + name
        if name.startswith(UNLISTED):
            continue
        if name[-1] == "/":
            yield from _walk(folder, name)
        else:
            found = os.lstat(f"{folder}/{name}")
            yield name, found.st_size if stat.S_ISREG(found.st_mode) else NO_FILE


def has_notes(root: Location) -> bool:
    """Whether a build that has not ended has written anything."""
    return next(_notes(root), None) is not None


def notes(root: Location) -> Iterator[tuple[str, Checksum]]:
    """What builds that have not ended have written, in order of names; of one file the latest last."""
    rest, by_name = _notes(root), itemgetter(0)
    with ExitStack() as spilled:
        runs: list[Iterable[tuple[str, Checksum]]] = []
        while run := sorted(islice(rest, NOTES_AT_ONCE), key=by_name):
            if len(run) == NOTES_AT_ONCE:
                file = spilled.enter_context(TemporaryFile("w+", encoding="utf-8"))
                file.writelines(checksum.line(name) for name, checksum in run)
                file.seek(0)
                runs.append(_read_notes(file))
            else:
                runs.append(run)
        yield from heapq.merge(*runs, key=by_name)  # which keeps the order of equal names


def _notes(root: Location, part: str | None = None) -> Iterator[tuple[str, Checksum]]:
    """The same in the order in which they were written, of one part or of all."""
    folder = root / WRITTEN
    if part is not None and isinstance(folder, Path):  # a folder of as many files as there are parts
        own = folder / f"{part}.jsonl"
        paths: list[Location] = [own] if own.is_file() else []
    else:
        paths = [*folder.glob("*.jsonl")]
    for path in sorted(paths, key=str):
        if part is None or path.name.startswith((f"{part}.", f"{part}-")):  # in object storage with its writer
            yield from _read_notes(path.read_text(encoding="utf-8", errors="replace").splitlines())


def _read_notes(lines: Iterable[str]) -> Iterator[tuple[str, Checksum]]:
    for text in lines:
        try:
            note: dict[str, Any] = json.loads(text)
            name, checksum = str(note["path"]), Checksum(int(note["bytes"]), bytes.fromhex(note["sha256"]).hex())
        except (ValueError, KeyError, TypeError, RecursionError):  # torn by a kill: what it announces is not there
            continue
        yield name, checksum
