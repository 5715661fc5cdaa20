"""A runner without Ray that does as Ray does: a worker process that dies is started again, without end of patience."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

from pipeline.part import Done, Job, PartWorker
from pipeline.plan import Part, Pipeline

FOR_EVER = 20  # workers for one part; the engine must have given up on a clip long before


def in_worker_processes(job: Job, pipeline: Pipeline, parts: Sequence[Part]) -> Iterator[list[Done]]:
    """One worker process a part, and another whenever one dies."""
    for part in parts:
        yield _until_done(job, [stage.name for stage in pipeline.stages], part)


def _until_done(job: Job, stages: list[str], part: Part) -> list[Done]:
    for _ in range(FOR_EVER):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as worker, suppress(BrokenProcessPool):
            return worker.submit(_work, job, stages, part).result()
    raise AssertionError(f"{part.name}: {FOR_EVER} workers died of it")


def _work(job: Job, stages: list[str], part: Part) -> list[Done]:
    return PartWorker(job, stages).run(part)
