"""Evaluate listeners: ``python -m jobs.evaluate --reference DATA --predicted PRED --out DIR``.

Writes ``scores.json``, ``scores.parquet`` (a row a clip and metric), ``leaderboard.md`` and ``leaderboard.html``. The
work on clips goes over Ray, a task a clip; less than a minute of clips is done in this process. Exit status: 0, or 2
where data sets, clips or settings do not fit.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from jobs.command import NO_RAY, Option, add_address, command, option
from pipeline import run
from pipeline.clock import frames_in
from pipeline.dataset.read import read_clips, read_description
from pipeline.tables import aligned
from schemas.clip import SPLITS
from schemas.column import LISTENER, SPEAKER
from schemas.errors import UserError
from stages.evaluate import runs
from stages.evaluate.evaluation import Request, Spread, evaluate, in_this_process
from stages.evaluate.leaderboard.output import write_report
from stages.evaluate.leaderboard.report import Report, interval_text, make_report
from stages.evaluate.metrics.definition import Definition
from stages.evaluate.metrics.registry import definitions
from stages.evaluate.runs import Policy, Run, open_run

LITTLE_FRAMES = frames_in(60)  # of all runs and the reference together: done before Ray would have started
HERE = f"; {NO_RAY}: do the work in this process; default: {NO_RAY} for less than a minute of clips, else local"


@contextlib.contextmanager
def _spreading(address: str, workers: int | None, request: Request) -> Iterator[Spread]:
    """Where the work is done: on Ray, or here."""
    if address == NO_RAY or (not address and _frames(request) < LITTLE_FRAMES):
        yield in_this_process
        return
    run.connect(address or "local", workers)
    try:
        yield run.spread
    finally:
        run.disconnect()


def _frames(request: Request) -> int:
    """Frames of the clips that are compared, of every sample of every run, and of the reference."""
    clips = read_clips(request.reference, splits=request.splits, portraits="leave")
    return (1 + sum(len(one.samples) for one in request.runs)) * sum(clip["num_frames"] for clip in clips)


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


def _role(found: Sequence[Run], asked: str | None) -> str:
    """The one role that all runs predict; runs of videos alone do not say, and are of ``asked`` or of listeners."""
    said = {run.about.role for run in found if run.about} | ({asked} if asked else set())
    if len(said) > 1:
        told = ", ".join(f"{run.name} {run.about.role}" for run in found if run.about)
        raise UserError(f"expected runs of one role, found {told}; evaluate each role alone, with the --role it has")
    return said.pop() if said else LISTENER


def _metrics(patterns: Sequence[str], role: str) -> tuple[Definition, ...]:
    """The metrics of a role whose id matches one of the patterns; all where there is none."""
    known = {name: definition for name, definition in definitions().items() if definition.role in ("", role)}
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
        results = ", ".join(f"{name} {score}" for name, score in {**ranking.results, **ranking.teams}.items())
        lines.append(f"ranking on {ranking.split}, {ranking.rule}: {results} (over {', '.join(ranking.metrics)})")
    return "\n".join(lines)


def _policy(name: str, meanings: dict[str, str], default: str = "error") -> Option:
    told = "; ".join(f"{name}: {meaning}" for name, meaning in meanings.items())
    return option(name, choices=meanings, default=default, help=told)


def _metrics_help() -> str:
    return "\n".join(["metrics:", *(f"  {name}\n      {d.name}: {d.formula}" for name, d in definitions().items())])


@command(
    option("--reference", type=Path, required=True, help="the data set that holds the truth"),
    option("--predicted", nargs="+", default=[], metavar="[NAME=]PRED", help="predictions of python -m jobs.predict"),
    option("--videos", nargs="+", default=[], metavar="[NAME=]VIDEOS", help="folders of CLIP_ID.mp4, one a prediction"),
    option("--out", type=Path, required=True, help="the folder to write"),
    option("--split", nargs="+", choices=SPLITS, help="default: test and ood"),
    option("--role", choices=(LISTENER, SPEAKER), help="of videos alone: whom they show (default: listener)"),
    option("--metrics", nargs="+", default=[], metavar="ID", help="ids or patterns such as 'fd_*' (default: all)"),
    _policy("--on-length-mismatch", runs.LENGTH_POLICIES),
    _policy("--on-size-mismatch", runs.SIZE_POLICIES),
    _policy("--on-missing-clip", runs.MISSING_POLICIES),
    _policy("--first-frame", runs.FIRST_FRAME_POLICIES, default="count"),
    option("--seed", type=int, default=0, help="of the bootstrap"),
    option("--workers", type=int, help="cores of a private Ray (default: all)"),
    partial(add_address, default="", also=HERE),
    epilog=_metrics_help,
)
def main(options: argparse.Namespace) -> None:
    """Evaluate predicted listeners against a data set."""
    found = _runs(options.predicted, options.videos)
    role = _role(found, options.role)
    request = Request(
        reference=options.reference,
        runs=found,
        role=role,
        metrics=_metrics(options.metrics, role),
        splits=tuple(options.split or _splits(options.reference)),
        policy=Policy(
            length=options.on_length_mismatch,
            size=options.on_size_mismatch,
            missing=options.on_missing_clip,
            first_frame=options.first_frame,
        ),
    )
    with _spreading(options.address, options.workers, request) as spread:
        report = make_report(evaluate(request, spread), spread, options.seed)
    write_report(report, options.out)
    print(_summary(report))
    print(f"{options.out / 'leaderboard.html'}, leaderboard.md, scores.json, scores.parquet")
