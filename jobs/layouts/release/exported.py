"""What both published layouts get of a data set: videos, sound, and the features that the published baseline reads.

The features lie under ``example/features``: 45 acoustic ones and, where the data set has coefficients,
``angle.exp.trans`` (73) and ``id.gamma.tex`` (187) of both people. Clip ids stand for the baseline's random uuids, so
that two exports agree; the challenge's csv keeps the attitude in a column more. Means and deviations are those of the
training split alone, where the baseline's take in every split it finds.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jobs.layouts.release.features import Features
from pipeline.dataset.read import media_file, read_clips, read_description
from pipeline.dataset.storage import Location, local_file
from pipeline.manifest.write import write_csv
from schemas.clip import CLIP_COLUMNS
from schemas.column import ROLES

CHALLENGE_COLUMNS = ("video_id", "uuid", "speaker_id", "listener_id")
LABELS = tuple(column.name for column in CLIP_COLUMNS)
MEDIA = ("audio", *(f"{role}_video" for role in ROLES))

Row = Mapping[str, Any]


def export_clips(dataset: Location, folder: Path, out: Path) -> list[Row]:
    """Copy the media of a data set into ``folder`` and write its features below ``out``; returns the clips.

    Raises
    ------
    UserError : the data set lacks a column that the features need.
    """
    features = Features(out / "example" / "features", read_description(dataset))
    rows = []
    for row in read_clips(dataset, [*MEDIA, *features.columns]):
        copy_clip(dataset, folder, row)
        features.write(row)
        rows.append({name: row[name] for name in LABELS})
    features.write_statistics()
    write_challenge_csv(out / "example" / "metadata" / "data.csv", [row for row in rows if row["split"] == "train"])
    return rows


def write_challenge_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write a csv of the challenge: also the baseline's metadata has its columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, (*CHALLENGE_COLUMNS, "attitude"), map(_challenge_row, rows))


def copy_clip(dataset: Location, folder: Path, row: Row) -> None:
    """Copy the files of a clip into ``videos`` and ``audios`` of a folder: both layouts name them alike."""
    clip_id = row["clip_id"]
    for role in ROLES:
        _copy(media_file(dataset, row[f"{role}_video"]), folder / "videos" / f"{clip_id}.{role}.mp4")
    _copy(media_file(dataset, row["audio"]), folder / "audios" / f"{clip_id}.wav")


def _challenge_row(row: Row) -> list[Any]:
    return [row["source_id"], row["clip_id"], row["speaker_id"], row["listener_id"], row["attitude"]]


def _copy(source: Location, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with local_file(source) as file:
        shutil.copyfile(file, target)
