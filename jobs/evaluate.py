"""Evaluate listeners: ``python -m jobs.evaluate --reference DATA --predicted PRED --out DIR``.

Writes ``scores.json``, ``scores.parquet`` (a row a clip and metric), ``leaderboard.md`` and ``leaderboard.html``. The
work on clips goes over Ray, a task a clip; ``--address none`` does it in this process. Exit status: 0, or 2 where data
sets, clips or settings do not fit.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from jobs.command import command
from pipeline import run
from pipeline.address import add_address
from pipeline.dataset.read import read_description
from pipeline.tables import aligned
from schemas.clip import SPLITS
from schemas.errors import UserError
from stages.evaluate import runs
from stages.evaluate.evaluation import Request, Spread, evaluate, in_this_process
from stages.evaluate.leaderboard.output import write_report
from stages.evaluate.leaderboard.report import Report, interval_text, make_report
from stages.evaluate.metrics.definition import Definition
from stages.evaluate.metrics.registry import definitions
from stages.evaluate.runs import Policy, Run, open_run

NO_RAY = "none"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    report = _evaluate(options)
    write_report(report, options.out)
    print(_summary(report))
    print(f"{options.out / 'leaderboard.html'}, leaderboard.md, scores.json, scores.parquet")
    return 0


def _evaluate(options: argparse.Namespace) -> Report:
    request = Request(
        reference=options.reference,
        runs=_runs(options.predicted, options.videos),
        metrics=_metrics(options.metrics),
        splits=tuple(options.split or _splits(options.reference)),
        policy=Policy(
            length=options.on_length_mismatch, size=options.on_size_mismatch, missing=options.on_missing_clip
        ),
    )
    with _spreading(options.address, options.workers) as spread:
        return make_report(evaluate(request, spread), spread, options.seed)


@contextlib.contextmanager
def _spreading(address: str, workers: int | None) -> Iterator[Spread]:
    """Where the work is done: on Ray, or here."""
    if address == NO_RAY:
        yield in_this_process
        return
    run.connect(address, workers)
    try:
        yield run.spread
    finally:
        run.disconnect()


def _runs(predicted: Sequence[str], videos: Sequence[str]) -> tuple[Run, ...]:
    """Runs from the command line: videos belong to the predictions in the same place, or to those of the same name."""
    data, films = [_named(text) for text in predicted], [_named(text) for text in videos]
    if data and films and len(films) != len(data):
        raise UserError(f"expected a --videos for each of {len(data)} --predicted, or none, found {len(films)}")
    if not data:
        data, films = [(name, None) for name, _ in films], films
    pairs = zip(data, films or [("", None)] * len(data), strict=True)
    found = tuple(open_run(name, folder, film) for (name, folder), (_, film) in pairs)
    names = [found_run.name for found_run in found]
    if not names or len(set(names)) != len(names):
        raise UserError(f"expected runs of different names, found {', '.join(names) or 'none'}; say NAME=FOLDER")
    return found


def _named(text: str) -> tuple[str, Path | None]:
    """``NAME=FOLDER``, or a folder that gives its own name."""
    name, equals, folder = text.partition("=")
    if equals and "/" not in name:
        return name, Path(folder)
    return Path(text).resolve().name, Path(text)


def _metrics(patterns: Sequence[str]) -> tuple[Definition, ...]:
    """The metrics whose id matches one of the patterns; all where there is none."""
    known = definitions()
    if unknown := [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in known)]:
        raise UserError(f"--metrics {' '.join(unknown)}: no such metric; known: {', '.join(known)}")
    return tuple(d for name, d in known.items() if not patterns or any(fnmatchcase(name, p) for p in patterns))


def _splits(reference: Path) -> list[str]:
    """Test and ood, as far as the data set has them."""
    there = read_description(reference).splits_held()
    found = [split for split in ("test", "ood") if split in there]
    if not found:
        raise UserError(f"{reference}: has neither test nor ood clips, only {', '.join(there)}; choose with --split")
    return found


def _summary(report: Report) -> str:
    """A line a metric, a column a run."""
    header = ["metric", "split", *report.names]
    rows = [[row.metric, row.split, *map(interval_text, row.scores)] for row in report.summary_rows()]
    lines = [aligned([header, *rows])]
    for gap in report.missing():
        lines.append(f"not computed for {', '.join(gap.runs)}: {', '.join(gap.metrics)}: {gap.reason}")
    for ranking in report.rankings:
        results = ", ".join(f"{name} {score}" for name, score in ranking.results.items())
        lines.append(f"ranking on {ranking.split}, {ranking.rule}: {results} (over {', '.join(ranking.metrics)})")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.evaluate",
        description="Evaluate predicted listeners against a data set.",
        epilog=_metrics_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--reference", type=Path, required=True, help="the data set that holds the truth")
    add("--predicted", nargs="+", default=[], metavar="[NAME=]PRED", help="predictions of python -m jobs.predict")
    add("--videos", nargs="+", default=[], metavar="[NAME=]VIDEOS", help="folders of CLIP_ID.mp4, one a prediction")
    add("--out", type=Path, required=True, help="the folder to write")
    add("--split", nargs="+", choices=SPLITS, help="default: test and ood")
    add("--metrics", nargs="+", default=[], metavar="ID", help="ids or patterns such as 'fd_*' (default: all)")
    add("--on-length-mismatch", choices=runs.LENGTH_POLICIES, default="error", help=_choices(runs.LENGTH_POLICIES))
    add("--on-size-mismatch", choices=runs.SIZE_POLICIES, default="error", help=_choices(runs.SIZE_POLICIES))
    add("--on-missing-clip", choices=runs.MISSING_POLICIES, default="error", help=_choices(runs.MISSING_POLICIES))
    add("--seed", type=int, default=0, help="of the bootstrap")
    add("--workers", type=int, help="cores of a private Ray (default: all)")
    add_address(parser, "; none: do the work in this process")
    return parser


def _choices(meanings: dict[str, str]) -> str:
    return "; ".join(f"{name}: {meaning}" for name, meaning in meanings.items())


def _metrics_help() -> str:
    return "\n".join(["metrics:", *(f"  {name}\n      {d.name}: {d.formula}" for name, d in definitions().items())])


if __name__ == "__main__":
    sys.exit(main())
