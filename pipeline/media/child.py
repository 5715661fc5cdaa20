"""The sandbox from inside: reads requests, decodes with PyAV, writes answers (see ``sandbox.py``).

Run as ``python -I -B child.py SOURCE_FD DECODER`` with a socket as standard input. Before it looks at the first byte of
the source it gives up what a decoder does not need: other files and signals to others (Landlock, where the kernel has
it), sockets and programs (seccomp), files of its own, core dumps, new privileges, time and memory without end.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import queue
import resource
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av.error
import numpy as np

if __name__ == "__main__":  # -I leaves this file's own package off the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.media.audio import read_audio, read_audio_info
from pipeline.media.nvdec import DEVICE_FILES, MEMORY_BYTES, OPEN_FILES, open_gpu
from pipeline.media.sandbox import ANSWER, NVDEC, Answer, MediaError, ReadingLimits
from pipeline.media.seccomp import forbid_calls
from pipeline.media.source import MediaSource
from pipeline.media.video import (
    read_crops,
    read_damage,
    read_frame_times,
    read_frames,
    read_glances,
    read_info,
    read_scan,
    read_times_around,
)

COMMANDS: dict[str, Callable[..., Iterator[Answer]]] = {
    "info": read_info,
    "frame_times": read_frame_times,
    "times_around": read_times_around,
    "frames": read_frames,
    "glances": read_glances,
    "scan": read_scan,
    "crops": read_crops,
    "damage": read_damage,
    "audio": read_audio,
    "audio_info": read_audio_info,
}

Outbox = queue.Queue[Answer]

AHEAD_ANSWERS = 6  # frames that may wait for the parent; a socket alone holds less than one
_ROOM_BYTES = 64 << 20
_NO_DATA = np.empty(0, np.uint8)
_PR_SET_NO_NEW_PRIVS = 38
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446  # on every architecture
_FILE_RIGHTS = (1 << 13) - 1  # all that Landlock ABI 1 knows
_READ_RIGHTS = 0b1100  # of those: read a file, list a folder
_DEVICE_RIGHTS, _FILE_ONLY = 0b1110, 0b0111  # write and read; what a file that is no folder can be given
_TCP_RIGHTS = 0b11  # bind, connect: from ABI 4 on
_SCOPES = 0b11  # abstract sockets and signals of processes outside: from ABI 6 on
_RULESET_BYTES = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}  # what a kernel with that ABI takes of a ruleset; 24 from 6 on


def main() -> None:
    wire = socket.socket(fileno=0)
    lines = wire.makefile("rb")
    limits = ReadingLimits(**json.loads(lines.readline()))
    gpu, without_gpu = open_gpu() if sys.argv[2] == NVDEC else (None, "")
    confine(limits, with_gpu=gpu is not None)
    file = os.fdopen(int(sys.argv[1]), "rb", buffering=0)
    file.name = "source"  # stands in libav's messages, which must not tell how many files the parent has open
    source = MediaSource(file, limits, gpu, without_gpu)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines, requests, source), daemon=True).start()
    outbox: Outbox = queue.Queue(maxsize=AHEAD_ANSWERS)
    threading.Thread(target=_send, args=(outbox, wire), daemon=True).start()
    while True:
        _serve(source, requests.get(), outbox)


def confine(limits: ReadingLimits, with_gpu: bool = False) -> None:
    """Give up, for good, what reading media does not need."""
    kind, memory_bytes = resource.RLIMIT_AS, limits.memory_bytes
    if with_gpu:
        kind, memory_bytes = resource.RLIMIT_DATA, limits.memory_bytes + MEMORY_BYTES
    resource.setrlimit(kind, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 1))  # SIGXCPU first, which tells why
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    open_files = OPEN_FILES if with_gpu else 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _forbid_files(libc, [str(file) for file in Path("/dev").glob(DEVICE_FILES)] if with_gpu else [])
    forbid_calls(libc)


def _forbid_files(libc: ctypes.CDLL, devices: Sequence[str]) -> None:
    """Landlock: from here on no file can be opened but Python's own, and devices.

    Kernels before 5.13 lack it; there the limits and libav's own lists must do.
    """

    def call(number: int, *arguments: Any) -> int:
        result = libc.syscall(number, *arguments, ctypes.c_uint32(0))
        if result < 0:
            raise OSError(ctypes.get_errno(), f"the kernel offers Landlock and refuses call {number}")
        return int(result)

    abi = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if abi < 1:
        return
    handled = struct.pack("=QQQ", _FILE_RIGHTS, _TCP_RIGHTS, _SCOPES)
    ruleset = call(_LANDLOCK_CREATE_RULESET, handled, ctypes.c_size_t(_RULESET_BYTES.get(abi, len(handled))))
    own = dict.fromkeys((sys.prefix, sys.base_prefix), _READ_RIGHTS)  # PyAV imports some of its modules late
    for path, rights in {**own, **dict.fromkeys(devices, _DEVICE_RIGHTS)}.items():
        beneath = os.open(path, os.O_PATH)
        held = rights if os.path.isdir(path) else rights & _FILE_ONLY
        call(_LANDLOCK_ADD_RULE, ruleset, ctypes.c_int(1), struct.pack("=Qi", held, beneath))
        os.close(beneath)
    call(_LANDLOCK_RESTRICT_SELF, ruleset)
    os.close(ruleset)


def _listen(lines: Any, requests: queue.SimpleQueue[dict[str, Any]], source: MediaSource) -> None:
    """Pass requests on, and what is said about the one at work.

    When the parent is gone, however it ended, so is this process, whatever it is doing.

    PR_SET_PDEATHSIG would watch the parent's *thread*: it kills a healthy reader when a worker's thread ends.
    """
    try:
        for line in lines:
            message = json.loads(line)
            if "keep_only" in message:
                source.kept.regions = message["keep_only"]
            else:
                requests.put(message)
    finally:  # the end of the stream, or a reset where the parent left answers unread
        os._exit(0)


def _serve(source: MediaSource, request: dict[str, Any], outbox: Outbox) -> None:
    try:
        for header, data in COMMANDS[request.pop("command")](source, **request):
            outbox.put((header | {"dtype": data.dtype.name, "shape": data.shape}, data))
        last: dict[str, Any] = {"done": True, "without_gpu": source.without_gpu}
    except (MediaError, MemoryError, av.error.FFmpegError, OSError) as error:
        last = _told(error, source.limits)  # here, for with the error goes the decoder and all the memory that it holds
    except Exception:
        last = {"bug": traceback.format_exc()}
    outbox.put((last, _NO_DATA))


def _told(error: Exception, limits: ReadingLimits) -> dict[str, str]:
    """What to say of an error that a source has led to."""
    if isinstance(error, MediaError):
        reason, detail = error.reason, error.detail
    else:  # of the operating system's, where a damaged index leads to no place in a file
        reason, detail = "damaged", str(error)
    has_no_room = isinstance(error, (MemoryError, av.error.BlockingIOError))  # libav got no thread
    if has_no_room or (reason in ("damaged", "unreadable") and not _has_room()):
        # decoders whose threads get no memory call the file's data invalid
        return {"error": "out_of_memory", "detail": f"more than {limits.memory_bytes >> 20} MiB"}
    return {"error": reason, "detail": detail}


def _has_room() -> bool:
    """Whether there is memory for a few pictures more."""
    try:
        mmap.mmap(-1, _ROOM_BYTES).close()
    except (OSError, MemoryError):
        return False
    return True


def _send(outbox: Outbox, wire: socket.socket) -> None:
    """Write answers to the wire while the next ones are being made."""
    while True:
        header, data = outbox.get()
        text = json.dumps(header).encode()
        wire.sendall(ANSWER.pack(len(text), data.nbytes) + text)
        if data.nbytes:
            wire.sendall(memoryview(np.ascontiguousarray(data)).cast("B"))


if __name__ == "__main__":
    main()
