"""Reading a data set: its description, and the clips of its shards without those that were withdrawn since.

The one place that parses ``dataset.json`` and opens shards. Both may be other people's: only plain Arrow types, only
files of the data set's own folder, and every mistake ends as a `UserError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from pipeline.dataset.checksums import UNREADABLE, VERIFIED, affected, require_intact
from pipeline.dataset.storage import Location, arrow_source, lies_in, text_of
from pipeline.settings import shown
from pipeline.sources.takedown import WITHDRAWABLE, takedown_ids, withdrawn
from schemas.clip import CLIP_COLUMNS
from schemas.coefficients import PARTS, Provenance, Space, one_provenance
from schemas.column import ROLES, Column, portrait_name
from schemas.dataset import Description, Shard
from schemas.errors import UserError

FILE = "dataset.json"
MAX_DESCRIPTION_BYTES = 2**30
SAMPLE = re.compile(r"sample-\d+")
EXTENSION_KEY = b"ARROW:extension:name"
REPAIR = "python -m jobs.repair"
Portraits = Literal["refuse", "take", "leave"]


def read_description(root: Location) -> Description:
    """``dataset.json`` of a data set; `UserError` if there is none, or it is none."""
    path = root / FILE
    if not path.is_file():
        raise UserError(
            f"{path}: missing; this folder holds no finished data set: python -m jobs.build MANIFEST --out {root}"
        )
    try:
        return Description.of_json(json.loads(text_of(path, MAX_DESCRIPTION_BYTES)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: describes no data set: {type(error).__name__}: {error}; {REPAIR} {root}, or make it again"
        ) from None


def read_shard(
    root: Location, shard: Shard, columns: Sequence[str] | None = None, *, compared: bool = False
) -> pa.Table:
    """The table of a shard, or some columns of it.

    Raises as `read_plain`, for a shard of another data set, and for one that is not what was written, unless the
    caller has ``compared`` that.
    """
    path = root / "shards" / shard.file
    if not compared:
        _require_intact(path)
    table = read_plain(path, columns)
    if (table.schema.metadata or {}).get(b"fingerprint", b"").decode() != shard.fingerprint:
        told = "it is another data set's, or of an older build"
        raise UserError(f"{root}/shards/{shard.file}: not the shard that {FILE} names: {told}; {REPAIR} {root}")
    return table


def read_clips(
    root: Location,
    columns: Sequence[str] = (),
    splits: Collection[str] | None = None,
    *,
    portraits: Portraits = "refuse",
) -> Iterator[dict[str, Any]]:
    """The manifest's columns and those asked for of every clip, shard by shard in order of clip ids.

    With ``splits`` the shards of others are not opened; a clip that lies in another split's shard is a `UserError`.
    Lists of numbers come as numpy arrays of the column's shape, the rest as Python objects. A clip that
    ``takedown.txt`` names by its own id, its source or its people is left out. `UserError` for no data set, one
    without such a column, or with types that are not plain Arrow.

    A clip with a picture of its listener and no video has no frames of it. Who asks for columns of them gets a
    `UserError`, or with ``portraits`` of ``take`` the picture's own in their place, of one row, of ``leave`` None.
    """
    description, gone = read_description(root), takedown_ids(root)
    _check_packed(root, description, columns)
    stands_for = {name: portrait for name in columns if (portrait := portrait_name(name)) in description.packed}
    names = list(dict.fromkeys([*(column.name for column in CLIP_COLUMNS), *columns, *stands_for.values()]))
    for shard in description.shards:
        if splits is not None and shard.split not in splits:
            continue
        table = read_shard(root, shard, names)
        wanted = [Column.of_field(table.schema.field(name)) for name in names]
        for i in range(table.num_rows):
            row = {column.name: column.from_arrow(table[column.name][i]) for column in wanted}
            if not WITHDRAWABLE.fullmatch(row["clip_id"] or ""):  # it becomes the name of files
                raise UserError(f"{root}: {shard.file}: found clip {shown(row['clip_id'])}, allowed: an id")
            if row["split"] != shard.split:
                raise UserError(f"{root}: {shard.file}: found clip {row['clip_id']} of split {shown(row['split'])}")
            if withdrawn(row, gone):
                continue
            pictured = {name: row[of] if of in columns else row.pop(of) for name, of in stands_for.items()}
            if still := {name: value for name, value in pictured.items() if value is not None}:
                if portraits == "refuse":
                    told = f"expected a video, which gives {', '.join(still)}; choose another split"
                    raise UserError(f"{root}: {no_video(row['clip_id'])}, {told}")
                row |= still if portraits == "take" else {}
            yield row


def no_video(clip_id: str) -> str:
    """What readers that need a listener's frames say of a clip without them, before they say what for."""
    return f"clip {clip_id} has a picture of its listener and no video"


