"""The registry of weights: every file of numbers that a stage loads, its origin, licence and sha256.

One list, ``manifests/weights.toml``, with entries of two kinds: files that an installed package carries, and files that
the user fetches into the cache (``python -m jobs.weights fetch NAME``). A build resolves all weights of its plan before
the first part; what is missing stops it with the name, the expected file and what to do. Nothing falls back to a weaker
model. Fetching goes under a lock to a temporary name, is hashed in passing and resumed where it broke off.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import importlib.util
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.settings import parse_toml, read_text, shown
from schemas.errors import UserError

REGISTRY = Path(__file__).resolve().parent.parent / "manifests" / "weights.toml"
CACHE_VARIABLE = "VICO_CACHE"  # the one environment variable: workers on other machines have other disks
MAX_REGISTRY_BYTES = 2**20
ENTRY = {"files": dict, "licence": str, "source": str, "package": str, "urls": dict, "bytes": int, "steps": str}
NAME = re.compile(r"[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*")  # becomes a folder of the cache: not "." or ".."
HASH_UNKNOWN = ""  # its makers publish none: the hash of the file that is there counts, and is recorded
CHUNK_BYTES = 2**20
MAX_BYTES = 64 * 2**30  # of an entry whose size the registry does not know
TIMEOUT_S = 60  # without a single byte
PARTIAL = 206  # HTTP status: the server goes on where the file stops
UNSATISFIABLE = 416  # the file on disk is as long as the server's, or longer

Progress = Callable[[str, int], None]
"""Called with a file's name and the bytes that are there."""


class WeightsError(UserError):
    """Weights are missing or are not the ones registered."""


def cache_root() -> Path:
    """Where fetched weights lie, ``<name>/<file>`` each. Without a network, copy the folder there from elsewhere."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "vico-pipeline" / "weights"


@dataclass(frozen=True)
class Weights:
    """One entry of the registry: files of an installed package, of the cache, or of a person's own."""

    name: str
    files: dict[str, str]  # path inside the folder -> sha256, or `HASH_UNKNOWN`
    licence: str
    source: str
    package: str = ""  # the installed package that carries the files; empty where only the cache can
    urls: dict[str, str] = field(default_factory=dict)  # file -> where it can be downloaded
    bytes: int = 0  # size of all files together, 0 where it is not known
    steps: str = ""  # what a person has to do where there is no url
    folder: Path | None = None  # where a person's own files lie; None for registered ones

    def paths(self) -> list[Path]:
        """The files, in the registry's order; `WeightsError` if one is missing or differs."""
        folder = self.root()
        for file, sha256 in self.files.items():
            found = file_sha256(folder / file) if (folder / file).is_file() else "no such file"
            if found != sha256 and (sha256 or not (folder / file).is_file()):
                expected = f"expected sha256 {sha256}, found" if sha256 else "expected the file, found"
                raise WeightsError(f"weights {self.name!r}: {folder / file}: {expected} {found}; {self.remedy()}")
        return [folder / file for file in self.files]

    def root(self) -> Path:
        """The folder that holds the files, whether they are there or not."""
        if self.folder is not None:
            return self.folder
        if not self.package or (self.urls and all((self.cache / file).is_file() for file in self.files)):
            return self.cache
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            if self.urls:
                return self.cache
            raise WeightsError(
                f"weights {self.name!r} come with the package {self.package!r}, which is not installed: make setup"
            )
        return Path(spec.submodule_search_locations[0])

    @property
    def cache(self) -> Path:
        """Where its files lie once they are fetched."""
        return cache_root() / self.name

    @property
    def is_gone(self) -> bool:
        """Whether the package that carries them is not there, nor what can be fetched in its place."""
        return bool(self.package and self.urls) and self.root() == self.cache and not self.cache.is_dir()

    def remedy(self) -> str:
        """What to do when a file is missing or is another one."""
        if self.urls:
            return f"python -m jobs.weights fetch {self.name}"
        if self.package:
            return f"the package {self.package!r} has another version than the registry {REGISTRY.name}: make setup"
        return self.steps or "give the path of an existing file"

    @property
    def sha256(self) -> str:
        """One hash for all files: what fingerprints and ``dataset.json`` carry."""
        hashes = [sha256 or file_sha256(self.root() / file) for file, sha256 in self.files.items()]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()


@lru_cache(maxsize=1)
def registry(path: Path = REGISTRY) -> dict[str, Weights]:
    """All entries, by name; `WeightsError` for what is no TOML and for an entry that would write outside its folder."""
    try:
        tables = parse_toml(read_text(path, MAX_REGISTRY_BYTES))
    except UserError as error:
        raise WeightsError(f"{path}: {error}") from None
    return {name: _entry(path, name, table) for name, table in tables.items()}


def _entry(path: Path, name: str, table: Any) -> Weights:
    problem = f"not a table of {', '.join(ENTRY)}"
    if isinstance(table, dict) and set(table) <= set(ENTRY) and {"files", "licence", "source"} <= set(table):
        problem = next(_faults(name, table), "")
    if problem:
        raise WeightsError(f"{path}: weights {shown(name)}: {problem}")
    return Weights(name=name, **table)


