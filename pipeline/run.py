"""The run: one streaming Ray Data pipeline whose rows are parts; and `spread`, for work that is a function of an item.
The only module that knows Ray, but for Ray Train in ``jobs/train.py``.

Ray streams names of parts; Parquet files hold the data. Each group of stages is one operator, its pool of actors holds
the stages' models. Frames never enter the object store.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import math
import os
import pickle
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.dataset.claim import Superseded
from pipeline.part import Done, Job, PartWorker, hold_memory
from pipeline.plan import Group, Part, Pipeline
from pipeline.pools import Node, PoolSize, pool_sizes
from pipeline.processes import exit_when_terminated
from pipeline.stderr import stderr_taken_for
from schemas.errors import UserError, is_machine_trouble

PROJECT = Path(__file__).resolve().parent.parent
POLL_S = 5.0  # between looks at a cluster that is growing
TASKS_AHEAD = 2  # a core: one that runs and one that waits for it
OBJECT_STORE_BYTES = 256 * 2**20  # rows are a few kilobytes: the store stays small even in a container's /dev/shm
_folders: list[str] = []  # of private clusters of this process, to be removed


def connect(address: str, workers: int | None, quiet: bool = False) -> None:
    """Join the cluster at ``address``, or start a private one on this machine for ``"local"``.

    ``quiet`` keeps what workers print in Ray's own log files.
    """
    import ray
    import ray.data
    from ray.job_config import JobConfig

    for name in ("ray", "ray.data"):  # their news are about themselves; failures reach us as exceptions
        logging.getLogger(name).setLevel(logging.ERROR)
    if address != "local":
        with stderr_taken_for(os.devnull):
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=not quiet)
        return
    atexit.register(disconnect)  # also where nobody comes to say it
    folder = tempfile.mkdtemp(prefix="ray-", dir=tempfile.gettempdir())
    _folders.append(folder)
    with stderr_taken_for(f"{folder}/driver.log"), _start_told():
        ray.init(
            address="local",
            num_cpus=max(workers or 0, os.cpu_count() or 1),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level=logging.ERROR,
            log_to_driver=not quiet,
            # Workers run this code, wherever we were started. A runtime_env would say so too, but the workers that Ray
            # starts beforehand could not be used then: two seconds of processor time.
            job_config=JobConfig(_py_driver_sys_path=[str(PROJECT)]),
            _temp_dir=folder,
        )
    exit_when_terminated()  # Ray's own handler ends the process where it stands


@contextmanager
def _start_told() -> Iterator[None]:
    """A private Ray that does not come up, for which it has errors of all kinds, as a `UserError`."""
    try:
        yield
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(
            f"Ray does not start on this machine: {told}; try again, or --address none, without Ray"
        ) from error


def find_pools(pipeline: Pipeline, num_parts: int, workers: int | None, wait_s: float = 0.0) -> list[PoolSize]:
    """Pools that fit into the connected cluster, as `pool_sizes`; an empty one is asked for nodes and given time."""
    end = time.monotonic() + wait_s
    while True:
        nodes = _nodes()
        groups = pipeline.groups(with_gpus=any(node.gpus for node in nodes))
        try:
            sizes = pool_sizes(groups, nodes, num_parts, workers)
        except UserError:
            if time.monotonic() > end:
                raise
            _ask_for_nodes(groups)
            time.sleep(min(POLL_S, wait_s))
        else:
            if wait_s:
                _ask_for_nodes([])  # from here on the actors themselves keep the nodes
            return sizes


def _nodes() -> list[Node]:
    import ray

    offers = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(offer.get("CPU", 0.0), offer.get("GPU", 0.0)) for offer in offers]


def _lost_nodes() -> list[str]:
    import ray

    return [str(node["NodeID"]) for node in ray.nodes() if not node["Alive"]]


def _ask_for_nodes(groups: Sequence[Group]) -> None:
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{"CPU": max(1, math.ceil(g.cpus)), "GPU": math.ceil(g.gpus)} for g in groups])


def run_parts(
    job: Job, pipeline: Pipeline, parts: Sequence[Part], workers: int | None, wait_s: float = 0.0
) -> Iterator[list[Done]]:
    """Run parts through the stages on the connected cluster; yields what was done as parts finish, in any order.

    Pools grow when nodes join. Actors that were lost with their node start elsewhere, and what they were at is given
    to others, for ever: Ray's own default for pools. What a clip may cost is counted in its part's diary, not here.
    `UserError` if the cluster is too small or a stage cannot load its weights, `OSError` if a machine is in trouble.
    """
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours counts clips
    context.execution_options.preserve_order = False
    context.execution_no_progress_timeout_s = -1  # no limit: a clip of an hour is no hang
    rows = [{"part": pickle.dumps(part), "done": pickle.dumps([]), "trouble": b""} for part in parts]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    del rows  # now in the object store, which goes to the disk when it is full
    for size in find_pools(pipeline, len(parts), workers, wait_s):
        dataset = dataset.map(
            _Operator,
            fn_constructor_args=(job, size.group),
            compute=ray.data.ActorPoolStrategy(min_size=size.copies, max_size=size.most, initial_size=size.copies),
            num_cpus=size.cpus,
            num_gpus=size.group.gpus or None,
        )
    for row in dataset.iter_rows():
        yield pickle.loads(row["done"])
        if row["trouble"]:
            raise pickle.loads(row["trouble"])


def spread(
    work: Callable[[Any], Any], items: Sequence[Any], *, cpus: float = 1, gpus: float = 0
) -> Iterator[tuple[int, Any]]:
    """Call ``work`` on every item, each in a task of its own on the connected cluster; without GPUs it runs on CPUs.

    Yields the position of an item and its result, as they come. An exception of ``work`` is raised here.
    """
    import ray

    offer = ray.cluster_resources()
    wanted = gpus if offer.get("GPU") else 0
    task = ray.remote(num_cpus=cpus, num_gpus=wanted)(work)
    at_once = offer.get("GPU", 0) / wanted if wanted else offer.get("CPU", 1) / max(cpus, 1e-3)
    ahead = TASKS_AHEAD * max(1, int(at_once))  # the rest would fill the object store
    positions, running = iter(range(len(items))), {}
    for position in itertools.islice(positions, ahead):
        running[task.remote(items[position])] = position
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        try:
            result = ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        yield running.pop(ready), result
        for position in itertools.islice(positions, 1):
            running[task.remote(items[position])] = position


class _Operator:
    """A group of stages in one Ray actor."""

    def __init__(self, job: Job, group: Group) -> None:
        import ray

        hold_memory()
        host = ray.get_runtime_context().get_node_id()
        self.worker = PartWorker(job, group.stages, "cuda" if group.gpus else "cpu", host, _lost_nodes)
        self.metrics = _Metrics()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["trouble"]:
            return row
        try:
            done = self.worker.run(pickle.loads(row["part"]))
        except Superseded:  # our end was told to Ray already, or will be; it has given the part to another
            os.kill(os.getpid(), signal.SIGKILL)
            raise
        except (OSError, UserError) as error:
            if not (isinstance(error, UserError) or is_machine_trouble(error)):
                raise
            return {
                **row,
                "trouble": pickle.dumps(_of_this_host(error)),
            }  # reaches the driver as it is, not wrapped up by Ray
        self.metrics.add(done)
        return {**row, "done": pickle.dumps(pickle.loads(row["done"]) + done)}


def _of_this_host(error: OSError | UserError) -> OSError | UserError:
    """Trouble of a machine says of which one."""
    if isinstance(error, UserError):
        return error
    where = f"on {socket.gethostname()}"
    if error.errno is None:
        return OSError(f"{error} {where}")
    return OSError(error.errno, f"{error.strerror} {where}", *([error.filename] if error.filename else []))


class _Metrics:
    """What Ray shows to Prometheus on every node: clips, frames and seconds, by stage and outcome."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter

        tags = ("stage", "outcome")
        self.clips = Counter("vico_clips", "clips that a stage has finished", tags)
        self.frames = Counter("vico_frames", "frames of these clips", tags)
        self.seconds = Counter("vico_seconds", "seconds that they took", tags)

    def add(self, done: Sequence[Done]) -> None:
        for entry in done:
            tags = {"stage": entry.stage, "outcome": entry.outcome}
            self.clips.inc(1, tags)
            self.frames.inc(entry.num_frames, tags)
            if entry.seconds > 0:
                self.seconds.inc(entry.seconds, tags)


def disconnect() -> None:
    """Leave the cluster; a private one ends, and its folder goes."""
    import ray

    ray.shutdown(wait_for_processes=True)
    while _folders:
        shutil.rmtree(_folders.pop(), ignore_errors=True)
