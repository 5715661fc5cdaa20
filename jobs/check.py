"""Check a built data set: ``python -m jobs.check DIR``. Exit status: 0 no findings, 1 findings, 2 no such
place."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs.command import command
from pipeline.dataset.check import check_dataset
from pipeline.dataset.storage import location


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m jobs.check", description="Check a built data set.")
    parser.add_argument("dataset", help="what jobs.build wrote: a folder, or s3://bucket/prefix")
    findings = list(check_dataset(location(parser.parse_args(arguments).dataset)))
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings" if findings else "no findings: the data set is sound")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