def columns_of(root: Location, names: Iterable[str]) -> dict[str, Column]:
    """Columns of a data set's shards as declared, by name; `UserError` if its shards lack one, or it holds no clips."""
    description, wanted = read_description(root), list(names)
    _check_packed(root, description, wanted)
    if not description.shards:
        raise UserError(f"{root}: holds no clips; python -m jobs.check {root}")
    schema = read_schema(root / "shards" / description.shards[0].file)
    return {name: Column.of_field(schema.field(name)) for name in wanted}


def _check_packed(root: Location, description: Description, names: Iterable[str]) -> None:
    if missing := [name for name in names if name not in description.packed]:
        raise UserError(
            f"{root}: its shards hold no column {', '.join(missing)}, only {', '.join(description.packed)}; build the "
            "data set with the stage that writes it"
        )


def provenance_of(root: Location) -> Provenance:
    """Whose coefficients a data set holds; `MixedCoefficientsError` if it has none."""
    return one_fitter([root])


def space_of(root: Location) -> Space:
    """What the numbers of a data set's coefficients are, from the columns of the first person that has them."""
    packed = read_description(root).packed
    columns = {part: f"{role}_{part}" for role in reversed(ROLES) for part in PARTS if f"{role}_{part}" in packed}
    axes = columns_of(root, columns.values())
    return Space(provenance_of(root), {part: axes[name].axes for part, name in columns.items()})


def one_fitter(roots: Sequence[Location]) -> Provenance:
    """The one maker of the coefficients of all data sets; to be asked before they are read together.

    `MixedCoefficientsError`, which names the data sets and their makers, if they differ.
    """
    return one_provenance({str(root): read_description(root) for root in roots})


def sample_name(number: int) -> str:
    """The folder of one of several predictions of the same clips, or of its videos: ``sample-00``, ``sample-01``."""
    return f"sample-{number:02d}"


def sample_names(folder: Path) -> list[str]:
    """The folders of `sample_name` in a folder, in order; none where it holds a single prediction."""
    return sorted(path.name for path in folder.glob("sample-*") if path.is_dir() and SAMPLE.fullmatch(path.name))


def media_file(root: Location, relative: str) -> Location:
    """The file that a media column names.

    `UserError` if it does not lie in the data set's own folder ``media/``, for a data set of other people's may name
    any path, or if it is not what was written.
    """
    path = root / relative
    if not lies_in(path, root / "media") or not path.is_file():
        raise UserError(f"{root}: a clip names the file {relative!r}, expected one that lies in {root / 'media'}")
    if isinstance(path, Path):
        require_intact(root, relative, path)
    return path


