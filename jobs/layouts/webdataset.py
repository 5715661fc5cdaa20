"""WebDataset: tar files of clips, one behind the other, as many trainers stream them.

A clip's files follow each other and share the name before the first dot: ``.json`` (the manifest's columns and every
other that is no array), ``.<column>.npy`` of every array, and ``.<column>.mp4`` or ``.wav`` of every medium.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from jobs.layouts import Layout, Moved, Row, staged
from pipeline.dataset.read import columns_of, media_file, read_clips, read_description
from pipeline.dataset.storage import Location, local_file
from schemas.clip import CLIP_COLUMNS
from schemas.errors import UserError

SHARD_CLIPS = 256


class WebDataset(Layout):
    """All columns go out, on the clips' own clock; the same data set gives the same bytes."""

    writes = "tar files <split>-000000.tar: a clip's .json, .<column>.npy, .<column>.mp4, .<column>.wav"
    loses = "columns that only stand outside the shards, units and meanings, who made what (dataset.json)"

    def write(self, dataset: Location, out: Path) -> Moved:
        """Write the clips of a data set, `SHARD_CLIPS` a file at most and no file of two splits."""
        description = read_description(dataset)
        names = [name for name in description.packed if name not in {column.name for column in CLIP_COLUMNS}]
        arrays = {name for name, column in columns_of(dataset, names).items() if column.is_numeric and column.axes}
        media = {name for name in names if description.column(name).media}
        moved, held = Moved(), dict.fromkeys(description.splits_held(), 0)
        with staged(out) as folder:
            for row in read_clips(dataset, names):
                try:
                    files = _files(dataset, row, arrays, media)
                except UserError as error:
                    moved.problems.append(f"{row['clip_id']}: {error}")
                    continue
                path = folder / f"{row['split']}-{held[row['split']] // SHARD_CLIPS:06d}.tar"
                with tarfile.open(path, "a", format=tarfile.USTAR_FORMAT) as tar:
                    for ending, content in files.items():
                        entry = tarfile.TarInfo(f"{row['clip_id']}.{ending}")
                        entry.size = len(content)
                        tar.addfile(entry, io.BytesIO(content))
                held[row["split"]] += 1
                moved.clips.append(row["clip_id"])
        return moved


def _files(dataset: Location, row: Row, arrays: set[str], media: set[str]) -> dict[str, bytes]:
    """The contents of a clip's files, by ending."""
    plain: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for name, value in row.items():
        if name in arrays and value is not None:
            file = io.BytesIO()
            np.save(file, value)
            files[f"{name}.npy"] = file.getvalue()
        elif name in media and value is not None:
            with local_file(media_file(dataset, value)) as path:
                files[f"{name}{path.suffix}"] = path.read_bytes()
        else:
            plain[name] = value
    return {"json": json.dumps(plain, sort_keys=True).encode(), **files}
