"""Train PIRenderer on a data set: ``python -m jobs.train_renderer DATA --out RUN [--weights pirender]``.

``RUN/checkpoint.pt`` has the published checkpoint's names; draw with it by ``python -m jobs.render PRED --data DATA
--renderer pirender --weights RUN/checkpoint.pt``. Without --weights it begins with fresh ones. ``--num-workers`` trains
through Ray Train as `jobs.train` does. Exit status: 0 trained, 2 data, settings, weights or the run do not fit.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.command import add_address, command, option
from jobs.train import data_set, on_ray, refusal_kept, this_worker
from pipeline.dataset.lock import locked
from pipeline.settings import describe, parse_overrides
from schemas.errors import UserError

if TYPE_CHECKING:
    from stages.train_renderer.loop import RendererFolder


def _work(config: Mapping[str, Any]) -> None:
    """The part of one Ray worker."""
    from stages.train_renderer.loop import RendererFolder, train_renderer

    folder = RendererFolder(Path(config["folder"]))
    refusal_kept(folder.root, lambda: train_renderer(folder, this_worker()))


def _settings_help() -> str:
    from stages.train_renderer.loop import PRESETS, RendererSettings

    lines = [f"presets: {', '.join(PRESETS)}; settings:"]
    return "\n".join([*lines, *(f"  {key} = {value}  {text}" for key, value, text in describe(RendererSettings))])


def _train(options: argparse.Namespace, folder: RendererFolder) -> None:
    import torch

    from stages.train.loop import Worker
    from stages.train_renderer.loop import begin, go_on, train_renderer

    overrides = parse_overrides([f"renderer.{assignment}" for assignment in options.set]).get("renderer", {})
    if options.resume:
        go_on(overrides, folder)
    elif folder.description.is_file():
        raise UserError(f"{options.out}: holds a run already; add --resume to go on with it, or name another folder")
    else:
        roots = [data_set(path) for path in options.datasets]
        begin(roots, folder, overrides, options.preset, options.weights, options.clips)
    if options.num_workers:
        on_ray(_work, folder.root, folder.log, options.num_workers, options.address)
    else:
        torch.set_num_threads(options.threads)
        train_renderer(folder, Worker(torch.device("cuda" if torch.cuda.is_available() else "cpu")))
    folder.drop_pictures()


@command(
    option("datasets", type=Path, nargs="+", metavar="DATASET", help="folders that jobs.build wrote"),
    option("--out", type=Path, required=True, metavar="RUN", help="the folder of the run"),
    option(
        "--weights", default="", help="begin with these: an entry of weights.toml or, with a /, your own checkpoint"
    ),
    option("--preset", default="", help="paper: as it was published, from fresh weights; small: for a CPU"),
    option("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting"),
    option(
        "--clips", nargs="+", default=[], metavar="ID", help="only these clips (default: of the splits train and val)"
    ),
    option("--resume", action="store_true", help="go on with a run that was stopped"),
    option("--num-workers", type=int, default=0, help="processes of Ray Train; 0: this one, without Ray (default: 0)"),
    option("--threads", type=int, default=1, help="of this process on a CPU, without Ray (default: 1)"),
    add_address,
    epilog=_settings_help,
)
def main(options: argparse.Namespace) -> None:
    """Train PIRenderer."""
    from stages.train_renderer.loop import RendererFolder

    folder = RendererFolder(options.out.resolve())
    with locked(folder.root):
        _train(options, folder)
    how = f"--renderer pirender --weights {folder.checkpoint}"
    print(f"{options.out}: python -m jobs.render PREDICTIONS --data {options.datasets[0]} {how} --out VIDEOS")
