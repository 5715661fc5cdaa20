"""Fetching files of weights: under a lock, to a temporary name, hashed in passing, resumed where it broke off."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.weights import HASH_UNKNOWN, Weights, WeightsError

CHUNK_BYTES = 2**20
MAX_BYTES = 64 * 2**30  # of an entry whose size the registry does not know
TIMEOUT_S = 60  # without a single byte
PARTIAL = 206  # HTTP status: the server goes on where the file stops
UNSATISFIABLE = 416  # the file on disk is as long as the server's, or longer

Progress = Callable[[str, int], None]
"""Called with a file's name and the bytes that are there."""


def fetch(weights: Weights, progress: Progress = lambda file, done: None) -> list[Path]:
    """Download what is missing of an entry into the cache; returns its files.

    Raises
    ------
    WeightsError : nothing can be downloaded (the message holds the steps that a person has to take), the server fails,
        or a file is not the registered one.
    """
    missing = [file for file in weights.files if not _is_there(weights, file)]
    if any(file not in weights.urls for file in missing):
        raise WeightsError(f"weights {weights.name!r} cannot be downloaded: {weights.remedy()}")
    for file in missing:
        _fetch_file(weights, file, progress)
    return weights.paths()


def _is_there(weights: Weights, file: str) -> bool:
    path = weights.root() / file
    if not path.is_file():
        return False
    wanted = weights.files[file]
    return wanted == HASH_UNKNOWN or wanted == _hash_of(path).hexdigest()


def _fetch_file(weights: Weights, file: str, progress: Progress) -> None:
    target = weights.root() / file
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
    digest = _hash_of(partial)
    done = partial.stat().st_size if partial.is_file() else 0
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
    sha256: str = digest.hexdigest()
    return sha256


def _open(url: str, start: int) -> Any:
    """An answer over http or https, redirects included; no other scheme has a handler here."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    headers = {"Range": f"bytes={start}-"} if start else {}
    return opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)


def _hash_of(path: Path) -> Any:
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest
