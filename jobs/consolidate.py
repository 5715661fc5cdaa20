"""Make labels from votes: ``python -m jobs.consolidate MANIFEST.toml --out FOLDER``.

Writes the table of the clips that most annotators call valid, with their times, sides and attitudes (``clips.csv``),
every vote that counts (``votes.parquet``), how far people agree (``agreement.json``, ``agreement.md``) and what is left
to adjudicate (``adjudicate.csv``). Build from a copy of the manifest that names this table, and the dataset card says
all this.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.command import command, option
from jobs.votes.consolidation import (
    FEWEST_VOTES,
    OPEN,
    Decision,
    Votes,
    csv_cells,
    decide_all,
    labelled_rows,
    without_stale,
)
from jobs.votes.films import Films, open_films
from jobs.votes.report import agreement_report, report_text
from jobs.votes.store import FIRST, Vote, vote_files
from pipeline.dataset.labels import questions_table
from pipeline.dataset.store import Store
from pipeline.manifest.clips_csv import CSV_COLUMNS
from schemas.agreement import FILE as AGREEMENT_FILE
from schemas.errors import UserError

VOTES_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("clip_id", "source_id", "annotator", "round")),
        *(pa.field(name, pa.bool_()) for name in ("stale", "valid")),
        pa.field("failed", pa.list_(pa.string())),
        *(pa.field(name, pa.int32()) for name in ("in_frame", "out_frame")),
        *(pa.field(name, pa.string()) for name in ("side", "attitude")),
        pa.field("unsure", pa.bool_()),
        pa.field("note", pa.string()),
        pa.field("seconds", pa.float64()),
        pa.field("number", pa.int32()),
        *(pa.field(name, pa.string()) for name in ("utc", "uuid", "fingerprint")),
    ]
)


def consolidate(films: Films, votes: Votes, fewest: int, out: Path) -> list[Decision]:
    """Write everything that follows from the votes, each file whole or not at all; returns the decisions."""
    fresh, stale = without_stale(films, votes)
    decisions = decide_all(films, fresh, fewest)
    clips = _csv([*CSV_COLUMNS, "clip_id"], map(csv_cells, labelled_rows(films, decisions)))
    sha256 = hashlib.sha256(clips.encode()).hexdigest()
    report = agreement_report(films, fresh, stale, decisions, sha256, fewest)
    names = sorted(who for who in fresh if any(vote.round == FIRST for vote in fresh[who]))
    left = [[one.clip_id, " ".join(one.undecided), len(one.answers)] for one in decisions if one.outcome == OPEN]
    store = Store(out)
    with store.new_file(out / "votes.parquet") as temporary:
        pq.write_table(votes_table(films, votes), temporary, compression="zstd")
    store.write_text(out / "adjudicate.csv", _csv(["clip_id", "undecided", "votes"], left))
    store.write_text(out / "agreement.md", report_text(report, names))
    store.write_text(out / AGREEMENT_FILE, json.dumps(asdict(report), indent=1, allow_nan=False) + "\n")
    store.write_text(out / "clips.csv", clips)
    store.clear_scratch()
    print(questions_table(report))
    return decisions


def votes_table(films: Films, votes: Votes) -> pa.Table:
    """A row a vote that was not taken back, of all rounds, stale ones too, sorted by clip and annotator."""
    rows = [_vote_row(films, who, vote) for who, given in votes.items() for vote in given]
    rows.sort(key=lambda row: (row["clip_id"], row["annotator"], row["round"]))
    return pa.Table.from_pylist(rows, schema=VOTES_SCHEMA)


def _vote_row(films: Films, annotator: str, vote: Vote) -> dict[str, object]:
    assert vote.answer is not None  # what counts is no undo
    film = films.films.get(vote.clip_id)
    return {
        "source_id": film.row.source_id if film else None,
        "annotator": annotator,
        "stale": film is None or film.fingerprint != vote.fingerprint,
        **{name: getattr(vote, name) for name in ("clip_id", "round", "number", "utc", "uuid", "fingerprint")},
        **vote.answer.to_json(),
    }


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


@command(
    option("manifest", metavar="MANIFEST", help="what was judged: a manifest, or a built data set's folder"),
    option("--out", required=True, type=Path, metavar="FOLDER", help="where table and report go"),
    option("--votes", type=Path, metavar="DIR", help="where the votes lie (default: beside the manifest)"),
    option("--fewest", type=int, default=FEWEST_VOTES, help=f"votes that a clip needs (default {FEWEST_VOTES})"),
)
def main(options: argparse.Namespace) -> None:
    """Make labels from votes, and say how far people agree."""
    if options.fewest < 1:
        raise UserError(f"--fewest {options.fewest}: expected 1 or more")
    films = open_films(options.manifest)
    folder = options.votes or films.votes_folder
    votes: Votes = {file.annotator: list(file.standing().values()) for file in vote_files(folder)}
    if not any(votes.values()):
        raise UserError(f"{folder}: no votes; python -m jobs.annotate {options.manifest} --annotator NAME")
    if (options.out / "clips.csv").resolve() == films.table:
        raise UserError(f"--out {options.out}: holds the table that was judged, {films.table}; name another folder")
    options.out.mkdir(parents=True, exist_ok=True)
    decisions = consolidate(films, votes, options.fewest, options.out.resolve())
    counts = {one.outcome: sum(other.outcome == one.outcome for other in decisions) for one in decisions}
    print(", ".join(f"{number} clips {outcome}" for outcome, number in counts.items()))
    if OPEN in counts:
        print(f"next: python -m jobs.annotate {options.manifest} --annotator NAME --adjudicate")
    print(f"{options.out / 'clips.csv'}: name it as `clips` in a copy of the manifest, then python -m jobs.build")
