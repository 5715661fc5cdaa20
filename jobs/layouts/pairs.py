"""A plain folder of pairs: ``X.speaker.mp4``, ``X.listener.mp4`` and ``X.wav``, whatever X is, and labels if there are.

``labels.csv`` may say ``attitude``, ``speaker_id``, ``listener_id`` and ``split`` of a ``clip_id``; what is empty or
not there nobody knows. The way in for crops of somebody's own, and the simplest one out.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from jobs.layouts import Layout, Moved, Row, staged, write_each
from jobs.layouts.release.clips import Found, PublishedClip, read_table
from jobs.layouts.release.exported import MEDIA
from jobs.layouts.release.manifest import write_manifest
from pipeline.dataset.read import media_file, read_clips
from pipeline.dataset.storage import Location, local_file
from pipeline.manifest.write import write_csv
from schemas.errors import UserError

LABELS_CSV = "labels.csv"
LABELS = ("clip_id", "attitude", "speaker_id", "listener_id", "split")
ENDINGS = {"speaker": ".speaker.mp4", "listener": ".listener.mp4", "audio": ".wav"}
LICENCE = "not stated: ask whoever made these clips"
MANIFEST = "pairs.toml"


class Pairs(Layout):
    """A clip of which a file is missing is listed and left out; without labels all clips are of the split train."""

    reads = f"a plain folder: X.speaker.mp4, X.listener.mp4, X.wav, and {LABELS_CSV} where there are labels"
    writes = f"a plain folder: X.speaker.mp4, X.listener.mp4, X.wav, {LABELS_CSV}"
    loses = "all columns but films, sound, attitude, people and split"
    read_options = {"--licence": {"help": "of the films, as you know it"}}

    def read(self, folder: Path, out: Path, *, licence: str | None = None) -> Moved:
        """Write the manifest of a folder; `UserError` if no file in it has such a name."""
        labels = {row["clip_id"]: row for row in _labels(folder / LABELS_CSV)}
        if not folder.is_dir():
            raise UserError(f"{folder}: expected a folder with {', '.join('X' + end for end in ENDINGS.values())}")
        files = sorted(path.name for path in folder.iterdir())
        named = defaultdict[str, dict[str, Path]](dict)  # X -> whose file -> it; its ending may be in capitals
        for name, (key, end) in product(files, ENDINGS.items()):
            if name.lower().endswith(end):
                named[name[: -len(end)]][key] = folder / name
        names = set(named)
        if not names:
            expected = ", ".join("X" + end for end in ENDINGS.values())
            raise UserError(f"{folder}: expected {expected}, found {', '.join(files[:5]) or 'nothing'}")
        found = Found([], [f"{name}: stands in {LABELS_CSV} alone" for name in sorted(set(labels) - names)])
        for name in sorted(names):
            row = labels.get(name, {})
            files_of = {key: folder / f"{name}{end}" for key, end in ENDINGS.items()} | named[name]
            people = {key: row.get(key) or None for key in ("speaker_id", "listener_id")}
            known = {"attitude": row.get("attitude", ""), "split": row.get("split") or "train"}
            found.add(PublishedClip(name, **files_of, **people, **known))
        return write_manifest(folder.name, found, out, licence=licence or LICENCE, file=MANIFEST)

    def write(self, dataset: Location, out: Path) -> Moved:
        """Write the clips of a data set; of one whose files cannot be read, none."""
        rows = []

        def write(folder: Path, row: Row) -> None:
            for key, end in ENDINGS.items():
                source = media_file(dataset, row[key if key == "audio" else f"{key}_video"])
                with local_file(source) as file:
                    shutil.copyfile(file, folder / f"{row['clip_id']}{end}")
            rows.append([row[name] for name in LABELS])

        moved = write_each(read_clips(dataset, MEDIA), out, write)
        with staged(out) as folder:
            write_csv(folder / LABELS_CSV, LABELS, rows)
        return moved


def _labels(path: Path) -> Iterator[dict[str, str]]:
    return read_table(path, ["clip_id"]) if path.is_file() else iter(())
