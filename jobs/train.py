"""Train a listener: ``python -m jobs.train DATASET --listener NAME --out RUN``, or with ``--role speaker`` a speaker.

It runs through Ray Train: one process on a laptop, several with ``--num-workers`` (a GPU each where the cluster has
them), and a worker that dies is replaced and goes on from the last whole epoch. ``--num-workers 0`` trains in this
process, where neither Ray nor anything of the pipeline's media packages need be installed. ``--seeds N`` trains N runs,
one after the other. Exit status: 0 trained, 2 data, settings or the run do not fit.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.command import add_address, command, option
from pipeline.dataset.lock import locked
from pipeline.settings import describe, parse_overrides
from schemas.column import LISTENER, SPEAKER
from schemas.errors import UserError
from stages.train.registry import find_listeners
from stages.train.run_folder import RunFolder, begin_run, continue_run
from stages.train.whole_files import write_whole

if TYPE_CHECKING:
    from stages.train.loop import Worker

MAX_FAILURES = 3  # how often a group of workers is started anew
FOLLOW_EVERY_S = 1.0
LOST_AFTER_S = 600  # without a sign of it; a worker that dies is missed at once
REFUSAL = "refused.txt"  # beside Ray's own files


def train_here(folder: RunFolder, threads: int = 1) -> None:
    """Train in this process, on the GPU if there is one.

    One thread by default: threads that share small matrices wait for each other more than they compute, above all on a
    machine that others use (an epoch of ``vico_lstm`` took 40 times as long with two threads on two busy cores).
    """
    import torch

    from stages.train.loop import Worker, train

    torch.set_num_threads(threads)
    train(folder, Worker(torch.device("cuda" if torch.cuda.is_available() else "cpu")))


def on_ray(work: Callable[[Mapping[str, Any]], None], root: Path, log: Path, workers: int, address: str) -> None:
    """Let Ray's workers train the run in the folder ``root``: each calls ``work`` with ``{"folder": root}``."""
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise UserError(f"Ray is not installed ({error}); --num-workers 0 trains without it") from None
    from pipeline import run

    run.connect(address, workers, quiet=True)  # Ray Train's news are about itself; ours stand in the run's log
    try:
        gpus = ray.cluster_resources().get("GPU", 0) >= workers
        again = FailureConfig(max_failures=MAX_FAILURES)
        trainer = TorchTrainer(
            work,
            train_loop_config={"folder": str(root)},
            torch_config=TorchConfig(timeout_s=LOST_AFTER_S),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
            run_config=RunConfig(name="train", storage_path=str(root / "ray"), failure_config=again),
        )
        with followed(log):
            _fit(trainer, root)
        if (refusal := root / "ray" / REFUSAL).is_file():
            raise UserError(refusal.read_text("utf-8"))
    finally:
        run.disconnect()
        shutil.rmtree(root / "ray", ignore_errors=True)


def _fit(trainer: Any, root: Path) -> None:
    """Let Ray train; `UserError` where workers were lost too often, or while they began, for which it does not try."""
    from ray.exceptions import RayActorError
    from ray.train import TrainingFailedError

    from stages.train.loop import WorkerLost

    try:
        trainer.fit()
    except TrainingFailedError as error:
        causes = [*getattr(error, "worker_failures", {}).values()] or [getattr(error, "controller_failure", None)]
        if not all(isinstance(cause, RayActorError | WorkerLost) for cause in causes):
            raise  # a fault of ours, for which the others lost one
        told = "what the last whole epoch left is kept: add --resume, with fewer --num-workers if memory ran out"
        raise UserError(f"{root}: workers were lost, and starting anew did not help; {told}") from error


def refusal_kept(root: Path, work: Callable[[], None]) -> None:
    """Do a worker's part; what a person must mend is left for `on_ray` to say, for to start anew would not help."""
    from stages.train.loop import WorkerLost

    try:
        work()
    except WorkerLost:
        raise
    except UserError as error:
        said = str(error)
        write_whole(root / "ray" / REFUSAL, lambda path: path.write_text(said, "utf-8"))


@contextlib.contextmanager
def followed(log: Path) -> Iterator[None]:
    """Print what is added to a log, by whichever process, until the block ends."""
    done = threading.Event()
    position = log.stat().st_size if log.is_file() else 0

    def follow() -> None:
        nonlocal position
        while True:
            last = done.wait(FOLLOW_EVERY_S)
            if log.is_file():
                with log.open("rb") as file:
                    file.seek(position)
                    print(file.read().decode(errors="replace"), end="", flush=True)
                    position = file.tell()
            if last:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _work(config: Mapping[str, Any]) -> None:
    """The part of one Ray worker."""
    from stages.train.loop import train

    folder = RunFolder(Path(config["folder"]))
    refusal_kept(folder.root, lambda: train(folder, this_worker()))  # no report to Ray: it takes one every two seconds


