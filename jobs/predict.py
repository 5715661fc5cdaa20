"""Predict listeners: ``python -m jobs.predict RUN DATASET --split test --out PREDICTIONS``.

What comes out is a data set itself: shards with the manifest's columns and ``listener_exp``, ``listener_angle`` ... of
the same types and units as those of the data set, and a ``dataset.json``. Several runs are an ensemble: their mean, or
with ``--best 5`` that of the five which validation says are the best.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from jobs.command import command, option
from jobs.train import data_set
from pipeline.dataset.read import sample_name
from schemas.clip import ATTITUDES, SPLITS
from schemas.errors import UserError
from stages.train.prediction import Draw, Predictor, Request, best, write_predictions
from stages.train.run_folder import RunFolder


@command(
    option("paths", type=Path, nargs="+", metavar="RUN ... DATASET", help="runs, then the data set"),
    option("--out", type=Path, required=True, metavar="PREDICTIONS", help="the folder that is written"),
    option("--split", nargs="+", choices=SPLITS, default=["test"], help="which clips (default: test)"),
    option("--samples", type=int, default=1, help="of each clip; more than one go to sample-00, ..."),
    option("--checkpoint", choices=("best", "last"), default="best", help="the best epoch by validation, or the last"),
    option("--seed", type=int, default=0, help="of the listeners' draws"),
    option("--best", type=int, default=0, metavar="N", help="of the runs, the N with the least validation loss"),
    option("--sound", choices=("own", "another"), default="own", help="of the speaker, or of another clip"),
    option("--attitude", choices=ATTITUDES, default="", help="take this one for all clips"),
)
def main(options: argparse.Namespace) -> None:
    """Predict listeners."""
    *runs, root = options.paths
    if not runs:
        raise UserError("expected one run or more and then a data set")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predictors = [Predictor(RunFolder(run.resolve()), device, options.checkpoint) for run in runs]
    if options.best:
        predictors = best(predictors, options.best)
        print(f"the best of {len(runs)}: {', '.join(predictor.folder.root.name for predictor in predictors)}")
    clips = 0
    for sample in range(options.samples):
        draw = Draw(options.seed, sample)
        request = Request(data_set(root), tuple(options.split), options.attitude, options.sound, draw)
        out = options.out / sample_name(sample) if options.samples > 1 else options.out
        clips += write_predictions(predictors, request, out)
    print(f"{clips} clips predicted under {options.out}")
