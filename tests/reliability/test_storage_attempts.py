"""Data sets on object storage whose clips take workers down: counted, shown and set free as in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import retry, status
from pipeline.dataset.lock import locked
from pipeline.ledger.diary import read_diary
from tests.labs.s3_server import Server, s3_server
from tests.labs.toy_build import computed
from tests.reliability.test_poison import ENDLESS_IN_C, SEGFAULT, VICTIM, poisoned, takes_its_worker_down


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server() as server:
        yield server


@pytest.mark.parametrize(
    ("deed", "outcome", "reason"),
    [(SEGFAULT, "crashed", "died 2 times"), (ENDLESS_IN_C, "timed_out", "no end after 2 s, 2 times")],
    ids=["segfault", "endless loop in C"],
)
def test_deaths_are_counted_on_object_storage(server: Server, tmp_path: Path, deed, outcome, reason) -> None:
    remote, toy = server.root(outcome.replace("_", "-")), poisoned(tmp_path, deed)
    takes_its_worker_down(toy, remote, outcome, reason)
    lines = [line for path in (remote / "ledger" / "attempts").glob("*") for line in read_diary(path)]
    events = [line["event"] for line in lines if (line["stage"], line["clip"]) == ("poison", VICTIM)]
    killed = ["killed"] if outcome == "timed_out" else []
    assert events == ["start", *killed, "start", *killed, "given_up"]


def test_status_and_retry_take_an_address(server: Server, tmp_path: Path, capsys) -> None:
    remote, toy = server.root("retry"), poisoned(tmp_path, "raise ValueError('a bug')")
    assert status.main([str(remote)]) == 2
    assert retry.main([str(remote), "--class", "failed"]) == 2
    toy.build(remote)
    capsys.readouterr()
    assert status.main([str(remote)]) == 0
    assert "finished: 2 of 4 clips published" in capsys.readouterr().out
    assert retry.main([str(remote), "--class", "failed"]) == 0
    assert f"{VICTIM}: poison\n1 clips set free" in capsys.readouterr().out
    assert computed(toy.build(remote)) == {"poison": 1}


def test_status_tells_a_build_at_work_on_object_storage_from_one_that_was_stopped(
    server: Server, tmp_path: Path, capsys
) -> None:
    remote, toy = server.root("status"), poisoned(tmp_path, "raise KeyboardInterrupt")
    with locked(remote), pytest.raises(KeyboardInterrupt):
        try:
            toy.build(remote)
        finally:
            assert status.main([str(remote)]) == 0
            printed = capsys.readouterr().out
    assert "running for 0:00:" in printed and f"in work: {VICTIM} (poison)" in printed
    assert status.main([str(remote)]) == 1
    assert "stopped: KeyboardInterrupt" in capsys.readouterr().out
