"""The watchdog of a worker process, seen from inside: it kills the worker that exceeds its time or memory.

It is a process of its own, because a loop in C code keeps every thread of the worker from running. What it kills is
found again in the diary of the part (`pipeline.ledger.diary.Attempts`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.dataset.storage import Location

_PROGRAM = Path(__file__).with_name("watchdog_child.py")


class Watchdog:
    """Started on first use; ends with the worker, with the last reference to it, or when told.

    ``memory_bytes`` is what the worker may hold while it is watched; 0: no limit.
    """

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def watching(self, limit_s: float, diary: Location, events: Sequence[dict[str, Any]]) -> Iterator[None]:
        """Kill this process if the block takes longer than ``limit_s`` (0: no limit), after writing to the diary."""
        if not limit_s and not self._memory_bytes:
            yield
            return
        memory = {"memory_bytes": self._memory_bytes}
        address = str(diary.absolute() if isinstance(diary, Path) else diary)
        self._tell({"limit_s": limit_s, **memory, "diary": address, "events": list(events)})
        try:
            yield
        finally:
            self._tell({})

    def end(self) -> None:
        if self._process is not None:
            _end(self._process)
            self._process = None

    def _tell(self, task: dict[str, Any]) -> None:
        line = json.dumps(task).encode() + b"\n"
        if self._process is not None and _sent(self._process, line):
            return
        if task:  # else there is nothing to call off
            self._process = self._start()
            _sent(self._process, line)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", "-B", str(_PROGRAM), str(os.getpid())]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0)
        weakref.finalize(self, _end, process)
        return process


def _sent(process: subprocess.Popen[bytes], line: bytes) -> bool:
    """Whether the watchdog is still there to read it."""
    assert process.stdin
    try:
        process.stdin.write(line)
    except BrokenPipeError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.close()
    process.wait()