def read_plain(path: Location, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a Parquet file, or some columns of it.

    `UserError` if a type in it is no plain one, it lacks a column, or it is no Parquet file.
    """
    with _damage(path):
        file = pq.ParquetFile(arrow_source(path), **VERIFIED)
        names = _plain(path, file.schema_arrow).names
        if missing := sorted(set(columns or ()) - set(names)):
            raise UserError(f"{path}: holds no column {', '.join(missing)}; it is no shard of this data set")
        return file.read(columns=None if columns is None else list(columns))


def read_schema(path: Location) -> pa.Schema:
    """The schema of a Parquet file with the file's own metadata; raises as `read_plain`."""
    with _damage(path):
        return _plain(path, pq.read_schema(arrow_source(path)))


class ClipTable:
    """A Parquet file with a row a clip, a shard or a stage's columns of a part, opened to read single values.

    The footer's statistics say which row groups may hold a clip; of those the ids are read, then one column of one
    group. Raises as `read_plain`.
    """

    def __init__(self, path: Location) -> None:
        self.path = path
        _require_intact(path)
        with _damage(path):
            self.file = pq.ParquetFile(arrow_source(path), **VERIFIED)
            self.schema = _plain(path, self.file.schema_arrow)
        if "clip_id" not in self.schema.names:
            raise UserError(f"{path}: holds no column clip_id; it is no shard of a data set")

    def columns(self) -> list[Column]:
        """The columns as declared, in the order of the file."""
        return [Column.of_field(field) for field in self.schema]

    def find(self, clip_id: str) -> tuple[int, int] | None:
        """Row group of a clip and its row there; None if the file does not hold it."""
        metadata = self.file.metadata
        place = self.file.schema.names.index("clip_id")  # of leaves; no struct of ours has one
        for group in range(metadata.num_row_groups):
            stated = metadata.row_group(group).column(place).statistics
            known = stated is not None and stated.has_min_max and isinstance(stated.min, str)
            if known and not stated.min <= clip_id <= stated.max:
                continue
            ids = self.groups([group], ["clip_id"])["clip_id"]
            row = pa.compute.index(ids, clip_id).as_py()
            if row >= 0:
                return group, row
        return None

    def groups(self, groups: Sequence[int], names: Sequence[str]) -> pa.Table:
        """Some columns of some row groups."""
        with _damage(self.path):
            return self.file.read_row_groups(list(groups), columns=list(names))

    def batches(self, limit_bytes: int) -> list[list[int]]:
        """The row groups in order, together as many as hold so much before compression, or one."""
        batches: list[list[int]] = []
        used = limit_bytes
        for group in range(self.file.metadata.num_row_groups):
            size = self.file.metadata.row_group(group).total_byte_size
            if used + size > limit_bytes:
                batches.append([])
                used = 0
            batches[-1].append(group)
            used += size
        return batches

    def values(self, clip_id: str, names: Sequence[str]) -> dict[str, Any]:
        """Values of one clip as `read_clips` gives them; empty if the file does not hold it."""
        place = self.find(clip_id)
        if place is None:
            return {}
        table = self.groups([place[0]], names)
        wanted = [Column.of_field(self.schema.field(name)) for name in names]
        return {column.name: column.from_arrow(table[column.name][place[1]]) for column in wanted}


def _root_of(path: Location) -> Location:
    """The data set of a file of shards or of columns."""
    folder = path.parent.parent
    return folder.parent if folder.name == "columns" else folder


def _require_intact(path: Location) -> None:
    """Refuse a file on a disk that is not what was written; Arrow notices that of pages, not of all between them."""
    root = _root_of(path)
    if isinstance(path, Path) and isinstance(root, Path) and path.is_file():
        require_intact(root, path.relative_to(root).as_posix(), path)


@contextmanager
def _damage(path: Location) -> Iterator[None]:
    """Turns what Arrow raises about a file into a `UserError`."""
    try:
        yield
    except UNREADABLE as error:
        again = f"mend it or build it again: {REPAIR} {_root_of(path)}"
        raise UserError(f"{path}: cannot be read as Parquet: {error}{affected(path)}; {again}") from None


def _plain(path: Location, schema: pa.Schema) -> pa.Schema:
    """The schema, if it names no extension type, known here or not: a library may run what such a type says."""
    queue = list(schema)
    while queue:
        field = queue.pop()
        if isinstance(field.type, pa.BaseExtensionType) or EXTENSION_KEY in (field.metadata or {}):
            raise UserError(f"{path}: it holds an extension type, expected plain Arrow types; open it nowhere else")
        queue += [field.type.field(i) for i in range(field.type.num_fields)]
    return schema
