"""seccomp: system calls that the media reader gives up for good, network and programs first.

Landlock knows files and TCP; a datagram (a look-up of a name is one) or a socket of the machine's own services it lets
pass. A filter of a dozen instructions in classic BPF refuses to make any socket at all. Kernels have had it since 3.5;
on processors without a table here, and where a container forbids filters, the other limits must do.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # opcodes: ld [k], jeq, jge, ret
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EACCES
_CALL_AT, _MACHINE_AT = 0, 4  # offsets in struct seccomp_data
_FOREIGN_CALLS = 0x40000000  # x86-64's second table of calls, x32, begins here

_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}  # the kernel's name of it, place in a pair below

# Numbers of the calls on both; aarch64 never had the older ones. io_uring would make sockets past the filter.
_CALLS: dict[str, tuple[int, int | None]] = {
    "socket": (41, 198), "io_uring_setup": (425, 425), "execve": (59, 221), "execveat": (322, 281),
    "kill": (62, 129), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
}  # fmt: skip


def forbid_calls(libc: ctypes.CDLL) -> bool:
    """Refuse the calls of `_CALLS` to this process and all its threads with "permission denied", for good.

    Needs "no new privileges" to be set, and to be called before a second thread starts. Returns whether it holds.
    """
    if platform.machine() not in _MACHINES or sys.maxsize < 2**32:
        return False
    machine, place = _MACHINES[platform.machine()]
    program = _program(machine, [number for pair in _CALLS.values() if (number := pair[place]) is not None])
    buffer = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, filter_, 0, 0) == 0)


def _program(machine: int, calls: list[int]) -> bytes:
    """The filter: calls of another machine's table are refused, then those of ours, one comparison each."""
    count = len(calls)
    lines = [
        (_LOAD, 0, 0, _MACHINE_AT),
        (_EQUAL, 0, count + 3, machine),
        (_LOAD, 0, 0, _CALL_AT),
        (_AT_LEAST, count + 1, 0, _FOREIGN_CALLS),
        *((_EQUAL, count - k, 0, call) for k, call in enumerate(calls)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
