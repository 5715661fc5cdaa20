"""The sandbox around the media reader, seen from outside: a child process, its limits and the wire to it.

Requests go to the child as JSON lines; every answer is ``<header length, payload length><JSON header><raw array>``.
The child gets the open source file and one socket, and nothing else: no path, no other descriptor, no environment.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

CPU, NVDEC = "cpu", "nvdec"  # what decodes pictures
MEDIA_REASONS = {
    "unreadable": "the source is missing, empty, cut off or no video file",
    "not_allowed": "its container or codec is not on the reader's list",
    "no_video": "it has no video stream",
    "no_audio": "it has no audio stream",
    "damaged": "its stream breaks off or changes its format where it was to be read",
    "interlaced": "its frames hold two instants each, which show as combs where anything moves",
    "high_dynamic_range": "its brightness is coded for HDR displays (PQ or HLG)",
    "too_large": "its picture or its duration exceeds the reader's limits",
    "timed_out": "reading it took longer than the limit",
    "out_of_memory": "reading it took more memory than the limit",
    "decoder_crashed": "the decoder died on it",
}

WHOLE, FAILED, LEANS, LOOKS, UNSURE, MISSING = range(6)  # what a frame is
DAMAGES = {
    FAILED: "the decoder complains",
    LEANS: "decoded from one of those",
    LOOKS: "changed as no film does",
    UNSURE: "close to one of those",
    MISSING: "not shown at all",
}

Answer = tuple[dict[str, Any], np.ndarray]  # header and array
ANSWER = struct.Struct("<IQ")  # length of the JSON header, length of the raw array
_ARRAY_TYPES = {"uint8": np.uint8, "int64": np.int64, "float32": np.float32}
_MAX_HEADER_BYTES = 1 << 20
_DYING_S = 5.0  # between the end of the wire and the end of the process
_CHILD_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",  # what threads reserve counts as memory
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),  # as `hold_memory` of workers: what is freed waits for the next clip
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
_SHORTEST_WAIT_S = 1e-3  # a timeout of 0 would mean another mode of the socket


class MediaError(Exception):
    """A source that cannot be read: a key of `MEDIA_REASONS`, and what was found and expected."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class KilledError(MediaError):
    """Somebody has killed the child, for want of memory or by hand: no source can do that."""


@dataclass(frozen=True)
class ReadingLimits:
    """What reading one source may cost."""

    wall_s: float = 600.0  # of waiting for the child in one request
    cpu_s: int = 7200  # processor time of the child in its whole life
    memory_bytes: int = 2 << 30  # address space of the child; 1080p and what is kept: 0.8 GB; 4K H.265 alone: 1
    max_side_px: int = 4096  # larger sources are refused
    max_duration_s: float = 12 * 3600.0  # longer sources are refused
    threads: int = 1  # of the decoder; of a damaged film several show other pixels from time to time

    @property
    def kept_bytes(self) -> int:
        """Of what waits to be cropped, less than half of what decoding leaves."""
        return self.memory_bytes // 5


