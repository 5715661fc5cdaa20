"""Witnesses of a break-out: files and addresses that nobody may touch, and that tell if somebody does.

inotify reports every opening, reading and writing below a folder, by whatever process; two sockets on loopback report
every connection and every datagram.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_OPEN, IN_CREATE, IN_DELETE = 0x1, 0x2, 0x4, 0x20, 0x100, 0x200
IN_ISDIR = 0x40000000
EVENT = struct.Struct("iIII")  # watch, what, cookie, length of the name
TOUCHED = IN_ACCESS | IN_MODIFY | IN_OPEN | IN_CREATE | IN_DELETE
WRITTEN = IN_MODIFY | IN_CREATE | IN_DELETE | IN_ATTRIB


class FolderWitness:
    """Sees what is done to the files of a folder, not of its subfolders: `TOUCHED` or `WRITTEN`."""

    def __init__(self, folder: Path, events: int = TOUCHED) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, os.fsencode(folder), events) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {folder}")

    def seen(self) -> list[str]:
        """Names of the files that were touched since the last call."""
        names = []
        with suppress(BlockingIOError):
            while data := os.read(self._descriptor, 65536):
                while data:
                    _, mask, _, length = EVENT.unpack_from(data)
                    name, data = data[EVENT.size :][:length], data[EVENT.size + length :]
                    if not mask & IN_ISDIR:
                        names.append(name.rstrip(b"\0").decode())
        return names

    def close(self) -> None:
        os.close(self._descriptor)


class PortWitness:
    """Sees connections and datagrams to one port of loopback."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self._tcp, self._udp = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        self._tcp.bind((address, 0))
        self.port = self._tcp.getsockname()[1]
        self._udp.bind((address, self.port))
        self._tcp.listen()
        self._selector = selectors.DefaultSelector()
        for wire in (self._tcp, self._udp):
            self._selector.register(wire, selectors.EVENT_READ)

    def seen(self) -> int:
        """Connections and datagrams since the last call."""
        count = 0
        while ready := self._selector.select(timeout=0):
            for key, _ in ready:
                if key.fileobj is self._tcp:
                    self._tcp.accept()[0].close()
                else:
                    self._udp.recv(65536)
                count += 1
        return count

    def close(self) -> None:
        for open_one in (self._selector, self._tcp, self._udp):
            open_one.close()


@contextmanager
def witnesses(canaries: Path, address: str = "127.0.0.1") -> Iterator[tuple[FolderWitness, PortWitness]]:
    """Both kinds, over a folder of canaries and one port."""
    with closing(FolderWitness(canaries)) as folder, closing(PortWitness(address)) as port:
        yield folder, port
