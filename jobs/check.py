"""Check a built data set: ``python -m jobs.check DIR``. Exit status: 0 no findings, 1 findings, 2 no such
place."""

from __future__ import annotations

import argparse

from jobs.command import DATASET, command
from pipeline.dataset.check import check_dataset
from pipeline.dataset.storage import location


@command(DATASET)
def main(options: argparse.Namespace) -> int:
    """Check a built data set."""
    findings = list(check_dataset(location(options.dataset)))
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings" if findings else "no findings: the data set is sound")
    return 1 if findings else 0