class Child:
    """A process of ``child.py`` that has one source open, a regular file."""

    def __init__(self, path: Path, limits: ReadingLimits, decoder: str = CPU) -> None:
        self._path, self._decoder = path, decoder
        self.without_gpu = ""  # why pictures are decoded on the CPU although a GPU was asked for
        self._limits = limits
        self._left_s = limits.wall_s
        source = _open_regular(path)
        self._socket, theirs = socket.socketpair()
        script = Path(__file__).with_name("child.py")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-B", str(script), str(source), decoder],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(source,),
                env=_CHILD_ENVIRONMENT if decoder == CPU else _CHILD_ENVIRONMENT | _gpu_environment(),
            )
        finally:
            os.close(source)
            theirs.close()
        self._send(asdict(limits))

    @property
    def pid(self) -> int:
        return int(self._process.pid)

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._socket.close()
        self._process.kill()
        self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()

    def ask(self, request: dict[str, Any]) -> Iterator[Answer]:
        """The answers to a request as they come, headers and arrays; raises `MediaError` if it cannot be met."""
        self._left_s = self._limits.wall_s
        self._send(request)
        while True:
            header, array = self._answer()
            if "error" in header and str(header["error"]) in MEDIA_REASONS:
                raise MediaError(str(header["error"]), f"{self._path.name}: {_printable(header.get('detail'))}")
            if "bug" in header:
                found = _printable(header["bug"])
                raise RuntimeError(f"the media reader has a bug that {self._path.name} brings out:\n{found}")
            if header.get("done"):
                self.without_gpu = "" if self._decoder == CPU else _printable(header.get("without_gpu") or "")
                return
            yield header, array

    def tell(self, message: dict[str, Any]) -> None:
        """Something that has no answer, at any time."""
        self._send(message)

    def _send(self, message: dict[str, Any]) -> None:
        self._in_time(self._socket.sendall, json.dumps(message).encode() + b"\n")

    def _answer(self) -> tuple[dict[str, Any], np.ndarray]:
        header_bytes, array_bytes = ANSWER.unpack(self._receive(ANSWER.size))
        if header_bytes > _MAX_HEADER_BYTES or array_bytes > self._limits.memory_bytes:
            raise self._nonsense(f"an answer of {header_bytes} + {array_bytes} bytes")
        header, raw = self._receive(header_bytes), self._receive(array_bytes)
        try:
            facts = json.loads(header.tobytes())
            kind = _ARRAY_TYPES[facts.get("dtype", "uint8")]
            return facts, raw.view(kind).reshape(facts.get("shape", 0))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._nonsense(f"{header.tobytes()[:200]!r} ({error})") from None

    def _receive(self, num_bytes: int) -> np.ndarray:
        data = np.empty(num_bytes, np.uint8)
        rest = memoryview(data)
        while rest:
            count = self._in_time(self._socket.recv_into, rest)
            if count == 0:
                raise self._obituary()
            rest = rest[count:]
        return data

    def _in_time(self, call: Callable[[Any], Any], argument: Any) -> Any:
        """What a call of the socket returns; the time it takes is charged to the request."""
        started = time.monotonic()
        try:
            self._socket.settimeout(max(self._left_s, _SHORTEST_WAIT_S))
            return call(argument)
        except TimeoutError:
            raise MediaError("timed_out", f"{self._path.name}: no end after {self._limits.wall_s:g} s") from None
        except OSError:
            raise self._obituary() from None
        finally:
            self._left_s -= time.monotonic() - started

    def _obituary(self) -> Exception:
        """Why the child is gone: by the source's doing (a signal), or by ours (an exception at its start)."""
        try:
            status = self._process.wait(timeout=_DYING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        last_words = self._process.stderr.read().decode() if self._process.stderr else ""
        if status >= 0:
            return RuntimeError(f"the media reader's process ended with status {status}:\n{last_words}")
        if status == -signal.SIGXCPU:
            return MediaError("timed_out", f"{self._path.name}: more than {self._limits.cpu_s} s of processor time")
        kind = KilledError if status == -signal.SIGKILL else MediaError
        ended_by = signal.Signals(-status).name
        return kind("decoder_crashed", f"{self._path.name}: the reader's process ended by {ended_by}")

    def _nonsense(self, found: str) -> MediaError:
        return MediaError("decoder_crashed", f"{self._path.name}: the reader's process sent {found}")


def _gpu_environment() -> dict[str, str]:
    """Which GPU is ours, and where its driver lies on machines that keep it elsewhere."""
    everything = dict(os.environ)
    return {name: everything[name] for name in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH") if name in everything}


def _printable(text: Any) -> str:
    """What a child says, without what would steer a terminal."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in str(text))


def _open_regular(path: Path) -> int:
    """A descriptor of a regular file; opening never blocks, whatever the path is."""
    try:
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise MediaError("unreadable", f"{path.name}: {error.strerror}") from None
    found = os.fstat(source)
    if stat.S_ISREG(found.st_mode) and found.st_size:
        return source
    os.close(source)
    raise MediaError("unreadable", f"{path.name}: {'empty' if stat.S_ISREG(found.st_mode) else 'not a regular file'}")
