"""Check a built data set: ``python -m jobs.check DIR``. Exit status: 0 no findings, 1 findings, 2 no such
place."""

from __future__ import annotations

import argparse

from jobs.command import DATASET, command, option
from pipeline.dataset.check import check_dataset
from pipeline.dataset.leaks import has_faces
from pipeline.dataset.read import read_description
from pipeline.dataset.storage import Location, location
from schemas.dataset import FILMED
from schemas.errors import UserError

HINT = (
    "hint: whether one person stands under two ids was not checked, for the data set holds no faces to compare; write "
    "[stages.face_identity] into the manifest and build again: only that stage is computed"
)


def _lacks_faces(root: Location) -> bool:
    try:
        description = read_description(root)
    except UserError:  # check has said so
        return False
    return description.kind in FILMED and not has_faces(description)


@command(DATASET, option("--quick", action="store_true", help="compare sizes alone, in seconds for 100,000 clips"))
def main(options: argparse.Namespace) -> int:
    """Check a built data set."""
    root = location(options.dataset)
    findings = list(check_dataset(root, quick=options.quick))
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings" if findings else "no findings: the data set is sound")
    if not options.quick and _lacks_faces(root):
        print(HINT)
    return 1 if findings else 0
