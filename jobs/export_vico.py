"""Write a data set in ViCo's layouts: ``python -m jobs.export_vico DATASET --out DIR --layout release|challenge``.

``release`` is that of ``RLD_data.csv``, ``challenge`` that of ``listening_head/`` with a csv a split. Both get the
features under ``example/features`` that the published baseline reads: 45 acoustic ones and, where the data set has
coefficients, ``angle.exp.trans`` (73) and ``id.gamma.tex`` (187) of both people. Clip ids stand for the baseline's
random uuids, so that two exports agree; the challenge's csv keeps the attitude in a column more. Means and deviations
are those of the training split alone, where the baseline's take in every split it finds.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.command import DATASET, command, option
from jobs.vico.features import Features
from jobs.vico.layouts import CHALLENGE_COLUMNS, RELEASE_COLUMNS, RELEASE_CSV
from pipeline.dataset.read import media_file, read_clips, read_description
from pipeline.dataset.storage import Location, local_file, location
from schemas.clip import SPLITS
from schemas.column import ROLES

CHALLENGE_FOLDER = "listening_head"
CHALLENGE_HEADER = (*CHALLENGE_COLUMNS, "attitude")
MEDIA = ("audio", *(f"{role}_video" for role in ROLES))

Row = Mapping[str, Any]


def export_vico(dataset: Location, out: Path, layout: str) -> int:
    """Write a data set into ``out``; returns the number of clips.

    Raises
    ------
    UserError : the data set lacks a column that the layout needs.
    """
    features = Features(out / "example" / "features", read_description(dataset))
    rows = []
    for row in read_clips(dataset, [*MEDIA, *features.columns]):
        LAYOUTS[layout].copy(dataset, out, row)
        features.write(row)
        rows.append(row)
    LAYOUTS[layout].tables(out, rows)
    metadata = out / "example" / "metadata"
    metadata.mkdir(parents=True, exist_ok=True)
    _write_csv(metadata / "data.csv", CHALLENGE_HEADER, map(_challenge_row, _of_split(rows, "train")))
    features.write_statistics()
    return len(rows)


class Release:
    """``RLD_data.csv`` with ``videos/`` and ``audios/``."""

    @staticmethod
    def copy(dataset: Location, out: Path, row: Row) -> None:
        """Copy the files of a clip."""
        for role in ROLES:
            _copy(media_file(dataset, row[f"{role}_video"]), out / "videos" / f"{row['clip_id']}.{role}.mp4")
        _copy(media_file(dataset, row["audio"]), out / "audios" / f"{row['clip_id']}.wav")

    @staticmethod
    def tables(out: Path, rows: Sequence[Row]) -> None:
        """Write the one table of all splits."""
        _write_csv(out / RELEASE_CSV, RELEASE_COLUMNS, map(_release_row, rows))


class Challenge:
    """``listening_head/`` with a csv a split; its files bear the same names."""

    @staticmethod
    def copy(dataset: Location, out: Path, row: Row) -> None:
        """Copy the files of a clip."""
        Release.copy(dataset, out / CHALLENGE_FOLDER, row)

    @staticmethod
    def tables(out: Path, rows: Sequence[Row]) -> None:
        """Write a table for every split that has clips."""
        for split in SPLITS:
            if members := list(_of_split(rows, split)):
                path = out / CHALLENGE_FOLDER / f"{split}.csv"
                _write_csv(path, CHALLENGE_HEADER, map(_challenge_row, members))


LAYOUTS: dict[str, type[Release] | type[Challenge]] = {"release": Release, "challenge": Challenge}


def _of_split(rows: Sequence[Row], split: str) -> Iterator[Row]:
    return (row for row in rows if row["split"] == split)


def _release_row(row: Row) -> list[Any]:
    name = row["clip_id"]
    people = [row["listener_id"], row["speaker_id"]]
    return [row["attitude"], name, f"{name}.listener", f"{name}.speaker", *people, row["split"]]


def _challenge_row(row: Row) -> list[Any]:
    return [row["source_id"], row["clip_id"], row["speaker_id"], row["listener_id"], row["attitude"]]


def _write_csv(path: Path, header: Sequence[str], rows: Iterator[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)


def _copy(source: Location, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with local_file(source) as file:
        shutil.copyfile(file, target)


@command(
    DATASET,
    option("--out", type=Path, required=True, help="where the layout goes"),
    option("--layout", choices=sorted(LAYOUTS), default="challenge", help="which one"),
)
def main(options: argparse.Namespace) -> None:
    """Export in ViCo's layouts."""
    count = export_vico(location(options.dataset), options.out, options.layout)
    print(f"{count} clips in the {options.layout} layout under {options.out}")
