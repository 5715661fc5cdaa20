"""Quiet: for C++ libraries that log to the process's stderr before they would listen to any log level."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stderr_muted() -> Iterator[None]:
    """Nothing on the process's stderr; Python's own exceptions still pass through the block as ever."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextmanager
def stderr_taken_for(path: str) -> Iterator[None]:
    """Give libraries that keep C's ``stderr`` once and for all, as Ray's C++ does, a file for it; nobody else's moves.

    Ray Data passes constructor arguments by reference, and Ray's core calls that an error in every build (ray#57733).
    No setting stops it, and what concerns us comes as an exception.
    """
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    stderr = ctypes.c_void_p.in_dll(libc, "stderr")
    before, stderr.value = stderr.value, libc.fopen(os.fsencode(path), b"w") or stderr.value
    try:
        yield
    finally:
        stderr.value = before
