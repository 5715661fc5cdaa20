"""Builds that are killed at random moments, and what must be true afterwards.

Toy stages leave a line in a tally before every computation, outside of the data set: so it can be told what was
computed again although its file was whole.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.dataset.check import check_dataset
from pipeline.dataset.lock import locked
from pipeline.dataset.store import Store
from pipeline.ledger.survey import read_ledger
from tests.labs.leftovers import Snapshot, end, end_all, processes_with
from tests.labs.ray_head import ROOT, until
from tests.labs.toy_build import PEAK, WAVE, ToyProject, shard_bytes

TALLY = """
        with (clip.source.parent / "tally").open("a") as tally:
            tally.write(f"{self.name} {clip.clip_id}\\n")
"""
FORKED = multiprocessing.get_context("forkserver")  # processes to be killed, which have all imports behind them
FORKED.set_forkserver_preload(["tests.labs.kill", "tests.labs.s3_server", "tests.labs.interrupted"])
CLIPS = 70  # more than parts at a time: parts of two clips


def tallied(stage: str, slowness_s: float) -> str:
    """A toy stage that keeps the tally and takes its time over every clip, long enough to be hit."""
    head, process, body = stage.partition("    def process(self, clip):\n")
    slow = f"        __import__('time').sleep({slowness_s})\n"
    return head + process + TALLY.lstrip("\n") + slow + body


class KillLab:
    """One toy project, built undisturbed once, then killed and restarted; ``seed`` decides when."""

    def __init__(self, folder: Path, seed: int, slowness_s: float = 0.004) -> None:
        self.toy = ToyProject(folder)
        self.toy.write_clips([f"a,{n},{n + 3 if n % 10 == 9 else n + 1},left,,p,q,train" for n in range(CLIPS)])
        self.toy.add_stage("wave", tallied(WAVE, slowness_s))
        peak = PEAK.replace('reads = ("wave",)', 'reads = ("wave", "clip_id")')
        self.toy.add_stage("peak", tallied(peak, slowness_s))
        self.random = random.Random(seed)
        started = time.monotonic()
        self.toy.build("undisturbed")
        self.seconds = time.monotonic() - started
        self.lives = self.kills = 0

    def live(self, max_kills: int) -> None:
        """One data set from its first build to its last, in processes that are killed up to so many times."""
        self.lives += 1
        out = f"killed-{self.lives}"
        for kill in range(max_kills + 1):
            whole, seen = settled(self.toy.folder / out), self.tally_size()
            process = FORKED.Process(target=build_here, args=(self.toy.folder, out))
            process.start()
            moment = self.random.uniform(0, 0.5 * self.seconds)  # what is left to do shrinks with every kill
            process.join(timeout=None if kill == max_kills else moment)
            process.kill()
            process.join()
            self.nothing_again(whole, seen)
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            self.kills += 1
        self.as_if_undisturbed(out)

    def live_in_workers(self, address: str, kills: Sequence[str]) -> None:
        """One data set, built at this address through these kills: of a worker, of the driver, of everything."""
        self.lives += 1
        out, checks, before = f"killed-{self.lives}", [], Snapshot.now()
        build = BuildInWorkers(self, out, address)
        for kill in kills:
            while self.tally_size() == build.size and build.driver.poll() is None:  # until a stage computes something
                time.sleep(0.02)
            time.sleep(self.random.uniform(0, 0.3 * self.seconds))
            if kill == "worker":
                if workers := build.workers():
                    end(self.random.choice(workers))
                    self.kills += 1
            elif build.driver.poll() is None:
                build.driver.kill() if kill == "driver" else end_all(build.mark)
                build.driver.wait()
                self.kills += 1
            checks.append((settled(self.toy.folder / out), self.tally_size()))
            if build.driver.poll() is not None:
                build = BuildInWorkers(self, out, address)
        assert build.driver.wait() == 0, (self.toy.folder / "build.log").read_text()
        until(lambda: not processes_with(build.mark), "the end of its processes", within_s=20)
        for folder in Snapshot.now().folders - before.folders:
            end_all(str(folder))  # agents of Ray take their time to find that they are alone
            shutil.rmtree(folder)  # a driver that was killed cannot
        for whole, seen in checks:
            self.nothing_again(whole, seen)
        self.as_if_undisturbed(out)

    def tally_size(self) -> int:
        return (self.toy.folder / "tally").stat().st_size

    def nothing_again(self, whole: dict[tuple[str, str], str], seen: int) -> None:
        """Nothing that stood in a whole file was computed since the tally had that size."""
        with (self.toy.folder / "tally").open() as tally:
            tally.seek(seen)
            computed = Counter(tuple(line.split()) for line in tally)
        assert not computed.keys() & whole.keys()

    def as_if_undisturbed(self, out: str) -> None:
        """The data set is that of a build that nobody disturbed, with every clip."""
        root = self.toy.folder / out
        as_if_undisturbed(root, self.toy.folder / "undisturbed")
        assert len({row["clip_id"] for row in read_ledger(Store(root))}) == CLIPS


def settled(root: Path) -> dict[tuple[str, str], str]:
    """(stage, clip) -> outcome, of every row in a whole file; raises if one is not whole."""
    files = [(path.parent.name, path.stem) for path in (root / "columns").glob("*/*.parquet")]
    rows = [(stage, Store(root).read_outcomes(stage, part)) for stage, part in files]
    return {(stage, clip): row.outcome for stage, found in rows for clip, row in found.items()}


def as_if_undisturbed(root: Path, calm: Path) -> None:
    """The data set is whole, sound, and byte for byte the one of a build that nobody disturbed."""
    assert shard_bytes(root) == shard_bytes(calm) != {}
    assert files_of(root / "media") == files_of(calm / "media")
    assert (root / "dataset.json").read_bytes() == (calm / "dataset.json").read_bytes()
    assert read_ledger(Store(root)) == read_ledger(Store(calm))
    assert not (root / ".tmp").exists()
    assert list(check_dataset(root)) == []


def build_here(folder: Path, out: str) -> None:
    """What a killed process was doing: a build of the toy project, in this process."""
    toy = ToyProject(folder)
    with locked(folder / out):
        toy.build(out)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class BuildInWorkers:
    """``python -m jobs.build``, in processes that can be told from all others by a mark."""

    def __init__(self, lab: KillLab, out: str, address: str) -> None:
        self.mark = uuid.uuid4().hex
        self.size = lab.tally_size()
        command = [sys.executable, "-m", "jobs.build", *lab.toy.arguments(out, "--address", address)]
        with (lab.toy.folder / "build.log").open("a") as log:
            alone = {"env": {**os.environ, "VICO_LAB": self.mark}, "start_new_session": True}
            self.driver = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, **alone)

    def workers(self) -> list[int]:
        """The processes that compute, of Ray or without it."""
        names = ("ray::MapWorker", "pipeline.processes")
        return [pid for pid, command in processes_with(self.mark).items() if any(name in command for name in names)]
