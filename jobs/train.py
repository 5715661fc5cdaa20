"""Train a listener: ``python -m jobs.train DATASET --listener NAME --out RUN``.

It runs through Ray Train: one process on a laptop, several with ``--num-workers`` (a GPU each where the cluster has
them), and a worker that dies is replaced and goes on from the last whole epoch. ``--num-workers 0`` trains in this
process, where neither Ray nor anything of the pipeline's media packages need be installed. Exit status: 0 trained, 2
data, settings or the run do not fit.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.command import add_address, command, option
from pipeline.settings import describe, parse_overrides
from schemas.errors import UserError
from stages.train.registry import find_listeners
from stages.train.run_folder import RunFolder, begin_run, continue_run

MAX_FAILURES = 3  # how often a group of workers is started anew
FOLLOW_EVERY_S = 1.0


def train_here(folder: RunFolder, threads: int = 1) -> None:
    """Train in this process, on the GPU if there is one.

    One thread by default: threads that share small matrices wait for each other more than they compute, above all on a
    machine that others use (an epoch of ``vico_lstm`` took 40 times as long with two threads on two busy cores).
    """
    import torch

    from stages.train.loop import Worker, train

    torch.set_num_threads(threads)
    train(folder, Worker(torch.device("cuda" if torch.cuda.is_available() else "cpu")))


def _on_ray(folder: RunFolder, workers: int, address: str) -> None:
    """Train in Ray's workers."""
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise UserError(f"Ray is not installed ({error}); --num-workers 0 trains without it") from None
    from pipeline import run

    run.connect(address, workers, quiet=True)  # Ray Train's news are about itself; ours stand in the run's log
    try:
        gpus = ray.cluster_resources().get("GPU", 0) >= workers
        again = FailureConfig(max_failures=MAX_FAILURES)
        trainer = TorchTrainer(
            _work,
            train_loop_config={"folder": str(folder.root)},
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
            run_config=RunConfig(name="train", storage_path=str(folder.root / "ray"), failure_config=again),
        )
        with followed(folder.log):
            trainer.fit()
    finally:
        run.disconnect()
        shutil.rmtree(folder.root / "ray", ignore_errors=True)


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
    import ray.train
    import ray.train.torch

    from stages.train.loop import Worker, train

    context = ray.train.get_context()
    worker = Worker(ray.train.torch.get_device(), context.get_world_rank(), context.get_world_size())
    train(RunFolder(Path(config["folder"])), worker)  # no report to Ray: its controller takes one every two seconds


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
        lines.append(f"  {name}{presets}: {listener.paper}")
        lines += [f"    {key} = {default}  {meaning}" for key, default, meaning in describe(listener.Settings)]
    return "\n".join(lines)


@command(
    option("datasets", type=Path, nargs="+", metavar="DATASET", help="folders that jobs.build wrote"),
    option("--listener", required=True, help="which one; see below"),
    option("--out", type=Path, required=True, metavar="RUN", help="the folder of the run"),
    option("--preset", default="", help="one of the listener's presets"),
    option("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting"),
    option("--resume", action="store_true", help="go on with a run that was stopped"),
    option("--num-workers", type=int, default=1, help="processes; 0: this one, without Ray (default: 1)"),
    option("--threads", type=int, default=1, help="of this process on a CPU, without Ray (default: 1)"),
    add_address,
    epilog=_listeners_help,
)
def main(options: argparse.Namespace) -> None:
    """Train a listener."""
    folder = RunFolder(options.out.resolve())
    overrides = _overrides(options.listener, options.set)
    roots = [data_set(path) for path in options.datasets]
    if options.resume:
        run = continue_run(roots, options.listener, overrides, folder)
    elif folder.description.is_file():
        raise UserError(f"{options.out}: holds a run already; add --resume to go on with it, or name another folder")
    else:
        run = begin_run(roots, options.listener, options.preset, overrides, folder)
    listener = run.build()
    weights = sum(parameter.numel() for parameter in listener.parameters())
    print(f"{run.listener}: {weights} parameters, settings {dict(run.settings)}", flush=True)
    if listener.learned:
        if options.num_workers:
            _on_ray(folder, options.num_workers, options.address)
        else:
            train_here(folder, options.threads)
    shutil.rmtree(folder.frames, ignore_errors=True)
    print(f"{options.out}: python -m jobs.predict {options.out} {roots[0]} --split test --out PREDICTIONS")
