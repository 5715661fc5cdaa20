"""Write a data set in ViCo's layouts: ``python -m jobs.export_vico DATASET --out DIR --layout release|challenge``.

``release`` is that of ``RLD_data.csv``, ``challenge`` that of ``listening_head/`` with a csv a split. Both get the
features under ``example/features`` that the published baseline reads: 45 acoustic ones and, where the data set has
coefficients, ``angle.exp.trans`` (73) and ``id.gamma.tex`` (187) of both people. Clip ids stand for the baseline's
random uuids, so that two exports agree; the challenge's csv keeps the attitude in a column more. Means and deviations
are those of the training split alone, where the baseline's take in every split it finds.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.command import DATASET, command, option
from jobs.vico.features import Features
from jobs.vico.layouts import CHALLENGE_COLUMNS, RELEASE_COLUMNS, RELEASE_CSV
from pipeline.dataset.read import media_file, read_clips, read_description
from pipeline.dataset.storage import Location, local_file, location
from pipeline.manifest.write import write_csv
from schemas.clip import SPLITS
from schemas.column import ROLES

RELEASE, CHALLENGE = "release", "challenge"  # layouts
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
    folder = out if layout == RELEASE else out / CHALLENGE_FOLDER
    rows = []
    for row in read_clips(dataset, [*MEDIA, *features.columns]):
        copy_clip(dataset, folder, row)
        features.write(row)
        rows.append(row)
    of_split = {split: [row for row in rows if row["split"] == split] for split in SPLITS}
    tables = {out / "example" / "metadata" / "data.csv": of_split["train"]}
    if layout == RELEASE:
        write_csv(folder / RELEASE_CSV, RELEASE_COLUMNS, map(_release_row, rows))
    else:
        tables |= {folder / f"{split}.csv": members for split, members in of_split.items() if members}
    for path, members in tables.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, CHALLENGE_HEADER, map(_challenge_row, members))
    features.write_statistics()
    return len(rows)


def copy_clip(dataset: Location, folder: Path, row: Row) -> None:
    """Copy the files of a clip into ``videos`` and ``audios`` of a folder: both layouts name them alike."""
    clip_id = row["clip_id"]
    for role in ROLES:
        _copy(media_file(dataset, row[f"{role}_video"]), folder / "videos" / f"{clip_id}.{role}.mp4")
    _copy(media_file(dataset, row["audio"]), folder / "audios" / f"{clip_id}.wav")


def _release_row(row: Row) -> list[Any]:
    name = row["clip_id"]
    people = [row["listener_id"], row["speaker_id"]]
    return [row["attitude"], name, f"{name}.listener", f"{name}.speaker", *people, row["split"]]


def _challenge_row(row: Row) -> list[Any]:
    return [row["source_id"], row["clip_id"], row["speaker_id"], row["listener_id"], row["attitude"]]


def _copy(source: Location, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with local_file(source) as file:
        shutil.copyfile(file, target)


@command(
    DATASET,
    option("--out", type=Path, required=True, help="where the layout goes"),
    option("--layout", choices=[CHALLENGE, RELEASE], default=CHALLENGE, help="which one"),
)
def main(options: argparse.Namespace) -> None:
    """Export in ViCo's layouts."""
    count = export_vico(location(options.dataset), options.out, options.layout)
    print(f"{count} clips in the {options.layout} layout under {options.out}")
