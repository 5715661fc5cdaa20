"""A Ray head of a test's own: started in the foreground on free ports, ended with all its children."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.labs.leftovers import end_all

RAY = Path(sys.executable).parent / "ray"
START_TIMEOUT_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: str, environment: dict[str, str]) -> Iterator[None]:
    """A `ray start` in the foreground, ended with all that knows its home: no need to drain it first."""
    environment = {**environment, "TMPDIR": tempfile.gettempdir()}
    with subprocess.Popen(["bash", "-c", f"{command} --block"], env=environment):
        try:
            yield
        finally:
            end_all(environment["HOME"])


def wait_for(url: str) -> None:
    """Return once something answers, if only with a refusal."""
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"nothing answers at {url} after {START_TIMEOUT_S} s")
