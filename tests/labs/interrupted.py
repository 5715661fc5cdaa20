"""Trainings that die, at random moments or before a chosen renaming of a file, and what must be true afterwards.

What is killed is a command of `jobs`, as a person would start it again: with ``--resume`` once there is a run.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import torch
import torch.distributed as dist

from stages.train.loop import Worker, WorkerLost, train
from stages.train.run_folder import RunFolder
from tests.labs.kill import FORKED

# what a training imports while it runs: once, and not in every sitting
LOADED = (
    "jobs.train",
    "jobs.train_renderer",
    "tensorboardX",
    "matplotlib.backends.backend_agg",
    "pandas",
    "torch._dynamo",
)
for _name in LOADED:
    import_module(_name)


def flipped(content: bytes, bit: int) -> bytes:
    """The same bytes but for one bit."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A file with one bit flipped, with a stretch of zeros, or cut off; never the same bytes."""
    at = chance.randrange(len(content))
    kinds: list[Callable[[], bytes]] = [
        lambda: flipped(content, 8 * at + chance.randrange(8)),
        lambda: content[:at] + bytes(len(content[at : at + 64])) + content[at + 64 :],
        lambda: content[:at],
    ]
    found = content
    while found == content:
        found = chance.choice(kinds)()
    return found


class Sittings:
    """One run of a command of training, in processes that may be killed."""

    def __init__(self, job: str, words: Sequence[str], out: Path) -> None:
        self.job, self.words, self.out, self.kills = job, [*words, "--out", str(out)], out, 0

    def sit(self, within_s: float | None = None, renames: int = 0) -> bool:
        """Start it, or go on; killed after ``within_s`` or before it renames a file for the so-manieth time.

        Returns whether it came to its end.
        """
        resume = ["--resume"] if (self.out / "run.json").is_file() else []
        process = FORKED.Process(target=_command, args=(self.job, [*self.words, *resume], renames))
        process.start()
        process.join(timeout=within_s)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
        self.kills += process.exitcode != 0
        return process.exitcode == 0

    def measured_s(self) -> float:
        """Seconds that it takes undisturbed, once the process that others are forked from is there."""
        first = FORKED.Process(target=os.getpid)
        first.start()
        first.join()
        started = time.monotonic()
        assert self.sit()
        return time.monotonic() - started


def _command(job: str, words: Sequence[str], renames: int) -> None:
    torch.set_num_threads(1)
    left = renames

    def die(event: str, _: object) -> None:
        nonlocal left
        if event == "os.rename":  # of os.replace too
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(die)
    sys.exit(import_module(f"jobs.{job}").main(words))


def two_workers(folder: Path, dies: int, meeting: Path) -> list[multiprocessing.process.BaseProcess]:
    """Processes that train the run of a folder together; the second kills itself after so many epochs, if any.

    What the first says if it stops then lies in the folder's ``said.txt``.
    """
    meeting.unlink(missing_ok=True)
    workers = [FORKED.Process(target=_half, args=(folder, dies, rank, meeting)) for rank in range(2)]
    for worker in workers:
        worker.start()
    return list(workers)


def _half(folder: Path, dies: int, rank: int, meeting: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)

    def die(row: dict[str, float]) -> None:
        if rank and row["epoch"] == dies:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        train(RunFolder(folder), Worker(torch.device("cpu"), rank, 2), die)
    except WorkerLost as error:
        (folder / "said.txt").write_text(str(error))
    os._exit(0)  # gloo's threads may outlive their group, and abort an interpreter that ends in the usual way
