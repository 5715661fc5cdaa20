"""Predict listeners: ``python -m jobs.predict RUN DATASET --split test --out PREDICTIONS``.

What comes out is a data set itself: shards with the manifest's columns and ``listener_exp``, ``listener_angle`` ... of
the same types and units as those of the data set, and a ``dataset.json``. Several runs are an ensemble: their mean.
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
from stages.train.prediction import Draw, Predictor, Request, write_predictions
from stages.train.run_folder import RunFolder


@command(
    option("paths", type=Path, nargs="+", metavar="RUN ... DATASET", help="runs, then the data set"),
    option("--out", type=Path, required=True, metavar="PREDICTIONS", help="the folder that is written"),
    option("--split", nargs="+", choices=SPLITS, default=["test"], help="which clips (default: test)"),
    option("--samples", type=int, default=1, help="of each clip; more than one go to sample-00, ..."),
    option("--seed", type=int, default=0, help="of the listeners' draws"),
    option("--attitude", choices=ATTITUDES, default="", help="take this one for all clips"),
)
def main(options: argparse.Namespace) -> None:
    """Predict listeners."""
    *runs, root = options.paths
    if not runs:
        raise UserError("expected one run or more and then a data set")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    predictors = [Predictor(RunFolder(run.resolve()), device) for run in runs]
    clips = 0
    for sample in range(options.samples):
        request = Request(data_set(root), tuple(options.split), options.attitude, Draw(options.seed, sample))
        out = options.out / sample_name(sample) if options.samples > 1 else options.out
        clips += write_predictions(predictors, request, out)
    print(f"{clips} clips predicted under {options.out}")
