"""Builds in worker processes, without Ray, and when they are chosen; what kills them is in tests/reliability."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from jobs import build
from pipeline import processes
from pipeline.dataset.store import Store
from pipeline.ledger.survey import read_ledger
from tests.labs.kill import as_if_undisturbed
from tests.labs.toy_build import PEAK, ROWS, WAVE, ToyProject

HOUR = "a,{},{},left,,p,q,train"
AN_HOUR_EACH = tuple(HOUR.format(3600 * n, 3600 * (n + 1)) for n in range(4))


def test_worker_processes_and_this_process_alone_give_the_same_bytes_and_ledger(tmp_path: Path) -> None:
    toy = ToyProject(tmp_path)
    toy.build("alone")
    report = toy.build("workers", runner=processes.run_parts)
    assert report.computed.total() == 7
    as_if_undisturbed(tmp_path / "workers", tmp_path / "alone")
    assert len(read_ledger(Store(tmp_path / "workers"))) == 7


def test_an_error_in_a_worker_comes_with_its_traceback(tmp_path: Path) -> None:
    toy = ToyProject(tmp_path)
    toy.add_stage("wave", WAVE + "\n    def setup(self, device):\n        raise LookupError('no such model')\n")
    with pytest.raises(LookupError, match="no such model") as raised:
        toy.build(runner=processes.run_parts)
    assert "in setup" in raised.value.__notes__[0]


def test_a_worker_whose_driver_has_died_with_its_answer_unread_ends_without_a_word() -> None:
    ours, theirs = socket.socketpair()
    code = f"from pipeline.processes import work; work({theirs.fileno()}, {os.getpid()})"
    worker = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
    theirs.close()
    with Connection(ours.detach()) as wire:
        wire.send(())  # no job: it answers with an error
        assert wire.poll(60)
    assert worker.communicate(timeout=60)[1] == b""


def test_workers_that_end_before_they_begin_are_not_replaced_for_ever(tmp_path: Path) -> None:
    toy = ToyProject(tmp_path)
    assert "pytest" in sys.modules
    toy.add_stage("wave", WAVE + "\n\nimport os, sys\n\nif 'pytest' not in sys.modules:\n    os._exit(7)\n")
    with pytest.raises(RuntimeError, match="3 worker processes ended at their start: 7"):
        toy.build(runner=processes.run_parts)


@pytest.mark.parametrize(
    ("rows", "words", "place"),
    [
        (ROWS, (), "worker processes: 2, no Ray"),
        (ROWS, ("--workers", "1"), "worker processes: 1, no Ray"),
        (ROWS, ("--address", "local"), "Ray: local"),
        (AN_HOUR_EACH, (), "Ray: local"),
        (AN_HOUR_EACH, ("--address", "none"), "worker processes: 2, no Ray"),
        (ROWS, ("--address", "10.0.0.1:6379"), "Ray: 10.0.0.1:6379"),
    ],
    ids=["little work", "one worker", "Ray by wish", "much work", "no Ray by wish", "a cluster"],
)
def test_ray_is_started_where_there_is_work_for_minutes_or_it_is_named(
    tmp_path: Path, rows: tuple[str, ...], words: tuple[str, ...], place: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    toy = ToyProject(tmp_path)
    toy.write_clips(rows)
    assert build.main(toy.arguments("out", "--plan", *words)) == 0
    assert capsys.readouterr().out.endswith(f" of work here; {place}\n")


@pytest.mark.parametrize(("gpus", "place"), [("0.5", "Ray: local"), ("0", "worker processes: 2, no Ray")])
def test_a_stage_that_wants_a_gpu_runs_on_ray_where_the_machine_has_one(
    tmp_path: Path, gpus: str, place: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(processes, "has_gpu", lambda: True)
    toy = ToyProject(tmp_path)
    toy.add_stage("peak", PEAK.replace("class Peak(Stage):", f"class Peak(Stage):\n    gpus = {gpus}\n"))
    assert build.main(toy.arguments("out", "--plan")) == 0
    assert capsys.readouterr().out.endswith(f" of work here; {place}\n")
