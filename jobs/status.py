"""Where a build stands: ``python -m jobs.status DIR``, while it runs, after it, or after it was killed.

Reads the ledger alone and disturbs nobody. Exit status: 0 it runs or has finished, 1 it was stopped, 2 there is none.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from jobs.command import command
from pipeline.dataset.lock import is_locked
from pipeline.dataset.read import read_description
from pipeline.dataset.storage import location
from pipeline.dataset.store import Store
from pipeline.ledger.progress import RunCounts, RunStart, clock_time, progress_table, read_ledger
from pipeline.ledger.report import REPORT, run_table

MAX_IN_WORK = 10  # clips in work that are named


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m jobs.status", description="Say where a build stands.")
    parser.add_argument("dataset", help="where the data set goes: a folder, or s3://bucket/prefix")
    store = Store(location(parser.parse_args(arguments).dataset))
    start = RunStart.read(store)
    if start is None:
        description = read_description(store.root)
        print(f"{description.name}: a {description.kind} data set of {description.published} clips, written in one go")
        return 0
    finished = _finished(store, start)
    print(f"{start.name}: run {start.run_id} on {start.host}, process {start.pid}, began {_date(start.started)}")
    if finished is not None:
        print(f"finished: {finished['published']} of {finished['wanted']} clips published, {finished['seconds']} s")
        print(run_table(finished["stages"]))
        return 0
    return _unfinished(store, start)


def _unfinished(store: Store, start: RunStart) -> int:
    """Say what a run does, or did until it was stopped."""
    running, counts = is_locked(store.root), RunCounts(store, start)
    elapsed_s = time.time() - start.started
    if running:
        print(f"running for {clock_time(elapsed_s)}")
    else:
        print(f"stopped: {start.stopped or 'killed, without a last word'}; the same jobs.build goes on where it was")
    print(progress_table(counts.stages(elapsed_s if running else 0.0)))
    in_work = [f"{clip or 'setup'} ({stage})" for stage, clip in counts.in_work()]
    if in_work:
        more = f" and {len(in_work) - MAX_IN_WORK} more" if len(in_work) > MAX_IN_WORK else ""
        print(f"{'in work' if running else 'was in work'}: {', '.join(in_work[:MAX_IN_WORK])}{more}")
    return 0 if running else 1


def _finished(store: Store, start: RunStart) -> dict[str, Any] | None:
    """The report of this very run, if it has come to its end."""
    report = read_ledger(store, store.root / REPORT)
    return report if report.get("run_id") == start.run_id else None


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


if __name__ == "__main__":
    sys.exit(main())
