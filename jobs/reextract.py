"""Coefficients of rendered videos: ``python -m jobs.reextract VIDEOS --data DATA`` writes ``VIDEOS/reextract.toml``.

The ViCo challenge scores coefficients that are extracted from submitted videos. The manifest pairs every video
``<clip_id>.mp4`` of a folder, ours or not, with the other person and the sound of the data set's clip of that id, as a
pair of ready crops, so that nobody is detected or swapped. ``python -m jobs.build VIDEOS/reextract.toml --out DIR``
then runs the ordinary stages with the data set's settings and gives the same clips, ids and splits with the videos'
coefficients.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jobs.command import command, option
from pipeline.clock import FPS, Span, map_to_grid, seconds_of
from pipeline.dataset.read import read_clips, read_description
from pipeline.manifest.write import PairClip, write_pairs
from pipeline.media.reader import MediaError, SourceReader
from schemas.column import LISTENER, ROLES, SPEAKER, other_role
from schemas.dataset import SourceEntry
from schemas.errors import UserError

MANIFEST, CLIPS = "reextract.toml", "reextract.csv"
STAGES = ("threedmm", "blink")  # with what they read
SET_AS_THERE = ("clip", "face", "landmarks", *STAGES)  # stages whose settings are the data set's

Row = Mapping[str, Any]


def write_manifest(videos: Path, data: Path, role: str = LISTENER) -> Path:
    """Write the manifest of a folder of videos, which show the people of a role; returns its path.

    Raises
    ------
    UserError : no video bears the id of a clip, or one cannot be read or has another length than its clip.
    """
    other = other_role(role)  # whose own video stays beside those
    rows = [
        row for row in read_clips(data, ["audio", f"{other}_video"]) if (videos / f"{row['clip_id']}.mp4").is_file()
    ]
    if not rows:
        raise UserError(f"{videos}: expected videos <clip_id>.mp4 of clips of {data}, found none")
    if problems := [problem for row in rows for problem in _wrong(videos, row)]:
        raise UserError("; ".join(problems))
    description = read_description(data)
    dataset = {"name": f"{description.name}_reextracted", "clips": CLIPS, "stages": STAGES}
    pairs = [
        _pair(videos, data, role, other, row, description.sources.get(row["source_id"], SourceEntry())) for row in rows
    ]
    made = description.stages
    settings = {stage: made[stage].settings if stage in made else {} for stage in SET_AS_THERE}
    if include := description.pack.get("include"):  # heavy columns, which metrics of lips compare
        settings["pack"] = {"include": include}
    write_pairs(videos / MANIFEST, dataset, pairs, settings)
    return videos / MANIFEST


def _wrong(videos: Path, row: Row) -> Iterator[str]:
    path, expected = videos / f"{row['clip_id']}.mp4", row["num_frames"]
    try:
        with SourceReader(path) as reader:
            times = reader.frame_times()
    except MediaError as error:
        yield f"{path}: {error}"
        return
    shown = map_to_grid(Span(Fraction(0), seconds_of(expected)), times).source_frame
    if len(times.pts) != expected or not np.array_equal(shown, np.arange(expected)):
        found = f"{len(times.pts)} up to {float(times.time_s(-1)):.2f} s"
        yield f"{path}: expected {expected} frames at {FPS} fps as its clip has, found {found}"


def _pair(videos: Path, data: Path, role: str, other: str, row: Row, source: SourceEntry) -> PairClip:
    people = {role: videos / f"{row['clip_id']}.mp4", other: data / row[f"{other}_video"]}
    files = {**{one: people[one] for one in ROLES}, "audio": data / row["audio"]}
    labels = [row["attitude"], row["speaker_id"], row["listener_id"], row["split"]]
    licence, film = source.licence or "as the source's", source.video or row["source_id"]
    return PairClip(row["clip_id"], row["num_frames"], files, labels, licence, film)


@command(
    option("videos", type=Path, help="a folder of videos <clip_id>.mp4"),
    option("--data", type=Path, required=True, help="the data set whose clips they show"),
    option("--role", choices=(LISTENER, SPEAKER), default=LISTENER, help="whom they show (default: listener)"),
)
def main(options: argparse.Namespace) -> None:
    """Prepare videos for extraction."""
    print(f"python -m jobs.build {write_manifest(options.videos, options.data, options.role)} --out DIR")
