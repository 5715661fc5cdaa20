"""Reading a data set: its description, and the clips of its shards without those that were withdrawn since.

The one place that parses ``dataset.json`` and opens shards. Both may be other people's: only plain Arrow types, only
files of the data set's own folder, and every mistake ends as a `UserError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.storage import Location, arrow_source, lies_in, text_of
from pipeline.settings import shown
from pipeline.sources.takedown import WITHDRAWABLE, takedown_ids, withdrawn
from schemas.clip import CLIP_COLUMNS
from schemas.coefficients import PARTS, Provenance, Space, one_provenance
from schemas.column import ROLES, Column
from schemas.dataset import Description, Shard
from schemas.errors import UserError

FILE = "dataset.json"
MAX_DESCRIPTION_BYTES = 2**30
SAMPLE = re.compile(r"sample-\d+")
EXTENSION_KEY = b"ARROW:extension:name"


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
            f"{path}: describes no data set: {type(error).__name__}: {error}; run the command that made it again"
        ) from None


def read_shard(root: Location, shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of a shard, or some columns of it; raises as `read_plain`."""
    return read_plain(root / "shards" / shard.file, columns)


def read_clips(
    root: Location, columns: Sequence[str] = (), splits: Collection[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The manifest's columns and those asked for of every clip, shard by shard in order of clip ids.

    With ``splits`` the shards of others are not opened; a clip that lies in another split's shard is a `UserError`.
    Lists of numbers come as numpy arrays of the column's shape, the rest as Python objects. A clip that
    ``takedown.txt`` names by its own id, its source or its people is left out. `UserError` for no data set, one
    without such a column, or with types that are not plain Arrow.
    """
    description, gone = read_description(root), takedown_ids(root)
    _check_packed(root, description, columns)
    names = list(dict.fromkeys([*(column.name for column in CLIP_COLUMNS), *columns]))
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
            if not withdrawn(row, gone):
                yield row


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
    """The file that a media column names; `UserError` if it does not lie in the data set's own folder ``media/``.

    A data set of other people's may name any path.
    """
    path = root / relative
    if not lies_in(path, root / "media") or not path.is_file():
        raise UserError(f"{root}: a clip names the file {relative!r}, expected one that lies in {root / 'media'}")
    return path


def read_plain(path: Location, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a Parquet file, or some columns of it.

    `UserError` if a type in it is no plain one, it lacks a column, or it is no Parquet file.
    """
    try:
        file = pq.ParquetFile(arrow_source(path))
        names = _plain(path, file.schema_arrow).names
        if missing := sorted(set(columns or ()) - set(names)):
            raise UserError(f"{path}: holds no column {', '.join(missing)}; it is no shard of this data set")
        return file.read(columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}; build it again") from None


def read_schema(path: Location) -> pa.Schema:
    """The schema of a Parquet file with the file's own metadata; raises as `read_plain`."""
    try:
        return _plain(path, pq.read_schema(arrow_source(path)))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}; build it again") from None


def _plain(path: Location, schema: pa.Schema) -> pa.Schema:
    """The schema, if it names no extension type, known here or not: a library may run what such a type says."""
    queue = list(schema)
    while queue:
        field = queue.pop()
        if isinstance(field.type, pa.BaseExtensionType) or EXTENSION_KEY in (field.metadata or {}):
            raise UserError(f"{path}: it holds an extension type, expected plain Arrow types; open it nowhere else")
        queue += [field.type.field(i) for i in range(field.type.num_fields)]
    return schema