def _faults(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with an entry that has the right keys."""
    if not NAME.fullmatch(name):
        yield "the name is not made of the characters A-Z a-z 0-9 _ . -"
    for key, value in table.items():
        if not isinstance(value, ENTRY[key]):
            yield f"{key}: found {shown(value)}, allowed: {ENTRY[key].__name__}"
    for file, sha256 in table["files"].items():
        if not _stays_inside(file):
            yield f"files: found {shown(file)}, allowed: a path inside the entry's own folder"
        if not isinstance(sha256, str) or not re.fullmatch(r"([0-9a-f]{64})?", sha256):
            yield f"files: {shown(file)}: found {shown(sha256)}, allowed: 64 digits 0-9 a-f, or empty"
    for file, url in table.get("urls", {}).items():
        if file not in table["files"] or not isinstance(url, str) or not re.match(r"https?://[^\s/]", url):
            yield f"urls: {shown(file)}: found {shown(url)}, allowed: an http or https address of one of the files"


def _stays_inside(file: str) -> bool:
    path = PurePosixPath(file)
    return bool(file) and not path.is_absolute() and ".." not in path.parts and not re.search(r"[\\\x00-\x1f]", file)


def find_weights(name: str) -> Weights:
    """The registry's entry of that name; a name with a ``/`` is the path of a file or folder of one's own."""
    if name in registry():
        return registry()[name]
    if "/" in name:
        return _own(Path(name))
    raise WeightsError(
        f"no weights {name!r} in {REGISTRY}; known: {', '.join(registry())}; or the path of your own file, with a /"
    )


def _own(path: Path) -> Weights:
    """Weights that stand in no registry: their hash is that of what is there."""
    folder, files = path.parent, [path.name]
    if path.is_dir():
        folder, files = path, sorted(file.name for file in path.iterdir() if file.is_file())
    hashes = dict.fromkeys(files, HASH_UNKNOWN)
    return Weights(str(path), hashes, licence="its owner's", source="a file of your own", folder=folder)


def resolve_all(names: Sequence[str]) -> None:
    """Check all weights of a plan at once; one `WeightsError` lists everything that is wrong."""
    problems = []
    for name in sorted(set(names)):
        try:
            find_weights(name).paths()
        except WeightsError as error:
            problems.append(str(error))
    if problems:
        raise WeightsError("\n".join(problems))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file; an unchanged file is read once a process."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(weights: Weights, progress: Progress = lambda file, done: None) -> list[Path]:
    """Download what is missing of an entry into the cache; returns its files.

    `WeightsError` if nothing can be downloaded (the message holds the steps that a person has to take), the server
    fails, or a file is not the registered one.
    """
    with suppress(WeightsError):
        return weights.paths()
    missing = [file for file in weights.files if not _is_there(weights, file)]
    if any(file not in weights.urls for file in missing):
        raise WeightsError(f"weights {weights.name!r} cannot be downloaded: {weights.remedy()}")
    for file in missing:
        _fetch_file(weights, file, progress)
    return weights.paths()


def _is_there(weights: Weights, file: str) -> bool:
    path = weights.cache / file
    return path.is_file() and weights.files[file] in (HASH_UNKNOWN, file_sha256(path))


def _fetch_file(weights: Weights, file: str, progress: Progress) -> None:
    target = weights.cache / file
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    with target.with_name(target.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two workers on one disk want the same file: the second finds it done
        if _is_there(weights, file):
            return
        limit = weights.bytes or MAX_BYTES

        def count(done: int) -> None:
            if done > limit:
                partial.unlink()
                raise WeightsError(f"weights {weights.name!r}: {weights.urls[file]} sent more than {limit} bytes")
            progress(file, done)

        found = _stream(weights.urls[file], partial, count)
        wanted = weights.files[file]
        if wanted not in (HASH_UNKNOWN, found):
            partial.unlink()
            raise WeightsError(
                f"weights {weights.name!r}: {weights.urls[file]} sent a file with sha256 {found}, expected {wanted}; "
                "it was deleted: try again, or report that the registry is out of date"
            )
        partial.replace(target)


def _stream(url: str, partial: Path, progress: Callable[[int], None]) -> str:
    """Bring the rest of a file to disk; its sha256."""
    digest, done = hashlib.sha256(), 0
    if partial.is_file():
        with partial.open("rb") as begun:
            digest, done = hashlib.file_digest(begun, "sha256"), begun.tell()
    try:
        with _open(url, done) as answer:
            if answer.status != PARTIAL:  # the server begins anew, whatever it was asked
                digest, done = hashlib.sha256(), 0
            with partial.open("ab" if done else "wb") as file:
                while chunk := answer.read(CHUNK_BYTES):
                    file.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    progress(done)
                file.flush()
                os.fsync(file.fileno())
            if answer.length:  # what the server promised and did not send
                raise http.client.IncompleteRead(b"", answer.length)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != UNSATISFIABLE:
            raise WeightsError(f"{url}: {error}; try again later, or put the file there by hand: {partial}") from None
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(f"{url}: {error!r} after {done} bytes; the same command goes on from there") from None
    return str(digest.hexdigest())


def _open(url: str, start: int) -> Any:
    """An answer over http or https, redirects included; no other scheme has a handler here."""
    opener = urllib.request.OpenerDirector()
    web = urllib.request
    schemes = (web.ProxyHandler, web.HTTPHandler, web.HTTPSHandler, web.HTTPRedirectHandler, web.UnknownHandler)
    for handler in (*schemes, web.HTTPErrorProcessor, web.HTTPDefaultErrorHandler):
        opener.add_handler(handler())
    headers = {"Range": f"bytes={start}-"} if start else {}
    return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
