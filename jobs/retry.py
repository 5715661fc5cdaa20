"""Have clips tried again that a stage gave up: ``python -m jobs.retry DIR --class timed_out,crashed``.

A build never tries by itself again what has failed. This takes the rows of the named classes out of the column files,
and their attempts out of the count; the next ``jobs.build`` with the same manifest computes these clips and no other.
A class is an outcome, or a reason for which the reader of untrusted media rejects what a busy machine may have caused.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from jobs.command import DATASET, command, option
from pipeline.build import new_run_id
from pipeline.dataset.lock import locked
from pipeline.dataset.storage import location, text_of
from pipeline.dataset.store import Store
from pipeline.ledger.diary import attempts_of
from schemas.errors import UserError
from schemas.outcome import CRASHED, FAILED, OUT_OF_MEMORY, TIMED_OUT, Outcome

READER_REASONS = ("decoder_crashed", "timed_out", "out_of_memory")  # of `pipeline.media.sandbox`, as rejects
CLASSES = (FAILED, CRASHED, TIMED_OUT, OUT_OF_MEMORY, "decoder_crashed")
MAX_IDS_BYTES = 2**28
SPELLINGS = {"timeout": TIMED_OUT}


def set_free(store: Store, classes: Collection[str], only: Collection[str] | None = None) -> list[tuple[str, str]]:
    """Forget the rows of some classes, of all clips or only some, and the deaths that led to them.

    Returns (stage, clip) of each.
    """
    freed = []
    for path in store.column_files():
        stage, part = path.parent.name, path.stem
        clips = [
            clip
            for clip, row in store.read_outcomes(stage, part).items()
            if _class_of(row) in classes and (only is None or clip in only)
        ]
        if clips:
            attempts_of(store, part, new_run_id()).set_free(stage, clips)
            store.drop_rows(path, clips)
            freed += [(stage, clip) for clip in clips]
    return freed


def _class_of(row: Outcome) -> str:
    return row.reason if row.reason in READER_REASONS else row.outcome


@command(
    DATASET,
    option("--clips", type=Path, metavar="FILE", help="only of these clips: ids, one a line (default: of all)"),
    option("--class", dest="classes", required=True, help=f"one or more, by commas, of {', '.join(CLASSES)}"),
)
def main(options: argparse.Namespace) -> None:
    """Have failed clips tried again."""
    classes = {SPELLINGS.get(name.strip(), name.strip()) for name in options.classes.split(",")}
    if unknown := sorted(classes - set(CLASSES)):
        raise UserError(f"--class: unknown {', '.join(unknown)}; allowed: {', '.join(CLASSES)}")
    store = Store(location(options.dataset), journal=True)
    if not store.column_files():
        raise UserError(f"{store.root} holds no data set: python -m jobs.build MANIFEST --out DIR")
    only = None if options.clips is None else set(text_of(options.clips, MAX_IDS_BYTES).split())
    with locked(store.root) as ours:
        freed = set_free(Store(ours, journal=True), classes, only)
    for stage, clip_id in freed:
        print(f"  {clip_id}: {stage}")
    print(f"{len(freed)} clips set free; run the same jobs.build again" if freed else "no such clip")
