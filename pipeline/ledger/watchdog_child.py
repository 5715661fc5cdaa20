"""The watchdog's own process: ends its parent when that takes longer, or more memory, than it was allowed to.

Run as a program by `pipeline.ledger.watchdog`. It reads the last of the lines on its standard input, a JSON object: {}
for "nothing to watch", else ``limit_s``, ``memory_bytes`` (0: no limit), ``diary`` and ``events``: what to write there,
one line each, before the parent is killed. Standard library only, so that it starts in milliseconds; a diary in object
storage is written by one more process, while the parent is halted.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

POLL_S = 0.1  # a process fills about 0.2 GB of memory in that time
TIMED_OUT, OUT_OF_MEMORY = "timed_out", "out_of_memory"  # as in schemas/outcome.py
STORAGE_S = 60.0  # what object storage may take
PROJECT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
APPEND = """
import sys
from pipeline.dataset.storage import location
from pipeline.dataset.store import append_text

append_text(location(sys.argv[1]), sys.stdin.read())
"""


def main() -> None:
    """Watch the parent until it ends, or has to be ended."""
    parent, pending = int(sys.argv[1]), b""
    task: dict[str, Any] = {}
    deadline_s = 0.0
    while True:
        if select.select([0], [], [], POLL_S if task else None)[0]:
            chunk = os.read(0, 1 << 16)
            if not chunk:
                return  # the parent has ended
            *lines, pending = (pending + chunk).split(b"\n")
            if lines:
                task = json.loads(lines[-1])
                deadline_s = time.monotonic() + task.get("limit_s", 0.0)
        elif os.getppid() != parent:
            return  # it has ended, and a process that it forked holds our input open
        elif verdict := _verdict(task, parent, deadline_s):
            os.kill(parent, signal.SIGSTOP)  # it takes no more memory, and writes nothing, while we write
            _write(task, verdict)
            os.kill(parent, signal.SIGKILL)
            return


def _verdict(task: dict[str, Any], parent: int, deadline_s: float) -> str:
    if task["limit_s"] and time.monotonic() > deadline_s:
        return TIMED_OUT
    if task["memory_bytes"] and memory_of(parent) > task["memory_bytes"]:
        return OUT_OF_MEMORY
    return ""


def memory_of(pid: int) -> int:
    """Bytes of memory that only the end of the process would free; 0 where the system does not say (not Linux)."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            lines = dict(line.split(":", 1) for line in status)
        return 1024 * int(lines["RssAnon"].split()[0])
    except (OSError, KeyError):
        return 0


def _write(task: dict[str, Any], verdict: str) -> None:
    lines = "".join(json.dumps({**event, "event": "killed", "why": verdict}) + "\n" for event in task["events"])
    try:
        if "://" in task["diary"]:
            command = [sys.executable, "-B", "-c", APPEND, task["diary"]]  # with -c it finds our rooms in its folder
            subprocess.run(command, cwd=PROJECT, input=lines, text=True, timeout=STORAGE_S, check=True)
        else:
            with open(task["diary"], "a", encoding="utf-8") as diary:
                diary.write(lines)
    except (OSError, subprocess.SubprocessError) as error:
        # Neither a full disk nor a storage that is away saves the parent: its attempt then counts as a crash.
        print(f"watchdog: {verdict}, and the diary cannot be written: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
