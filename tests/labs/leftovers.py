"""What a test leaves behind: processes that go on, and folders of Ray. Both are found, removed, and fail the test.

Tests have a temporary folder of their own, empty at first: what earlier runs left elsewhere neither helps nor hurts.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

MARK = "VICO_TESTS"  # in the environment of every process that tests start, with a value of this session
PATIENCE_S = 20  # for processes that were told to end
BECOMES_S = 0.2  # what `exec` takes at most
PF_KTHREAD = 0x00200000  # a flag of what is no program, but the kernel's own
OF_PYTHON = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")  # end with the process that tests

_kept: list[str] = []  # folders of what a fixture of the session may start in any module


def settle() -> None:
    """Give this process, and all that it will start, a mark and a temporary folder that nobody else has."""
    under = Path(tempfile.gettempdir())
    if "PYTEST_XDIST_WORKER" in os.environ:  # the folder of the process that started us is too long for sockets in it
        under = under.parent
        signal.signal(signal.SIGINT, signal.default_int_handler)  # execnet ignores it; whoever lost a lock gets one
    os.environ["PYTEST_DEBUG_TEMPROOT"] = os.environ.get("PYTEST_DEBUG_TEMPROOT", str(under))  # `tmp_path` is kept
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="t", dir=under)
    os.environ[MARK] = uuid.uuid4().hex
    atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)


@contextmanager
def kept(folder: str) -> Iterator[None]:
    """Until the end of the block, the folder and the processes that know it are left to whoever made them."""
    _kept.append(folder)
    yield
    _kept.remove(folder)


@dataclass(frozen=True)
class Snapshot:
    """Processes of this machine and folders of Ray at one moment."""

    processes: frozenset[int]
    folders: frozenset[Path]

    @classmethod
    def now(cls) -> Snapshot:
        processes = frozenset(int(name) for name in os.listdir("/proc") if name.isdecimal())
        return cls(processes, frozenset(Path(tempfile.gettempdir()).glob("ray-*")))

    def end_what_came(self) -> None:
        """Remove what tests started or made since, and is left; fail if there was anything."""
        deadline = time.monotonic() + PATIENCE_S
        if self._processes():
            gc.collect()  # a watchdog ends with the last reference to it
        while (left := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in left:
            end(process)
        folders = Snapshot.now().folders - self.folders - {Path(folder) for folder in _kept}
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        if left or folders:
            lines = [f"process {process}: {command}" for process, command in left.items()]
            pytest.fail("\n".join(["left behind:", *lines, *map(str, sorted(folders))]), pytrace=False)

    def _processes(self) -> dict[int, str]:
        found: dict[int, str] = {}
        new = Snapshot.now().processes - self.processes
        for process in new.difference(*map(processes_with, _kept)) if new else ():
            command = command_of(process)
            if command and not self._ends_by_itself(process) and self._is_of_tests(process):
                found[process] = command
        return found

    def _ends_by_itself(self, process: int) -> bool:
        """Whether Python keeps it while this process lives; what its server has forked bears the server's name."""
        ours = any(name in command_of(process) for name in OF_PYTHON)
        return ours and not any("multiprocessing.forkserver" in command_of(parent) for parent in ancestors(process)[:1])

    def _is_of_tests(self, process: int) -> bool:
        """Whether this session started it, and not a process of a fixture that lives longer."""
        parents = ancestors(process)
        for parent in parents:
            if parent in self.processes and parent != os.getpid() and os.getpid() in ancestors(parent):
                return any(name in command_of(parent) for name in OF_PYTHON)
        return os.getpid() in parents or any(holds(process, os.environ[name]) for name in (MARK, "TMPDIR"))


def end(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def processes_with(text: str) -> dict[int, str]:
    """Process id -> command line of all processes that hold a text, and of their children."""
    every = Snapshot.now().processes - {os.getpid()}
    found = {process for process in every if holds(process, text)}
    return {process: command_of(process) for process in every if {process, *ancestors(process)} & found}


def end_all(text: str) -> None:
    """End all processes that hold a text, and what they start meanwhile."""
    while any((found := processes_with(text)).values()):
        for process in found:
            end(process)


def command_of(process: int) -> str:
    """The command line; nothing where it has ended, waited for or not."""
    return _told(process, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _told(process: int, name: str) -> bytes:
    """What the system says of a process. While that becomes another program it says nothing, for a moment."""
    end = time.monotonic() + BECOMES_S
    with contextlib.suppress(OSError):  # it has just ended, or is another user's
        while not (told := Path(f"/proc/{process}/{name}").read_bytes()):
            state, *_, flags = _stat(process)[:7]
            if state in "ZX" or int(flags) & PF_KTHREAD or time.monotonic() > end:
                break
            time.sleep(0.001)
        return told
    return b""


def _stat(process: int) -> list[str]:
    """State, parent, group, session, terminal, its group, flags and all that the system tells after them."""
    return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()


def ancestors(process: int) -> list[int]:
    """Its parent, the parent's parent and so on."""
    found = []
    with contextlib.suppress(OSError):
        while process > 1:
            process = int(_stat(process)[1])
            found.append(process)
    return found


def holds(process: int, text: str) -> bool:
    """Whether a process has a text in its environment or its command line, or a file open whose path has it.

    All three, because processes of Ray that change their title lose most of the first two.
    """
    folder = Path(f"/proc/{process}")
    with contextlib.suppress(OSError):  # it has just ended, or is another user's
        if any(text.encode() in _told(process, name) for name in ("environ", "cmdline")):
            return True
        return any(text in os.readlink(file) for file in (folder / "fd").iterdir())
    return False
