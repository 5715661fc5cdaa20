"""Check a built data set: ``python -m jobs.check DIR``. Exit status: 0 no findings, 1 findings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.check import check_dataset


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m jobs.check", description="Check a built data set.")
    parser.add_argument("dataset", type=Path, help="the folder that jobs.build wrote")
    findings = list(check_dataset(parser.parse_args(arguments).dataset))
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings" if findings else "no findings: the data set is sound")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
