"""Builds on several hosts that share nothing but object storage: cables, clocks, disks and the storage fail them.

Four builds on one cluster of a head and three workers, in this order; the last one loses the head.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.dataset.check import check_dataset
from tests.labs.hosts import CUT, LOSE_5_PERCENT, NUM_CLIPS, Cluster, ToyOnHosts, cluster_on_hosts, journal
from tests.labs.ray_head import until
from tests.labs.toy_build import shard_bytes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ALL = f"{NUM_CLIPS} of {NUM_CLIPS} clips published"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_on_hosts() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyOnHosts:
    toy = ToyOnHosts(tmp_path_factory.mktemp("toy"))
    toy.build("undisturbed")
    return toy


class Submitted:
    """A build that was submitted on the head."""

    def __init__(self, cluster: Cluster, toy: ToyOnHosts, name: str, pace_s: float) -> None:
        self.cluster, self.root = cluster, cluster.lab.store.root(name)
        self.address = cluster.lab.address(self.root)
        self.command = toy.command(self.address, "--address", "auto")
        toy.copy_to([cluster.head, *cluster.workers], pace_s)
        self.again(name)

    def again(self, name: str) -> None:
        self.name = name
        said = self.cluster.jobs.submit(self.command, "--no-wait", "--submission-id", name)
        assert said.returncode == 0, said.stdout + said.stderr

    def ends(self, how: str) -> str:
        """What it printed, after it has ended that way."""
        found = self.cluster.jobs.until(self.name, "succeeded", "failed", "stopped")
        said = self.cluster.jobs("logs", self.name).stdout
        assert found == how, said
        return said

    def done(self) -> int:
        """Files of columns that stand."""
        return sum(1 for _ in (self.root / "columns").glob("*/*.parquet"))

    def as_if_undisturbed(self, toy: ToyOnHosts) -> None:
        found = {path.name: path.read_bytes() for path in (self.root / "shards").glob("*.parquet")}
        assert found == shard_bytes(toy.folder / "undisturbed") != {}
        assert list(check_dataset(self.root)) == []


def test_delayed_and_lost_packets_and_clocks_an_hour_apart_change_nothing(cluster: Cluster, toy: ToyOnHosts) -> None:
    plain, delayed, ahead = cluster.workers
    cluster.lab.delay(0.3)
    with plain.suffering(LOSE_5_PERCENT):
        build = Submitted(cluster, toy, "delayed", pace_s=0.2)
        until(build.done, "the first file")
        hold = plain.path("/tmp/toy/hold")
        hold.touch()  # no end before we have asked
        second = ahead.start("python", *build.command[1:-1], "none", log="second.log")
        assert second.wait(120) == 2, ahead.said("second.log")
        assert "is being built by head process" in ahead.said("second.log")
        status = ahead.start("python", "-m", "jobs.status", build.address, log="status.log")
        assert status.wait(120) == 0 and "running for" in ahead.said("status.log"), ahead.said("status.log")
        hold.unlink()
        until(lambda: len(journal(delayed)) > 2, "a clip from afar")  # what is one round trip here is fifty there
        cluster.lab.delay(0.0)
        assert ALL in build.ends("succeeded")
    assert all(journal(host) for host in cluster.workers)
    assert min(at for *_, at in journal(ahead)) > time.time() + 3000
    build.as_if_undisturbed(toy)


def test_a_full_disk_on_one_host_ends_with_a_sentence_that_names_it(cluster: Cluster, toy: ToyOnHosts) -> None:
    plain, *_ = cluster.workers
    filler = plain.path("/tmp/filler")
    build = Submitted(cluster, toy, "full", pace_s=0.5)
    until(build.done, "the first file")
    try:
        fill(filler)
        said = build.ends("failed")
    finally:
        filler.unlink()
    assert "No space left on device on plain" in said and "run the same command again" in said
    assert "Traceback" not in said
    build.again("full-again")
    assert ALL in build.ends("succeeded")
    build.as_if_undisturbed(toy)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:  # a buffer would be written once more when the file is closed
            file.write(bytes(2**20))


def test_workers_that_are_cut_off_and_a_storage_in_trouble_cost_time_alone(cluster: Cluster, toy: ToyOnHosts) -> None:
    """The longest cut, 120 s, goes on beside all the others: Ray gives that node up."""
    plain, delayed, ahead = cluster.workers
    build = Submitted(cluster, toy, "cut", pace_s=4.0)
    until(lambda: all(journal(host) for host in cluster.workers), "work everywhere")
    with ahead.suffering(CUT, 120):
        with plain.suffering(CUT, 5):
            pass
        with delayed.suffering(CUT, 30):
            pass
        with cluster.lab.storage.suffering(CUT, 20):
            pass
        for trouble, seconds in (('{"status": 500}', 4), ('{"status": 503}', 4), ('{"slow_s": 1.5}', 8)):
            cluster.lab.mischief(trouble)
            time.sleep(seconds)
        cluster.lab.mischief()
        attempts = len(journal(ahead))
    until(lambda: len(journal(ahead)) > attempts, "work on the host that was lost")
    assert ALL in build.ends("succeeded")
    build.as_if_undisturbed(toy)


def test_nobody_writes_when_the_head_is_cut_off_and_another_host_goes_on(cluster: Cluster, toy: ToyOnHosts) -> None:
    build = Submitted(cluster, toy, "head", pace_s=1.0)
    until(lambda: build.done() and all(journal(host) for host in cluster.workers), "work everywhere")
    before = len(cluster.lab.writes().splitlines())
    with cluster.head.suffering(CUT):
        other = cluster.lab.host("other")
        toy.copy_to([other], 0.0)
        process = other.start("python", *build.command[1:-1], "none")
        assert process.wait(240) == 0, other.said()
        said = build.ends("failed")
    assert "this build lost its lock" in said and "Traceback" not in said
    build.as_if_undisturbed(toy)
    writes = [json.loads(line) for line in cluster.lab.writes().splitlines()[before:]]
    first = next(i for i, write in enumerate(writes) if write["who"] == other.address and ".lock" not in write["what"])
    assert {write["who"] for write in writes[first:]} == {other.address}
    assert {write["who"] for write in writes[:first]} > {other.address}
