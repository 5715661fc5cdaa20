"""A data set as the viewer has it open: its clips, its columns, and single values, while it may be built or withdrawn.

What a clip holds is looked for in the shards first and then in the stages' column files, so that a data set shows that
has no shards yet, and columns show that are too heavy for them. ``takedown.txt`` is read for every answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.clock import FPS, SAMPLE_RATE_HZ
from pipeline.dataset.lock import is_locked
from pipeline.dataset.read import FILE, ClipTable, media_file, read_description, read_plain
from pipeline.dataset.storage import Location
from pipeline.dataset.store import Store
from pipeline.ledger.progress import RunStart
from pipeline.sources.takedown import KEYS, WITHDRAWABLE, takedown_ids, withdrawn
from schemas.clip import CLIP_COLUMNS
from schemas.column import ROLES, Column
from schemas.dataset import BUILT, MANIFEST, ColumnEntry, Description
from schemas.errors import UserError
from schemas.outcome import OK, OUTCOME_FIELDS

MEDIA = ("speaker.mp4", "listener.mp4", "audio.wav")
OWN_SOUNDS = tuple(f"{role}.wav" for role in ROLES)  # which few clips have
ALL_MEDIA = MEDIA + OWN_SOUNDS
LOOK_EVERY_S = 5.0  # for new files of a data set that has no shards yet
MANIFEST_NAMES = tuple(column.name for column in CLIP_COLUMNS)
MANIFEST_SCHEMA = pa.schema([(column.name, column.arrow_type) for column in CLIP_COLUMNS])
OUTCOME_NAMES = tuple(one.name for one in OUTCOME_FIELDS)


class UnknownClipError(UserError):
    """There is no such clip, or it was withdrawn: the two are not told apart."""


@dataclass(frozen=True)
class Clips:
    """The clips in order: the manifest's columns, and where each lies."""

    table: pa.Table
    shard: np.ndarray  # (clip,), number of its shard; -1 where it stands in column files alone
    row: dict[str, int]  # by id

    def __len__(self) -> int:
        return len(self.shard)

    def one(self, row: int) -> dict[str, Any]:
        """The manifest's columns of one clip."""
        return {name: self.table[name][row].as_py() for name in MANIFEST_NAMES}

    def withdrawn(self, gone: set[str]) -> np.ndarray:
        """bool (clip,): those of which ``gone`` names the clip, the source or a person."""
        ids = pa.array(sorted(gone), pa.string())
        found = np.zeros(len(self), bool)
        for key in KEYS:
            found |= pc.is_in(self.table[key], ids).to_numpy()
        for row in np.flatnonzero(pc.is_null(self.table["source_id"]).to_numpy()) if gone else ():
            found[row] |= is_withdrawn(self.one(row), gone)
        return found

    def of_sources(self, rows: Sequence[int]) -> list[tuple[str, int, int]]:
        """Source, clips and frames of some clips."""
        named = self.table.select(["source_id", "num_frames"]).take(pa.array(rows, pa.int64()))
        found = named.group_by("source_id").aggregate([([], "count_all"), ("num_frames", "sum")])
        return [(row["source_id"], row["count_all"], row["num_frames_sum"] or 0) for row in found.to_pylist()]


