"""The sandbox from inside: reads requests, decodes with PyAV, writes answers (see ``sandbox.py``).

Run as ``python -I -B child.py SOURCE_FD`` with a socket as standard input. Before it looks at the first byte of
the source it gives up what a decoder does not need: other files and signals to others (Landlock, where the kernel has
it), sockets and programs (seccomp), files of its own, core dumps, new privileges, time and memory without end.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import resource
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av.error
import numpy as np

if __name__ == "__main__":  # -I leaves this file's own package off the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.media.audio import read_audio
from pipeline.media.sandbox import ANSWER, MediaError, ReadingLimits
from pipeline.media.seccomp import forbid_calls
from pipeline.media.source import MediaSource
from pipeline.media.video import read_crops, read_frame_times, read_frames, read_info

Answers = Iterator[tuple[dict[str, Any], np.ndarray]]

COMMANDS: dict[str, Callable[..., Answers]] = {
    "info": read_info,
    "frame_times": read_frame_times,
    "frames": read_frames,
    "crops": read_crops,
    "audio": read_audio,
}

Outbox = queue.Queue[tuple[dict[str, Any], np.ndarray]]

AHEAD_ANSWERS = 6  # frames that may wait for the parent; a socket alone holds less than one
_NO_DATA = np.empty(0, np.uint8)
_PR_SET_NO_NEW_PRIVS = 38
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446  # on every architecture
_FILE_RIGHTS = (1 << 13) - 1  # all that Landlock ABI 1 knows
_READ_RIGHTS = 0b1100  # of those: read a file, list a folder
_TCP_RIGHTS = 0b11  # bind, connect: from ABI 4 on
_SCOPES = 0b11  # abstract sockets and signals of processes outside: from ABI 6 on
_RULESET_BYTES = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}  # what a kernel with that ABI takes of a ruleset; 24 from 6 on


def main() -> None:
    wire = socket.socket(fileno=0)
    lines = wire.makefile("rb")
    limits = ReadingLimits(**json.loads(lines.readline()))
    confine(limits)
    source = MediaSource(os.fdopen(int(sys.argv[1]), "rb", buffering=0), limits)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines, requests), daemon=True).start()
    outbox: Outbox = queue.Queue(maxsize=AHEAD_ANSWERS)
    threading.Thread(target=_send, args=(outbox, wire), daemon=True).start()
    while True:
        _serve(source, requests.get(), outbox)


def confine(limits: ReadingLimits) -> None:
    """Give up, for good, what reading media does not need."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 1))  # SIGXCPU first, which tells why
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _forbid_files(libc)
    forbid_calls(libc)


def _forbid_files(libc: ctypes.CDLL) -> None:
    """Landlock: from here on no file can be opened but Python's own.

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
    for folder in {sys.prefix, sys.base_prefix}:  # PyAV imports some of its modules late
        beneath = os.open(folder, os.O_PATH)
        call(_LANDLOCK_ADD_RULE, ruleset, ctypes.c_int(1), struct.pack("=Qi", _READ_RIGHTS, beneath))
        os.close(beneath)
    call(_LANDLOCK_RESTRICT_SELF, ruleset)
    os.close(ruleset)


def _listen(lines: Any, requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Pass requests on; when the parent is gone, however it ended, so is this process, whatever it is doing.

    PR_SET_PDEATHSIG would watch the parent's *thread*: it kills a healthy reader when a worker's thread ends.
    """
    try:
        for line in lines:
            requests.put(json.loads(line))
    finally:  # the end of the stream, or a reset where the parent left answers unread
        os._exit(0)


def _serve(source: MediaSource, request: dict[str, Any], outbox: Outbox) -> None:
    try:
        for header, data in COMMANDS[request.pop("command")](source, **request):
            outbox.put((header | {"dtype": data.dtype.name, "shape": data.shape}, data))
        last: dict[str, Any] = {"done": True}
    except MediaError as error:
        last = {"error": error.reason, "detail": error.detail}
    except (MemoryError, av.error.BlockingIOError):  # the second is how libav says that it got no thread
        last = {"error": "out_of_memory", "detail": f"more than {source.limits.memory_bytes >> 20} MiB"}
    except av.error.FFmpegError as error:
        last = {"error": "damaged", "detail": str(error)}
    except Exception:
        last = {"bug": traceback.format_exc()}
    outbox.put((last, _NO_DATA))


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
