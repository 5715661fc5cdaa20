"""Where a build stands: ``python -m jobs.status DIR``, while it runs, after it, or after it was killed.

Reads the ledger alone and disturbs nobody. Exit status: 0 it runs or has finished, 1 it was stopped, 2 there is none.
"""

from __future__ import annotations

import argparse
import time

from jobs.command import command, option
from pipeline.dataset.lock import is_locked
from pipeline.dataset.read import read_description
from pipeline.dataset.storage import location
from pipeline.dataset.store import Store
from pipeline.ledger.progress import RunCounts, RunStart, clock_time, progress_table, read_ledger
from pipeline.ledger.report import REPORT, run_table

MAX_IN_WORK = 10  # clips in work that are named


def _unfinished(store: Store, start: RunStart) -> int:
    """Say what a run does, or did until it was stopped."""
    running, counts = is_locked(store.root, patient=True), RunCounts(store, start)
    elapsed_s = time.time() - start.started
    if running:
        print(f"running for {clock_time(elapsed_s)}")
    else:
        print(
            f"stopped: {start.stopped or 'killed, without a last word'}; the same {start.command} goes on where it was"
        )
    print(progress_table(counts.stages(elapsed_s if running else 0.0)))
    in_work = [f"{clip or 'setup'} ({stage})" for stage, clip in counts.in_work()]
    if in_work:
        more = f" and {len(in_work) - MAX_IN_WORK} more" if len(in_work) > MAX_IN_WORK else ""
        print(f"{'in work' if running else 'was in work'}: {', '.join(in_work[:MAX_IN_WORK])}{more}")
    return 0 if running else 1


@command(option("dataset", help="where the data set goes: a folder, or s3://bucket/prefix"))
def main(options: argparse.Namespace) -> int:
    """Say where a build stands."""
    store = Store(location(options.dataset))
    start = RunStart.read(store)
    if start is None:
        description = read_description(store.root)
        print(f"{description.name}: a {description.kind} data set of {description.published} clips, written in one go")
        return 0
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(start.started))
    print(f"{start.name}: run {start.run_id} on {start.host}, process {start.pid}, began {began}")
    report = read_ledger(store, store.root / REPORT)
    if report.get("run_id") != start.run_id:  # the report is of another run: this one has not come to its end
        return _unfinished(store, start)
    print(f"finished: {report['published']} of {report['wanted']} {start.result}, {report['seconds']} s")
    print(run_table(report["stages"]))
    return 0
