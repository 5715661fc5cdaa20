"""Builds on clusters of several nodes: where stages run, and what it costs when nodes and heads go and come."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset.check import check_dataset
from tests.labs.cluster import NUM_CLIPS, Journal, ray_cluster, worker
from tests.labs.ray_head import WAIT_S, until
from tests.labs.toy_build import ToyProject, shard_bytes


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture
def nodes(cluster: Any) -> Iterator[Any]:
    """Adds nodes that go with the test."""
    yield partial(worker, cluster)
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node)
    cluster.wait_for_nodes(60)


def undisturbed(project: Journal) -> dict[str, bytes]:
    """The shards as one process without Ray makes them."""
    ToyProject.build(project, "undisturbed")
    return shard_bytes(project.folder / "undisturbed")


@pytest.mark.slow
def test_gpu_stages_run_on_gpu_nodes_and_nowhere_else(cluster: Any, nodes: Any, tmp_path: Path) -> None:
    project = Journal(tmp_path, seconds=0.05, gpus=0.5)
    plain, gpu = nodes(num_cpus=1), nodes(num_cpus=1, num_gpus=1)
    with project.building(cluster.address):
        pass
    assert set(project.runs().values()) == {1} and len(project.entries()) == 2 * NUM_CLIPS
    seconds = [(node, device) for stage, _, node, device in project.entries() if stage == "second"]
    assert set(seconds) == {(gpu.node_id, "cuda")}
    assert {device for stage, _, _, device in project.entries() if stage == "first"} == {"cpu"}
    assert {node for stage, _, node, _ in project.entries() if stage == "first"} <= {plain.node_id, gpu.node_id}
    assert shard_bytes(tmp_path / "out") == undisturbed(project) != {}


@pytest.mark.slow
def test_a_node_that_goes_in_mid_run_costs_nothing_but_time(cluster: Any, nodes: Any, tmp_path: Path) -> None:
    """No clip is to blame for it: where one death is too many, it counts as none."""
    project = Journal(tmp_path, seconds=0.2)
    nodes(num_cpus=1)
    doomed = nodes(num_cpus=1)
    with project.building(cluster.address, "--set", "limits.attempts=1"):
        until(lambda: project.worked_on(doomed), "work on the node")
        until(lambda: len(project.whole()) >= 4, "files of parts")
        safe = project.whole()
        cluster.remove_node(doomed, allow_graceful=False)
        assert len(safe) < NUM_CLIPS, "the node went too late for this test to say anything"
    assert f"{NUM_CLIPS} of {NUM_CLIPS} clips published" in project.said()
    runs = project.runs()
    assert all(runs[done] == 1 for done in safe)
    assert sum(runs.values()) <= 2 * NUM_CLIPS + 2  # at most the part at which the node was
    assert shard_bytes(tmp_path / "out") == undisturbed(project) != {}
    assert list(check_dataset(tmp_path / "out")) == []


@pytest.mark.slow
def test_a_node_that_joins_in_mid_run_is_used(cluster: Any, nodes: Any, tmp_path: Path) -> None:
    project = Journal(tmp_path, seconds=0.1)
    project.hold.touch()
    nodes(num_cpus=1)
    with project.building(cluster.address):
        until(project.entries, "the first clip")
        late = nodes(num_cpus=1)
        until(lambda: project.worked_on(late), "work on the node")
        project.hold.unlink()
    assert project.worked_on(late)
    assert set(project.runs().values()) == {1}
    assert shard_bytes(tmp_path / "out") == undisturbed(project) != {}


@pytest.mark.slow
def test_a_lost_gpu_node_is_replaced_and_the_build_goes_on(cluster: Any, nodes: Any, tmp_path: Path) -> None:
    """The CPU pool has grown over every core by then: the copy on a GPU must not wait for one."""
    project = Journal(tmp_path, seconds=0.3, gpus=1)
    nodes(num_cpus=1)
    doomed = nodes(num_cpus=1, num_gpus=1)
    with project.building(cluster.address):
        until(lambda: any(stage == "second" for stage, *_ in project.entries()), "work on the GPU")
        cluster.remove_node(doomed, allow_graceful=False)
        other = nodes(num_cpus=1, num_gpus=1)
    assert any((stage, node) == ("second", other.node_id) for stage, _, node, _ in project.entries())
    assert shard_bytes(tmp_path / "out") == undisturbed(project) != {}


@pytest.mark.slow
def test_a_build_goes_on_after_the_head_was_lost(tmp_path: Path) -> None:
    project = Journal(tmp_path, seconds=0.2)
    with ray_cluster() as first:
        worker(first, num_cpus=2)
        with project.building(first.address, fails=True):
            until(lambda: len(project.whole()) >= 4, "files of parts")
            first.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
            first.head_node = None
    safe = project.whole()
    assert 4 <= len(safe) < 2 * NUM_CLIPS
    with ray_cluster() as second:
        worker(second, num_cpus=2)
        with project.building(second.address):
            pass
    assert f"{NUM_CLIPS} of {NUM_CLIPS} clips published" in project.said()
    assert all(project.runs()[done] == 1 for done in safe)
    assert shard_bytes(tmp_path / "out") == undisturbed(project) != {}


def test_a_cluster_without_room_is_refused_before_anything_runs(cluster: Any, tmp_path: Path) -> None:
    project = Journal(tmp_path, seconds=0)
    with project.building(cluster.address, fails=True) as process:
        assert process.wait(timeout=WAIT_S) == 2
    assert "the cluster has 0 CPU and 0 GPU (nodes: 0 CPU)" in project.said()
    assert "Traceback" not in project.said() and not project.entries()
