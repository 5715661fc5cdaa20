"""Data sets in S3-compatible object storage: ``s3://bucket/prefix`` where a folder's path could stand.

An `ObjectPath` has that part of `pathlib.Path`'s interface which the files of a data set need, on `pyarrow.fs`. An
object appears whole or not at all: a small one is one PUT, a large one a multipart upload that becomes visible when it
is completed, so there is nothing to rename. Credentials are found where AWS's own tools find them (environment, config
files, the machine's role), on every machine for itself: none is part of an address, a file or a message of ours.

A path under the `claim` of a build (`pipeline.dataset.lock` gives it) is patient: while the storage does not answer
it asks again, for `PATIENCE_S`, and then says so in a `UserError`; and nothing is written through it that could come
after the claim was lost. Without a claim the first error of Arrow's is raised as it is.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from pipeline.dataset.claim import PATIENCE_S, PAUSE_S, Claim, Watch, now_s
from pipeline.settings import read_text
from schemas.errors import UserError

SCHEME = "s3://"
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
OPTIONS = ("endpoint_override", "region", "scheme")  # what may stand behind a question mark
COPY_BYTES = 2**23
SILENCE_S = 5.0  # of a server, before Arrow asks again; it asks three times, which must end before a claim is lost


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object, or the common beginning of several, in a bucket."""

    key: str  # bucket and key, ``bucket/prefix/name``
    options: str = ""  # what stood behind the question mark of the address; `OPTIONS` in the form of a URL's query
    claim: Claim | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{SCHEME}{self.key}" + (f"?{self.options}" if self.options else "")

    def __truediv__(self, relative: str | Path) -> ObjectPath:
        return replace(self, key=f"{self.key}/{Path(relative).as_posix()}")

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def parent(self) -> ObjectPath:
        return replace(self, key=self.key.rpartition("/")[0])

    @property
    def _storage(self) -> Any:
        return _filesystem(self.key.partition("/")[0], self.options)

    def resolve(self) -> ObjectPath:
        """Itself: an address is absolute."""
        return self

    def is_file(self) -> bool:
        """Whether there is such an object."""
        from pyarrow import fs

        return bool(self._info().type == fs.FileType.File)

    def modified_s(self) -> float:
        """When it was written, by the server's clock; seconds since 1970, 0 if there is no such object."""
        return float(self._info().mtime_ns or 0) / 1e9

    def size_bytes(self) -> int:
        """How large it is; 0 if there is no such object."""
        return int(self._info().size or 0)

    def open(self, mode: str = "rb") -> Any:
        """The object as a file that Arrow reads in ranges; there is no other mode."""
        file = self._ask(lambda: self._storage.open_input_file(self.key))
        return _Ranges(self, file) if self.claim else file

    def read_bytes(self) -> bytes:
        with self.open() as file:
            return bytes(file.read())

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.read_bytes().decode(encoding, errors)

    def write_bytes(self, content: Any) -> None:
        """Put an object, whole or not at all; ``content`` is anything with the buffer protocol.

        It goes out in one call: an error between two calls would close the stream, and closing completes an upload.
        """

        def put() -> None:
            with self._storage.open_output_stream(self.key) as stream:
                stream.write(content)

        self._ask(put, writes=True)

    def upload(self, path: Path) -> None:
        """Put a finished local file."""
        import pyarrow as pa

        if path.stat().st_size == 0:  # cannot be mapped into memory
            self.write_bytes(b"")
            return
        with pa.memory_map(str(path)) as file:
            self.write_bytes(file.read_buffer())

    def download(self, path: Path) -> None:
        """Fetch into a local file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.open() as source, path.open("wb") as target:
            while block := source.read(COPY_BYTES):
                target.write(block)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self._ask(lambda: self._storage.delete_file(self.key), writes=True)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_tree(self) -> None:
        """Delete every object below."""
        for path in list(self.glob("**")):
            path.unlink(missing_ok=True)

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """Objects below whose relative key fits: ``*.parquet``, ``*/*.parquet``, or ``**`` for all of them."""
        for path, _ in self.sizes(recursive="/" in pattern or pattern == "**"):
            relative = path.key.removeprefix(f"{self.key}/")
            same_depth = relative.count("/") == pattern.count("/")
            if pattern == "**" or same_depth and fnmatchcase(relative, pattern):
                yield path

    def sizes(self, recursive: bool = False) -> Iterator[tuple[ObjectPath, int]]:
        """Objects directly below, or all below, with their sizes in bytes."""
        from pyarrow import fs

        selector = fs.FileSelector(self.key, allow_not_found=True, recursive=recursive)
        for info in self._ask(lambda: self._storage.get_file_info(selector)):
            if info.type == fs.FileType.File:
                yield replace(self, key=info.path), int(info.size)

    def watch(self) -> Watch:
        """What this process knows of the claim."""
        assert self.claim
        return _watch(self.claim, self.options)

    def _info(self) -> Any:
        return self._ask(lambda: self._storage.get_file_info(self.key))

    def _ask(self, request: Callable[[], Any], *, writes: bool = False) -> Any:
        """A request's answer; under a claim asked for until there is one, and if it ``writes``, while we may."""
        if not self.claim:
            return request()
        watch, end = self.watch(), now_s() + PATIENCE_S
        trouble: object = "the claim of this build is not renewed"
        tried = False
        while now_s() < end:
            try:
                if not (writes or watch.lost) or watch.is_fresh():
                    if writes and tried and watch.require_part:
                        watch.require_part()
                    return request()
            except FileNotFoundError:
                raise
            except OSError as error:
                trouble, tried = error, True
            time.sleep(min(PAUSE_S, self.claim.lost_s / 12))
        again = "what is finished is kept: run the same command again when it answers"
        raise UserError(f"{self}: no answer of the object storage for {PATIENCE_S:g} s: {trouble}; {again}")


class _Ranges(io.RawIOBase):
    """An object under a claim, which is read in ranges; each is asked for until the storage answers."""

    def __init__(self, path: ObjectPath, file: Any) -> None:
        self._path, self._file, self._at = path, file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size()}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = self._file.size() - self._at
        wanted, at = left if size is None or size < 0 else min(size, left), self._at
        found = bytes(self._path._ask(lambda: self._file.read_at(wanted, at)))
        self._at += len(found)
        return found


Location = Path | ObjectPath
"""Where a data set or one of its files stands."""


def location(text: str) -> Location:
    """A folder's path, or an address in object storage.

    `UserError` for an address that we cannot use; credentials in it are not repeated.
    """
    if "://" not in text:
        return Path(text)
    if not text.startswith(SCHEME):
        raise UserError(f"{text.partition('://')[0]}://...: expected a folder or {SCHEME}bucket/prefix")
    key, _, options = text.removeprefix(SCHEME).partition("?")
    if "@" in key:
        raise UserError(
            f"{SCHEME}...@...: no credentials in an address, where logs and files would repeat them; put them into "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or ~/.aws/credentials"
        )
    key = key.strip("/")
    bucket, *parts = key.split("/")
    if not BUCKET.fullmatch(bucket) or any(part in ("", ".", "..") for part in parts):
        raise UserError(f"{SCHEME}{key}: expected {SCHEME}bucket/prefix, a bucket of 3 to 63 of a-z 0-9 . -")
    unknown = [name for name, _ in parse_qsl(options, keep_blank_values=True) if name not in OPTIONS]
    if unknown:
        raise UserError(f"{SCHEME}{key}: unknown option {', '.join(unknown)}; known: {', '.join(OPTIONS)}")
    return ObjectPath(key, options)


def arrow_source(path: Location) -> Any:
    """What pyarrow's Parquet reader takes for this file."""
    return path if isinstance(path, Path) else path.open()


def text_of(path: Location, limit_bytes: int) -> str:
    """A text file that a person wrote; `UserError` if it is missing, too large, no file or no UTF-8."""
    if isinstance(path, Path):
        return read_text(path, limit_bytes)
    try:
        if path.size_bytes() > limit_bytes:
            raise UserError(f"{path}: larger than {limit_bytes} bytes")
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def lies_in(path: Location, folder: Location) -> bool:
    """Whether a path that somebody else's file names lies in a folder, with links followed."""
    if isinstance(path, ObjectPath) and isinstance(folder, ObjectPath):
        return path.key.startswith(f"{folder.key}/") and not {"", ".", ".."} & {*path.key.split("/")}
    if not isinstance(path, Path) or not isinstance(folder, Path):
        return False
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        return False


def file_sizes(folder: Location) -> Iterator[tuple[Location, int]]:
    """The files that stand directly in a folder, and their sizes in bytes; none if there is no folder."""
    if isinstance(folder, ObjectPath):
        yield from folder.sizes()
    elif folder.is_dir():
        yield from ((Path(entry.path), entry.stat().st_size) for entry in os.scandir(folder))


@contextmanager
def local_file(path: Location) -> Iterator[Path]:
    """The file itself where it is local, else a copy that goes with the block."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="vico-") as folder:
        copy = Path(folder) / path.name
        path.download(copy)
        yield copy


@cache
def _filesystem(bucket: str, options: str) -> Any:
    from pyarrow import fs

    # Made from an address: only so does Arrow heed AWS_ENDPOINT_URL and ask for the bucket's region. Made again, since
    # an address cannot say how long to wait, and untold a request waits for ever where a network drops packets. With
    # `allow_delayed_open` a small object is one request.
    found = fs.FileSystem.from_uri(f"{SCHEME}{bucket}?allow_delayed_open=true&{options}".rstrip("&"))[0]
    remake, (settings,) = found.__reduce__()
    return remake({**settings, "connect_timeout": SILENCE_S, "request_timeout": SILENCE_S})


@cache
def _watch(claim: Claim, options: str) -> Watch:
    own = ObjectPath(claim.key, options)

    def server_s() -> float:
        mark = own.parent.parent / f"ledger/written/{uuid.uuid4().hex}"  # a folder that goes when a build ends
        mark.write_bytes(b"what time is it?")
        told = mark.modified_s()
        mark.unlink(missing_ok=True)
        return told

    return Watch(claim, own.modified_s, server_s)
