"""Worker processes of this machine: they run parts without Ray, for builds so short that its start would be felt.

As on Ray a worker holds the stages' models and takes one part after another, and one that dies is replaced: what it was
at is given out again, for ever, because what a clip may cost is counted in its part's diary. A worker is an interpreter
of its own, no fork of a process that may have threads, and ends with the driver, however that ends.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from pipeline.part import Done, Job, PartWorker, hold_memory
from pipeline.plan import Part, Pipeline, in_turn
from pipeline.pools import Node, PoolSize, pool_sizes

RAY_S = 12.0  # what a private Ray adds to a build here: import 1.7, start 5.5, first Data job 3, end 1.2, some copies
RAY_SHARE = 0.05  # of a build's time; where it would be more, Ray is left out
STAGE_MS_A_FRAME = 4.0  # of processor time: the mean of the embedded stages at 1080p (docs/speed.md)
STILLBORN = 3  # workers one after the other that end before they begin: it is no clip's fault
POLL_S = 1.0  # a death is seen at once where nobody but the worker holds its wire
PROJECT = Path(__file__).resolve().parent.parent
_PROGRAM = "import sys; sys.path[0] = sys.argv[1]; from pipeline.processes import work; work(*map(int, sys.argv[2:]))"
_PR_SET_PDEATHSIG = 1


def worker_pool(pipeline: Pipeline, num_parts: int, workers: int | None) -> PoolSize:
    """How many worker processes run so many parts, by the rules of `pool_sizes`; all stages share one, on CPUs."""
    node = Node(max(workers or 0, os.cpu_count() or 1))
    (size,) = pool_sizes(pipeline.groups(with_gpus=False), [node], num_parts, workers)
    return size


def expected_s(num_frames: int, workers: int) -> float:
    """About how long workers need for what a build lacks: frames of its clips, counted once for every stage."""
    return num_frames * STAGE_MS_A_FRAME / 1000 / workers


def ray_is_felt(seconds: float) -> bool:
    """Whether a private Ray would be more than 5 % of so much work: of less than four minutes."""
    return RAY_SHARE * seconds < RAY_S


def has_gpu() -> bool:
    """Whether this machine has a GPU of NVIDIA; asks no library, which would take seconds."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def exit_when_terminated() -> None:
    """Have SIGTERM end this process as an exception does, so that what it started ends before it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def run_parts(job: Job, pipeline: Pipeline, parts: Sequence[Part], workers: int | None = None) -> Iterator[list[Done]]:
    """Run parts through the stages in worker processes; yields what was done as parts finish, in any order.

    `UserError` if a stage cannot load its weights, `OSError` if the machine is in trouble, `RuntimeError` if workers
    end before they have begun.
    """
    size = worker_pool(pipeline, len(parts), workers)
    waiting, team, stillborn = deque(in_turn(parts)), list[_Worker](), 0
    try:
        while waiting or team:
            while waiting and len(team) < size.copies:
                team.append(_Worker(job, size, waiting.popleft()))
            for worker in _with_news(team):
                news = worker.news()
                if news is None:
                    stillborn = 0
                    continue
                if isinstance(news, _Died):
                    stillborn += not worker.is_ready
                    if stillborn == STILLBORN:
                        raise RuntimeError(f"{STILLBORN} worker processes ended at their start: {worker.end()}")
                    waiting.appendleft(worker.part)
                elif isinstance(news, Exception):
                    raise news
                else:
                    yield news
                    if waiting:
                        worker.give(waiting.popleft())
                        continue
                team.remove(worker)
                worker.end()
    finally:
        for worker in team:
            worker.end()


class _Died(Exception):
    """Stands for the news of a worker that has none any more."""


class _Worker:
    """A worker process as its driver sees it, at work on a part."""

    def __init__(self, job: Job, size: PoolSize, part: Part) -> None:
        self.wire, theirs = Pipe()
        self.is_ready = False
        threads = {"OMP_NUM_THREADS": str(max(round(size.cpus), 1))}  # as Ray does: before a library makes its pool
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(PROJECT), str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is the driver's: else a decoder ends of it, and a clip fails
            env={**threads, **os.environ},
        )
        theirs.close()
        self._send((job, size.group.stages))
        self.give(part)

    def give(self, part: Part) -> None:
        self.part = part
        self._send(part)

    def _send(self, what: Any) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it has died, which `news` tells
            self.wire.send(what)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def news(self) -> list[Done] | Exception | None:
        """What it did, or why it cannot; None once, when it has begun."""
        try:
            said: list[Done] | Exception | None = self.wire.recv() if self.wire.poll() else _Died()
        except (EOFError, OSError):  # in the middle of a word, perhaps
            return _Died()
        self.is_ready |= said is None
        return said

    def end(self) -> int:
        """End it, with its watchdog and its decoders; the exit status. What it finished stands in files."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.wire.close()
        return self._process.wait()


def _with_news(team: Sequence[_Worker]) -> list[_Worker]:
    heard = wait([worker.wire for worker in team], POLL_S)
    return [worker for worker in team if worker.wire in heard or worker.has_ended]


def work(wire: int, driver: int) -> None:
    """The whole life of a worker process: a job and its stages come over the wire, then part after part."""
    _end_with(driver)
    hold_memory()
    there = Connection(wire)
    answer: list[Done] | Exception | None = None
    with suppress(EOFError, ConnectionError):  # the driver is gone
        try:
            worker = PartWorker(*there.recv())
        except Exception as error:
            answer = _as_sent(error)
        while True:
            there.send(answer)
            part = there.recv()
            try:
                answer = worker.run(part)
            except Exception as error:
                answer = _as_sent(error)


def _end_with(driver: int) -> None:
    """Have the kernel kill this process when the driver ends: nobody may write once the lock of the data set is free.

    It watches the driver's thread that started us, which is the one that waits for us. Other systems than Linux lack
    this: there a worker ends when it has finished its part.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != driver:
        sys.exit(1)


def _as_sent(error: Exception) -> Exception:
    """An error with its traceback as a note; one that pickle cannot make again goes as its words."""
    told = "".join(traceback.format_exception(error))
    error.add_note(f"in a worker process:\n{told}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(told)
    return error
