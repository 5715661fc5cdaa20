"""A relay in front of a server of a test's own, which can be made slow, cut off, or full of errors."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CALM, AWAY, CUTTING, BUSY, SLOW = "calm", "away", "cutting", "busy", "slow"
FAULTS = (AWAY, CUTTING, BUSY, SLOW)
ANSWER = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
BLOCK_BYTES = 2**14
SLOW_S = 0.05  # a block


class Relay:
    """Passes connections on; ``mode`` says how, and holds for those that stand as well."""

    def __init__(self, target: int) -> None:
        self.mode = CALM
        self._target = target
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _listen(self) -> None:
        with suppress(OSError):  # until the door is closed
            while True:
                guest, _ = self._door.accept()
                threading.Thread(target=self._serve, args=(guest,), daemon=True).start()

    def _serve(self, guest: socket.socket) -> None:
        with guest, suppress(OSError):
            if self.mode == BUSY:
                guest.recv(BLOCK_BYTES)
                guest.sendall(ANSWER)
            elif self.mode not in (AWAY, CUTTING):
                with socket.create_connection(("127.0.0.1", self._target)) as host:
                    back = threading.Thread(target=self._pump, args=(host, guest), daemon=True)
                    back.start()
                    self._pump(guest, host)
                    back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while block := source.recv(BLOCK_BYTES):
                if self.mode in (AWAY, CUTTING, BUSY):
                    break
                if self.mode == SLOW:
                    time.sleep(SLOW_S)
                sink.sendall(block)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(target: int) -> Iterator[Relay]:
    """A relay to a port of this machine, until the end of the block."""
    made = Relay(target)
    try:
        yield made
    finally:
        made.close()