class Opened:
    """One data set. `refresh` takes in what has changed on the disk; everything else reads."""

    def __init__(self, root: Location) -> None:
        self.root, self.store = root, Store(root)
        self.generation = 0  # grows with every change
        self._stamp: Any = None
        self._files: list[Location] = []
        self._looked = -LOOK_EVERY_S
        self.refresh()

    def refresh(self) -> None:
        """Read the description and the list of clips again where they have changed."""
        stamp = (stamp_of(self.root / FILE), stamp_of(self.store.ledger / "parts.json"))
        if stamp[0] is None and time.monotonic() > self._looked + LOOK_EVERY_S:  # a first build adds files of columns
            self._files, self._looked = self.store.column_files(), time.monotonic()
        stamp = (*stamp, *map(str, self._files if stamp[0] is None else ()))
        if stamp == self._stamp:
            return
        self.generation += 1
        self.parts = _parts(self.store)
        if (self.root / FILE).is_file():
            self.description = read_description(self.root)
        else:
            self.description = self._half_built()
        self.missing = {one.clip_id: one.source_id for one in self.description.missing}
        self.clips = self._read_clips()
        self._stamp = stamp

    @property
    def is_building(self) -> bool:
        """Whether somebody works at it."""
        return RunStart.read(self.store) is not None and is_locked(self.root)

    def _half_built(self) -> Description:
        """What can be said of a data set whose first build has not ended: the columns that there are."""
        files = self._files
        start = RunStart.read(self.store)
        if start is None and not files:
            return read_description(self.root)  # raises: there is none
        entries = [ColumnEntry.of(column, MANIFEST) for column in CLIP_COLUMNS]
        order = list(start.waiting) if start else []
        for path in {path.parent.name: path for path in files}.values():
            for column in ClipTable(path).columns():
                if column.name not in OUTCOME_NAMES:
                    media = column.name.endswith(("audio", "_video"))
                    entries.append(ColumnEntry.of(replace(column, media=media), path.parent.name))
        rank = {stage: number for number, stage in enumerate([MANIFEST, *order])}
        entries.sort(key=lambda entry: rank.get(entry.stage, len(rank)))
        name = start.name if start else Path(str(self.root)).name
        return Description(
            name=name,
            kind=BUILT,
            fps=FPS,
            sample_rate_hz=SAMPLE_RATE_HZ,
            columns=tuple(entries),
            packed=(),
            stages={},
            shards=(),
        )

    def _read_clips(self) -> Clips:
        shards = self.description.shards
        tables = [read_plain(self.root / "shards" / shard.file, MANIFEST_NAMES) for shard in shards]
        number = np.repeat(np.arange(len(shards)), [table.num_rows for table in tables])
        try:
            whole = pa.concat_tables(
                [MANIFEST_SCHEMA.empty_table(), *(table.cast(MANIFEST_SCHEMA) for table in tables)]
            )
        except (pa.ArrowException, ValueError) as error:  # other people's
            raise UserError(f"{self.root}: its clips are described in other types than expected: {error}") from None
        if not shards and self.parts:
            ids = pa.array(sorted(self.parts), pa.string())
            others = [pa.nulls(len(ids), one.type) for one in MANIFEST_SCHEMA if one.name != "clip_id"]
            whole = pa.table([ids, *others], schema=MANIFEST_SCHEMA)
            number = np.full(len(ids), -1)
        return Clips(whole, number, {clip_id: row for row, clip_id in enumerate(whole["clip_id"].to_pylist())})

    # -- one clip --------------------------------------------------------------------------------------------------

    def manifest(self, clip_id: str) -> dict[str, Any]:
        """The manifest's columns of a clip, as far as they are known.

        `UnknownClipError` if there is none, its id can be no id, or it was withdrawn.
        """
        row = self.clips.row.get(clip_id)
        if row is None and clip_id not in self.parts or not WITHDRAWABLE.fullmatch(clip_id):
            raise UnknownClipError(f"{self.root}: there is no clip of that id")
        if row is not None:
            said = self.clips.one(row)
        else:
            said = dict.fromkeys(MANIFEST_NAMES) | {"clip_id": clip_id, "source_id": self.missing.get(clip_id)}
        if is_withdrawn(said, takedown_ids(self.root)):
            raise UnknownClipError(f"{self.root}: there is no clip of that id")
        return said

    def files_of(self, clip_id: str) -> Iterator[ClipTable]:
        """The files that may hold columns of a clip: its shard, then those of the stages."""
        row = self.clips.row.get(clip_id)
        if row is not None and self.clips.shard[row] >= 0:
            yield ClipTable(self.root / "shards" / self.description.shards[self.clips.shard[row]].file)
        if clip_id in self.parts:
            stages = dict.fromkeys(entry.stage for entry in self.description.columns if entry.stage != MANIFEST)
            paths = [self.store.column_file(stage, self.parts[clip_id]) for stage in stages]
            yield from (ClipTable(path) for path in paths if path.is_file())

    def columns_of_clip(self, clip_id: str) -> list[Column]:
        """The columns that a clip has, in the order of the data set."""
        found: dict[str, Column] = {}
        for table in self.files_of(clip_id):
            if _holds(table, clip_id):
                found |= {one.name: one for one in table.columns() if one.name not in {*found, *OUTCOME_NAMES[1:]}}
        rank = {entry.name: number for number, entry in enumerate(self.description.columns)}
        return sorted(found.values(), key=lambda column: rank.get(column.name, len(rank)))

    def value(self, clip_id: str, name: str) -> tuple[Column, Any] | None:
        """A column of a clip as declared, and its value; None where the clip has none."""
        for table in self.files_of(clip_id):
            if name in table.schema.names and _holds(table, clip_id):
                value = table.values(clip_id, [name])[name]
                return None if value is None else (Column.of_field(table.schema.field(name)), value)
        return None

    def media(self, clip_id: str, name: str) -> Location | None:
        """A media file of a clip, one of `ALL_MEDIA`; None where it has none."""
        assert name in ALL_MEDIA, name
        path = self.root / "media" / clip_id / name
        return media_file(self.root, f"media/{clip_id}/{name}") if path.is_file() else None


def is_withdrawn(said: dict[str, Any], gone: set[str]) -> bool:
    """Whether a clip is withdrawn; one whose source is not known, by how its id begins."""
    unknown = said["source_id"] is None
    return bool(withdrawn(said, gone)) or unknown and any(said["clip_id"].startswith(f"{one}_") for one in gone)


def _holds(table: ClipTable, clip_id: str) -> bool:
    """Whether a file has columns of a clip, not only an outcome that says why there are none."""
    if "outcome" in table.schema.names:
        return table.values(clip_id, ["outcome"]).get("outcome") == OK
    return table.find(clip_id) is not None


def as_floats(value: np.ndarray) -> np.ndarray:
    """A numeric value as little-endian float32 in C order; bools are 0 and 1, what is not finite stays so."""
    return np.ascontiguousarray(value, dtype="<f4")


def _parts(store: Store) -> dict[str, str]:
    path = store.ledger / "parts.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def stamp_of(path: Location) -> Any:
    """What changes when a file is replaced; None where there is none."""
    if isinstance(path, Path):
        found = path.stat() if path.is_file() else None
        return found and (found.st_mtime_ns, found.st_size, found.st_ino)
    return (path.modified_s(), path.size_bytes()) if path.is_file() else None
