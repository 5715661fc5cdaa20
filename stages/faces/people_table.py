"""people.csv, in which a person reads and mends who is who, and people.parquet beside it with the faces it stands on.

A row of people.csv is a look: tracks of one film in which one face looks alike (`stages.faces.identities`). The name in
its column ``person`` is what the next run believes, so that

- writing the name of one person in the rows of another merges the two,
- writing a new name in some rows of a person splits them off,
- deleting a row has that look decided anew.

The next run reads the columns person, film and track, in any order of rows; all others are there to be read by people.
Whoever deletes people.parquet keeps the names of the tracks in the table, and nobody is known in new films any more.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.read import read_plain
from pipeline.settings import SHOWN, read_text
from schemas.clip import ID_MEANING, ID_PATTERN
from schemas.errors import UserError
from stages.faces.identities import Key, Known, Look, People

TABLE, FACES, WITHDRAWN = "people.csv", "people.parquet", "withdrawn_faces.parquet"
READ = ("person", "film", "track")  # what the next run believes
COLUMNS = {
    "person": "who this is; change it to merge people (one name) or to split a look off (a new name)",
    "film": "the source",
    "at_s": "when to look: middle of the longest track, seconds from the film's beginning",
    "x": "where to look: the face's place across the picture, 0 at the left edge, 1 at the right",
    "picture": "a picture of the face, where the run makes them",
    "seconds": "how long this look is on the screen in all",
    "tracks": "of how many face tracks the look consists",
    "spread": "how far this person's looks lie apart: the largest mean distance of one from the others",
    "nearest": "the other person who looks most alike",
    "distance": "and how far away: below .4 it would be the same person",
    "doubt": "merge: this person and the nearest may be one; split: this look may be somebody else; else empty",
    "track": "name of the look's longest track; leave it as it is",
}
MAX_BYTES = 2**28
NewFile = Callable[[Path], AbstractContextManager[Path]]  # gives a temporary path, which becomes that path at the end
SCHEMA = pa.schema(
    [
        ("person", pa.string()),
        ("film", pa.string()),
        ("tracks", pa.list_(pa.string())),
        ("at_s", pa.float64()),
        ("x", pa.float64()),
        ("seconds", pa.float64()),
        ("num_faces", pa.int32()),
        ("mean", pa.list_(pa.float32())),  # none, or 128; a list of one size cannot be none, for Arrow 21 to read it
    ]
)


def read_known(folder: Path) -> Known:
    """What people.csv and people.parquet of an earlier run say; nothing where there is no table.

    `UserError` for a table that lacks a column that is read, for a name that is none, and for a row given twice.
    """
    if not (folder / TABLE).exists():
        return Known()
    looks = {(look.film, look.tracks[0]): look for look in read_looks(folder / FACES)}
    found: dict[Key, Look] = {}
    for line, (person, film, track) in _rows(folder / TABLE):
        if not ID_PATTERN.fullmatch(person):
            shown = f"found {person[:SHOWN]!r}, allowed: {ID_MEANING}"
            raise UserError(f"{folder / TABLE}, line {line}, column 'person': {shown}")
        if (film, track) in found:
            raise UserError(f"{folder / TABLE}, line {line}: film {film!r} and track {track!r} stand there twice")
        bare = Look(person, film, (track,), 0.0, 0.0, 0.0, 0, None)  # where people.parquet is lost
        found[film, track] = replace(looks.get((film, track), bare), person=person)
    return Known(tuple(found.values()))


def _rows(path: Path) -> list[tuple[int, tuple[str, ...]]]:
    """Line numbers and the cells that are read; spreadsheets write semicolons in some countries."""
    text = read_text(path, MAX_BYTES)
    separator = ";" if ";" in text.partition("\n")[0] else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    if missing := [name for name in READ if name not in (reader.fieldnames or ())]:
        raise UserError(f"{path}, line 1: missing column {', '.join(missing)}; needed: {', '.join(READ)}")
    rows = [(reader.line_num, tuple((row[name] or "").strip() for name in READ)) for row in reader]
    return [(line, cells) for line, cells in rows if any(cells)]


def read_looks(path: Path) -> list[Look]:
    """The looks of people.parquet or of a file of withdrawn faces; none where there is no such file."""
    if not path.exists():
        return []
    table = read_plain(path)
    if not table.schema.equals(SCHEMA):
        raise UserError(f"{path}: expected columns {', '.join(SCHEMA.names)}; it holds no faces of people, delete it")
    means = [None if mean is None else np.array(mean, np.float32) for mean in table["mean"].to_pylist()]
    rows = table.drop_columns(["mean"]).to_pylist()
    return [Look(**{**row, "tracks": tuple(row["tracks"])}, mean=mean) for row, mean in zip(rows, means, strict=True)]


def keep_withdrawn(path: Path, looks: Iterable[Look], ids: Collection[str]) -> tuple[Look, ...]:
    """Have a file hold the faces of withdrawn people, of those in it and in the looks given, and of nobody else.

    So an id that leaves the list of the withdrawn leaves the file too. Gives what the file holds; `Known` takes it.
    """
    found = {look.keys[0]: look for look in (*looks, *read_looks(path)) if look.person in ids and look.mean is not None}
    kept = tuple(found[key] for key in sorted(found))
    write_looks(path, kept)
    return kept


def write_people(
    folder: Path,
    people: People,
    withdrawn: Collection[str] = (),
    pictures: Mapping[Key, str] | None = None,
    new_file: NewFile | None = None,
) -> None:
    """Write people.csv and people.parquet; of ``withdrawn`` people the names of tracks, and no face.

    ``pictures`` names files, relative to the folder, for tracks that stand for a look. ``new_file`` is a store's, which
    remembers what people.parquet is; people.csv is for people to change.
    """
    doubts = {key: doubt.kind for doubt in people.doubts for look in (doubt.one, doubt.other) for key in look.keys[:1]}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for person in people.persons:
        told = [f"{person.spread:.3f}", person.nearest, f"{person.distance:.3f}" if person.nearest else ""]
        for look in person.looks:
            first = look.keys[0]
            place = [f"{look.at_s:.2f}", f"{look.x:.2f}", (pictures or {}).get(first, "")]
            size = [f"{look.seconds:.2f}", len(look.tracks)]
            writer.writerow([person.name, look.film, *place, *size, *told, doubts.get(first, ""), look.tracks[0]])
    looks = [look for person in people.persons for look in person.looks]
    kept = [replace(look, mean=None) if look.person in withdrawn else look for look in looks]
    write_looks(folder / FACES, kept, new_file)
    with _replaced(folder / TABLE) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def write_looks(path: Path, looks: Collection[Look], new_file: NewFile | None = None) -> None:
    """Keep looks with their faces in a Parquet file."""
    rows = [{**vars(look), "mean": None if look.mean is None else look.mean.tolist()} for look in looks]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), sink)
    with (new_file or _replaced)(path) as temporary:
        temporary.write_bytes(sink.getvalue())


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    yield temporary
    os.replace(temporary, path)
