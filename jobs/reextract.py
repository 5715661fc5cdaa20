"""Coefficients of rendered videos: ``python -m jobs.reextract VIDEOS --data DATA`` writes ``VIDEOS/reextract.toml``.

The ViCo challenge scores coefficients that are extracted from submitted videos. The manifest pairs every video
``<clip_id>.mp4`` of a folder, ours or not, with speaker and sound of the data set's clip of that id, as a pair of ready
crops, so that nobody is detected or swapped. ``python -m jobs.build VIDEOS/reextract.toml --out DIR`` then runs the
ordinary stages with the data set's settings and gives the same clips, ids and splits with the videos' coefficients.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jobs.command import command, option
from pipeline.clock import FPS, Span, map_to_grid, seconds_of
from pipeline.dataset.read import read_clips, read_description
from pipeline.manifest.clips_csv import CSV_COLUMNS
from pipeline.media.reader import MediaError, SourceReader
from schemas.dataset import SourceEntry
from schemas.errors import UserError

MANIFEST, CLIPS = "reextract.toml", "reextract.csv"
STAGES = ("threedmm", "blink")  # with what they read
SET_AS_THERE = ("clip", "face", "landmarks", *STAGES)  # stages whose settings are the data set's

Row = Mapping[str, Any]


def write_manifest(videos: Path, data: Path) -> Path:
    """Write the manifest of a folder of videos; returns its path.

    Raises
    ------
    UserError : no video bears the id of a clip, or one cannot be read or has another length than its clip.
    """
    rows = [row for row in read_clips(data, ["audio", "speaker_video"]) if (videos / f"{row['clip_id']}.mp4").is_file()]
    if not rows:
        raise UserError(f"{videos}: expected videos <clip_id>.mp4 of clips of {data}, found none")
    if problems := [problem for row in rows for problem in _wrong(videos, row)]:
        raise UserError("; ".join(problems))
    with (videos / CLIPS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*CSV_COLUMNS, "clip_id"])
        writer.writerows(_csv_row(row) for row in rows)
    (videos / MANIFEST).write_text(_manifest(videos, data, rows), encoding="utf-8")
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


def _csv_row(row: Row) -> list[Any]:
    people = [row["attitude"] or "", row["speaker_id"] or "", row["listener_id"] or "", row["split"]]
    return [row["clip_id"], 0, f"{float(seconds_of(row['num_frames'])):.9f}", "", *people, row["clip_id"]]


def _manifest(videos: Path, data: Path, rows: Sequence[Row]) -> str:
    description = read_description(data)
    name, names = f"{description.name}_reextracted", json.dumps(STAGES)
    blocks = [f'[dataset]\nname = {json.dumps(name)}\nclips = "{CLIPS}"\nstages = {names}\n']
    for row in rows:
        clip_id = row["clip_id"]
        files = {
            "speaker": data / row["speaker_video"],
            "listener": videos / f"{clip_id}.mp4",
            "audio": data / row["audio"],
        }
        lines = [f"{part} = {json.dumps(os.path.relpath(path, videos))}" for part, path in files.items()]
        licence = description.sources.get(row["source_id"], SourceEntry()).licence or "as the source's"
        blocks.append("\n".join(["[[sources]]", f'id = "{clip_id}"', *lines, f"licence = {json.dumps(licence)}", ""]))
    for stage in SET_AS_THERE:
        settings = description.stages[stage].settings if stage in description.stages else {}
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        blocks.append("\n".join([f"[stages.{stage}]", *lines, ""]))
    return "\n".join(blocks)


@command(
    option("videos", type=Path, help="a folder of videos <clip_id>.mp4"),
    option("--data", type=Path, required=True, help="the data set whose clips they show"),
)
def main(options: argparse.Namespace) -> None:
    """Prepare videos for extraction."""
    print(f"python -m jobs.build {write_manifest(options.videos, options.data)} --out DIR")
