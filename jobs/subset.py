"""Some clips of a data set as one of its own: ``python -m jobs.subset DATA --where CONDITION --out SUB``. The
condition reads columns: ``--where "mean(listener_blink) > .1 and attitude == 'positive'"``."""

from __future__ import annotations

import argparse
from pathlib import Path

from jobs.command import DATASET, command, option
from pipeline.dataset import where
from pipeline.dataset.storage import SCHEME, location
from pipeline.dataset.subset import write_subset
from schemas.errors import UserError


def grammar() -> str:
    """What a condition may say."""
    return (where.__doc__ or "").strip()


@command(
    DATASET,
    option("--where", required=True, metavar="CONDITION", help="which clips, see below"),
    option("--out", required=True, help="the folder that is written"),
    option("--link", action="store_true", help="media as further names of the same files instead of copies"),
    epilog=grammar,
)
def main(options: argparse.Namespace) -> None:
    """Write the clips for which a condition holds as a data set."""
    if options.out.startswith(SCHEME):
        raise UserError(f"--out {options.out}: expected a folder; copy it from there")
    found = write_subset(location(options.dataset), options.where, Path(options.out), link=options.link)
    assert found.chosen
    print(f"{found.published} of {found.chosen.clips} clips of {found.chosen.of} under {options.out}")
