"""Writing manifests and their clips.csv, for programs that make data: the demo, imports, videos to extract from."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.clock import seconds_of
from pipeline.manifest.clips_csv import CSV_COLUMNS

Table = Mapping[str, Any]


@dataclass(frozen=True)
class PairClip:
    """A clip whose people have a video each: a source of its own, shown from its first frame on."""

    clip_id: str
    num_frames: int
    files: Mapping[str, Path]  # by the manifest's keys: speaker, listener, and audio or each one's own
    labels: Sequence[str | None]  # attitude, speaker_id, listener_id, split; None or empty where nobody knows
    licence: str
    video: str = ""  # the film that it was cut from, by name
    cropped: bool = True  # whether the videos are ready crops


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table under its header; None is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def manifest_text(dataset: Table, sources: Iterable[Table], stages: Mapping[str, Table] = {}) -> str:
    """A manifest; text, numbers and lists are in TOML what they are in JSON."""
    tables = [("[dataset]", dataset), *(("[[sources]]", source) for source in sources)]
    tables += [(f"[stages.{name}]", settings) for name, settings in stages.items()]
    blocks = [[head, *(f"{key} = {json.dumps(value)}" for key, value in table.items()), ""] for head, table in tables]
    return "\n".join("\n".join(block) for block in blocks)


def write_pairs(path: Path, dataset: Table, pairs: Sequence[PairClip], stages: Mapping[str, Table] = {}) -> None:
    """Write a manifest of pairs and, beside it, the ``clips`` that ``dataset`` names."""
    rows, sources = [], []
    for pair in pairs:
        end_s = f"{float(seconds_of(pair.num_frames)):.9f}"
        rows.append([pair.clip_id, 0, end_s, "", *pair.labels, pair.clip_id])
        files = {name: os.path.relpath(file, path.parent) for name, file in pair.files.items()}
        more = ({"video": pair.video} if pair.video else {}) | ({} if pair.cropped else {"cropped": False})
        sources.append({"id": pair.clip_id, **files, "licence": pair.licence, **more})
    write_csv(path.parent / dataset["clips"], [*CSV_COLUMNS, "clip_id"], rows)
    path.write_text(manifest_text(dataset, sources, stages), encoding="utf-8")
