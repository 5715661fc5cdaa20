"""The run: one streaming Ray Data pipeline whose rows are parts; and `spread`, for work that is a function of an item.
The only module that knows Ray, but for Ray Train in ``jobs/train.py``.

Ray streams names of parts; Parquet files hold the data. Each group of stages is one operator, its pool of actors holds
the stages' models. Frames never enter the object store.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.answer import is_machine_trouble
from pipeline.config import ManifestError
from pipeline.part import Done, Job, PartWorker
from pipeline.plan import Group, Part, Pipeline

PROJECT = Path(__file__).resolve().parent.parent
TASKS_AHEAD = 2  # a core: one that runs and one that waits for it
OBJECT_STORE_BYTES = 256 * 2**20  # rows are a few kilobytes: the store stays small even in a container's /dev/shm


@dataclass(frozen=True)
class PoolSize:
    """How many copies of a group run, and what each reserves."""

    group: Group
    copies: int
    cpus: float

    def __str__(self) -> str:
        gpus = f", {self.group.gpus:g} GPU" if self.group.gpus else ""
        return f"{'+'.join(self.group.stages)}: {self.copies} x ({self.cpus:g} CPU{gpus})"


def connect(address: str, workers: int | None, quiet: bool = False) -> None:
    """Join the cluster at ``address``, or start a private one on this machine for ``"local"``.

    ``quiet`` keeps what workers print in Ray's own log files.
    """
    import ray
    import ray.data
    from ray.job_config import JobConfig

    for name in ("ray", "ray.data"):  # their news are about themselves; failures reach us as exceptions
        logging.getLogger(name).setLevel(logging.ERROR)
    if address == "local":
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
            _temp_dir=tempfile.mkdtemp(prefix="ray-", dir=tempfile.gettempdir()),
        )
    else:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=not quiet)


def pool_sizes(pipeline: Pipeline, resources: dict[str, float], num_parts: int, workers: int | None) -> list[PoolSize]:
    """Pools that fit into the cluster together, so that no pool waits for what another holds.

    Raises
    ------
    ManifestError : the cluster cannot hold one copy of every group; shows the sum.
    """
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    groups = pipeline.groups(with_gpus=gpus > 0)
    gpu_groups = [group for group in groups if group.gpus]
    sizes = {}
    share = cpus
    for group in gpu_groups:
        copies = max(1, min(num_parts, math.floor(gpus / len(gpu_groups) / group.gpus)))
        reserved = min(group.cpus, cpus / (2 * len(gpu_groups) * copies))
        share -= reserved * copies
        sizes[group] = PoolSize(group, copies, reserved)
    cpu_groups = [group for group in groups if not group.gpus]
    for group in cpu_groups:
        each = min(group.cpus, share / len(cpu_groups))
        fitting = max(1, math.floor(share / len(cpu_groups) / each)) if each > 0 else 1
        sizes[group] = PoolSize(group, max(1, min(num_parts, fitting, workers or fitting)), each)
    _check_fit(list(sizes.values()), cpus, gpus)
    return [sizes[group] for group in groups]


def _check_fit(sizes: Sequence[PoolSize], cpus: float, gpus: float) -> None:
    wanted_cpus = sum(size.copies * size.cpus for size in sizes)
    wanted_gpus = sum(size.copies * size.group.gpus for size in sizes)
    if wanted_cpus > cpus + 1e-6 or wanted_gpus > gpus + 1e-6 or any(size.cpus <= 0 for size in sizes):
        listing = "; ".join(map(str, sizes))
        raise ManifestError(
            f"the cluster has {cpus:g} CPU and {gpus:g} GPU, the pools need {wanted_cpus:g} and {wanted_gpus:g}: "
            f"{listing}"
        )


def run_parts(job: Job, pipeline: Pipeline, parts: Sequence[Part], workers: int | None) -> Iterator[list[Done]]:
    """Run parts through the stages on the connected cluster; yields what was done as parts finish, in any order.

    Raises
    ------
    OSError : a worker's machine is in trouble: the disk is full or read-only.
    """
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours counts clips
    context.execution_options.preserve_order = False
    context.execution_no_progress_timeout_s = -1  # no limit: a clip of an hour is no hang
    rows = [{"part": pickle.dumps(part), "done": pickle.dumps([]), "trouble": b""} for part in parts]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    for size in pool_sizes(pipeline, ray.cluster_resources(), len(parts), workers):
        dataset = dataset.map(
            _Operator,
            fn_constructor_args=(job, size.group),
            compute=ray.data.ActorPoolStrategy(size=size.copies),
            num_cpus=size.cpus,
            num_gpus=size.group.gpus or None,
        )
    for row in dataset.iter_rows():
        yield pickle.loads(row["done"])
        if row["trouble"]:
            raise pickle.loads(row["trouble"])


def spread(work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Call ``work`` on every item, each in a task of its own on the connected cluster.

    Yields
    ------
    position of the item and its result, as they come. An exception of ``work`` is raised here.
    """
    import ray

    task = ray.remote(work)
    ahead = TASKS_AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))  # the rest would fill the object store
    positions, running = iter(range(len(items))), {}
    for position in itertools.islice(positions, ahead):
        running[task.remote(items[position])] = position
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(ready), ray.get(ready)
        for position in itertools.islice(positions, 1):
            running[task.remote(items[position])] = position


class _Operator:
    """A group of stages in one Ray actor."""

    def __init__(self, job: Job, group: Group) -> None:
        self.worker = PartWorker(job, group.stages, "cuda" if group.gpus else "cpu")
        self.metrics = _Metrics()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["trouble"]:
            return row
        try:
            done = self.worker.run(pickle.loads(row["part"]))
        except OSError as error:
            if not is_machine_trouble(error):
                raise
            return {**row, "trouble": pickle.dumps(error)}  # reaches the driver as it is, not wrapped up by Ray
        self.metrics.add(done)
        return {**row, "done": pickle.dumps(pickle.loads(row["done"]) + done)}


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
    """Leave the cluster; a private one ends."""
    import ray

    ray.shutdown()
