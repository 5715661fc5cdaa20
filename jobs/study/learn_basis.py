"""Learn a morphable model from faces: ``python -m jobs.study.learn_basis INPUTS --name NAME --out basis.npz``.

An input is a data set that jobs.build wrote, whose landmark columns and people are taken, or a list of faces in
videos and pictures: a CSV with the columns file, person, start_s, end_s (empty for a picture) and left, top, side of
a square around the face. Prints what such a basis explains of people whom it has not seen, and writes the basis
learnt from all.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jobs.command import command, option
from pipeline.clock import Span, map_to_grid
from pipeline.dataset.read import read_clips
from pipeline.dataset.store import Store
from pipeline.manifest.clips_csv import MAX_CSV_BYTES
from pipeline.media.reader import MediaError, SourceReader
from pipeline.settings import read_text
from pipeline.tables import aligned
from schemas.column import FRAME_AXIS, ROLES, Column
from schemas.errors import UserError

if TYPE_CHECKING:
    from stages.faces.tracker import Tracker
    from stages.morphable.learning import Explained, PersonTrack

CROP_PX = 384
LIST_COLUMNS = ("file", "person", "start_s", "end_s", "left", "top", "side")
PICTURES = (".bmp", ".jpg", ".jpeg", ".png")
MAX_FRAMES = 300  # of a face in a list


def tracks_of_dataset(root: Path) -> Iterator[PersonTrack]:
    """Both faces of every published clip of a data set, from its landmark columns."""
    from stages.morphable.learning import PersonTrack, upright

    people = {row["clip_id"]: row for row in read_clips(root)}
    store = Store(root)
    for path in sorted((root / "columns" / "landmarks").glob("*.parquet")):
        for role in ROLES:
            points = Column(f"{role}_landmarks", "float32", (FRAME_AXIS, 478, 3))
            valid = Column(f"{role}_landmarks_valid", "bool", (FRAME_AXIS,))
            for clip_id, row in store.read_columns("landmarks", path.stem, [points, valid]).items():
                if clip_id in people:
                    person = people[clip_id][f"{role}_id"] or f"{clip_id} {role}"
                    yield PersonTrack(person, upright(row[points.name][row[valid.name]]))


def tracks_of_list(path: Path) -> Iterator[PersonTrack]:
    """Faces of a list, found by FaceMesh in their squares; faces that it does not find are named and left out."""
    from stages.faces.tracker import Tracker
    from stages.morphable.learning import PersonTrack, upright

    tracker = Tracker(min_detection=0.5, min_presence=0.9)
    reader = csv.DictReader(io.StringIO(read_text(path, MAX_CSV_BYTES), newline=""))
    if missing := [name for name in LIST_COLUMNS if name not in (reader.fieldnames or ())]:
        raise UserError(f"{path}, line 1: no column {', '.join(missing)}; expected {','.join(LIST_COLUMNS)}")
    for row in reader:
        media = path.parent / row["file"]
        try:
            square = tuple(float(row[key]) for key in ("left", "top", "side"))
            points = list(_look(tracker, media, square, row))
        except (MediaError, OSError, ValueError) as error:
            raise UserError(
                f"{path}, line {reader.line_num}: expected a face in a readable film or picture: {error}"
            ) from None
        if points:
            yield PersonTrack(row["person"], upright(np.stack(points)))
        else:
            print(f"{media}: no face in the square {square} of {row['person']}: left out", file=sys.stderr)


def _look(tracker: Tracker, media: Path, square: tuple[float, ...], row: dict[str, str]) -> Iterator[np.ndarray]:
    if media.suffix.lower() in PICTURES:
        frames = iter([_picture(media, square)])
    else:
        frames = _frames(media, square, Span(Fraction(row["start_s"]), Fraction(row["end_s"])))
    for points in tracker.follow(frames):
        if points is not None:
            yield points


def _picture(path: Path, square: tuple[float, ...]) -> np.ndarray:
    from PIL import Image

    left, top, side = square
    with Image.open(path) as image:
        crop = image.convert("RGB").transform((round(side),) * 2, Image.Transform.EXTENT, _corners(left, top, side))
    return np.asarray(crop.resize((CROP_PX, CROP_PX), Image.Resampling.BILINEAR))


def _frames(path: Path, square: tuple[float, ...], span: Span) -> Iterator[np.ndarray]:
    with SourceReader(path) as reader:
        pts = map_to_grid(span, reader.frame_times()).pts[:MAX_FRAMES]
        boxes = np.broadcast_to(_corners(*square), (len(pts), 1, 4))
        for _, crop in reader.crops(pts, boxes, CROP_PX):
            yield crop[0]


def _corners(left: float, top: float, side: float) -> tuple[float, float, float, float]:
    return left, top, left + side, top + side


def _table(results: Sequence[Explained]) -> str:
    rows = [["held out", "expression explained", "identity explained"]]
    rows += [[f"{r.people} people", f"{r.expression:.2%}", f"{r.identity:.2%}"] for r in results]
    rows.append(["lowest", f"{min(r.expression for r in results):.2%}", f"{min(r.identity for r in results):.2%}"])
    return aligned(rows)


@command(
    option("inputs", nargs="+", type=Path, help="data sets and lists of faces (.csv)"),
    option("--name", required=True, help="what data sets will call the basis"),
    option("--out", required=True, type=Path, help="the file to write, .npz"),
    option("--identity", type=int, default=80, help="components of identity"),
    option("--expression", type=int, default=64, help="components of expression"),
    option("--folds", type=int, default=5, help="groups of people held out in turn; 0: none"),
)
def main(options: argparse.Namespace) -> None:
    """Learn a morphable model."""
    from stages.morphable import learning

    tracks = []
    for path in options.inputs:
        tracks += tracks_of_list(path) if path.suffix == ".csv" else tracks_of_dataset(path)
    if not tracks:
        inputs = ", ".join(map(str, options.inputs))
        raise UserError(
            f"{inputs}: no faces; expected lists, or data sets that jobs.build wrote with the stage landmarks"
        )
    people, frames = len({track.person for track in tracks}), sum(len(track.points) for track in tracks)
    print(f"{len(tracks)} tracks of {people} people, {frames} frames")
    sizes = options.identity, options.expression
    if options.folds:
        print(_table(learning.held_out(tracks, options.folds, *sizes)))
    basis = learning.learn(tracks, options.name, *sizes)
    basis.save(options.out)
    print(f"{options.out}: {basis.name}, {options.out.stat().st_size} bytes, landmark noise {basis.noise:.5f} dm")
