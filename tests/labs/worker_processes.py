"""A runner without Ray that does as Ray does: a worker process that dies is started again, without end of patience."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from pipeline.part import Done, Job, PartWorker
from pipeline.plan import Part, Pipeline

FOR_EVER = 20  # workers for one part; the engine must have given up on a clip long before


def in_worker_processes(job: Job, pipeline: Pipeline, parts: Sequence[Part]) -> Iterator[list[Done]]:
    """One worker process a part, and another whenever one dies."""
    for part in parts:
        yield _until_done(job, pipeline, part)


def _until_done(job: Job, pipeline: Pipeline, part: Part) -> list[Done]:
    spawn = multiprocessing.get_context("spawn")
    for _ in range(FOR_EVER):
        ours, theirs = spawn.Pipe(duplex=False)
        worker = spawn.Process(target=_work, args=(theirs, job, [stage.name for stage in pipeline.stages], part))
        worker.start()
        theirs.close()
        try:
            done = ours.recv()
        except EOFError:
            continue  # it died
        finally:
            worker.join()
            worker.close()
            ours.close()
        if isinstance(done, str):
            raise RuntimeError(done)
        return done
    raise AssertionError(f"{part.name}: {FOR_EVER} workers died of it")


def _work(answer: Connection, job: Job, stages: list[str], part: Part) -> None:
    try:
        answer.send(PartWorker(job, stages).run(part))
    except Exception as error:  # what Ray would hand to the driver
        answer.send(f"{type(error).__name__}: {error}")
