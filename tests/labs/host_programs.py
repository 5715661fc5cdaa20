"""What runs on the hosts of `tests.labs.hosts` besides the product: the storage, and a cable with delay.

    python -m tests.labs.host_programs storage HOST PORT FD FOLDER
    python -m tests.labs.host_programs cable NEAR FAR FOLDER

Both read what they shall do from files in a folder, which a test may write at any time.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import select
import struct
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MISCHIEF, WRITES, DELAY = "mischief.json", "writes.jsonl", "delay_s"
MUTATING = ("PUT", "POST", "DELETE")
TUNSETIFF, IFF_TAP_NO_PI = 0x400454CA, 0x0002 | 0x1000
FRAME_BYTES = 2**16


def storage(host: str, port: int, descriptor: int, folder: Path) -> None:
    """Moto's S3 server on this host, and once more on a socket that tests hold elsewhere.

    It notes who writes what, and does to others than the tests what MISCHIEF says: answers ``status``, or ``slow_s``.
    """
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = DomainDispatcherApplication(create_backend_app)

    def troubled(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        mischief = json.loads((folder / MISCHIEF).read_text())
        time.sleep(mischief.get("slow_s", 0.0))
        if status := mischief.get("status"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{status} Trouble", [("Content-Length", "0")])
            return []
        if environ["REQUEST_METHOD"] in MUTATING:
            event = {"who": environ["REMOTE_ADDR"], "what": environ["PATH_INFO"], "method": environ["REQUEST_METHOD"]}
            with (folder / WRITES).open("a") as file:
                file.write(json.dumps({**event, "at": time.time()}) + "\n")
        return app(environ, start_response)

    ours = make_server("127.0.0.1", 0, app, threaded=True, fd=descriptor)
    threading.Thread(target=ours.serve_forever, daemon=True).start()
    make_server(host, port, troubled, threaded=True).serve_forever()


def cable(near: str, far: str, folder: Path) -> None:
    """Two network devices; what comes in far off goes out at the near end after so many seconds as DELAY says.

    The other way it is not delayed: a round trip takes the time once.
    """
    ends = [_tap(name) for name in (near, far)]
    print("ready", flush=True)
    waiting: list[tuple[float, int, int, bytes]] = []  # due, number, where to, frame
    count = 0
    while True:
        patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for end in select.select(ends, [], [], patience)[0]:
            count += 1
            due = time.monotonic() + (float((folder / DELAY).read_text()) if end == ends[1] else 0.0)
            heapq.heappush(waiting, (due, count, ends[end == ends[0]], os.read(end, FRAME_BYTES)))
        while waiting and waiting[0][0] <= time.monotonic():
            *_, end, frame = heapq.heappop(waiting)
            try:
                os.write(end, frame)
            except OSError:  # the device is down
                continue


def _tap(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP_NO_PI))
    return descriptor


if __name__ == "__main__":
    if sys.argv[1] == "storage":
        storage(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        cable(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