def this_worker() -> Worker:
    """Which of the workers of `on_ray` this process is."""
    import ray.train
    import ray.train.torch

    from stages.train.loop import Worker

    context = ray.train.get_context()
    return Worker(ray.train.torch.get_device(), context.get_world_rank(), context.get_world_size())


def data_set(path: Path) -> Path:
    """The data set's folder, where its folder of shards may be named too."""
    return path.resolve().parent if path.name == "shards" else path.resolve()


def _overrides(listener: str, assignments: Sequence[str]) -> dict[str, Any]:
    """``--set key=value`` in the form of the stages' ``--set stage.key=value``."""
    for assignment in assignments:
        if "=" not in assignment:
            raise UserError(f"--set {assignment!r}: expected key=value, e.g. --set epochs=20")
    return parse_overrides([f"{listener}.{assignment}" for assignment in assignments]).get(listener, {})


def _listeners_help() -> str:
    lines = ["listeners, their presets and settings:"]
    for name, listener in find_listeners().items():
        presets = f" (presets: {', '.join(listener.presets)})" if listener.presets else ""
        speaks = "; --role speaker too" if SPEAKER in listener.roles else ""
        lines.append(f"  {name}{presets}: {listener.paper}{speaks}")
        lines += [f"    {key} = {default}  {meaning}" for key, default, meaning in describe(listener.Settings)]
    return "\n".join(lines)


def _train_one(options: argparse.Namespace, roots: Sequence[Path], out: Path, overrides: Mapping[str, Any]) -> None:
    """Train the run of a folder from its beginning, or go on with it."""
    folder = RunFolder(out.resolve())
    with locked(folder.root):
        _train_in(folder, options, roots, overrides)


def _train_in(
    folder: RunFolder, options: argparse.Namespace, roots: Sequence[Path], overrides: Mapping[str, Any]
) -> None:
    if options.resume and (folder.description.is_file() or not options.seeds):
        run = continue_run(roots, options.listener, overrides, folder, options.role)
    elif folder.description.is_file():
        raise UserError(f"{folder.root}: holds a run already; add --resume to go on with it, or name another folder")
    else:
        run = begin_run(roots, options.listener, options.preset, overrides, folder, options.role)
    listener = run.build()
    weights = sum(parameter.numel() for parameter in listener.parameters())
    print(f"{run.listener}: {weights} parameters, settings {dict(run.settings)}", flush=True)
    if listener.learned:
        if options.num_workers:
            on_ray(_work, folder.root, folder.log, options.num_workers, options.address)
        else:
            train_here(folder, options.threads)
    shutil.rmtree(folder.frames, ignore_errors=True)


@command(
    option("datasets", type=Path, nargs="+", metavar="DATASET", help="folders that jobs.build wrote"),
    option("--listener", required=True, help="which one; see below"),
    option("--out", type=Path, required=True, metavar="RUN", help="the folder of the run"),
    option(
        "--role", choices=(LISTENER, SPEAKER), default=LISTENER, help="whose motion it predicts (default: listener)"
    ),
    option("--preset", default="", help="one of the listener's presets"),
    option("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting"),
    option("--seeds", type=int, default=0, metavar="N", help="N runs, RUN/seed-00 ...; they hold out the same clips"),
    option("--resume", action="store_true", help="go on with a run that was stopped"),
    option("--num-workers", type=int, default=1, help="processes; 0: this one, without Ray (default: 1)"),
    option("--threads", type=int, default=1, help="of this process on a CPU, without Ray (default: 1)"),
    add_address,
    epilog=_listeners_help,
)
def main(options: argparse.Namespace) -> None:
    """Train a listener."""
    overrides = _overrides(options.listener, options.set)
    roots = [data_set(path) for path in options.datasets]
    if not options.seeds:
        _train_one(options, roots, options.out, overrides)
    for seed in range(options.seeds):
        _train_one(options, roots, options.out / f"seed-{seed:02d}", {**overrides, "seed": seed})
    runs = options.out / "seed-*" if options.seeds else options.out
    print(f"{options.out}: python -m jobs.predict {runs} {roots[0]} --split test --out PREDICTIONS")
