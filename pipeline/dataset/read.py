"""Reading a data set: the clips of its shards, without those that were withdrawn since."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.dataset.plain_parquet import read_plain
from pipeline.dataset.storage import Location, lies_in, text_of
from pipeline.settings import shown
from pipeline.sources.takedown import WITHDRAWABLE, takedown_ids, withdrawn
from schemas.clip import CLIP_COLUMNS
from schemas.dataset import SHARD_NAME
from schemas.errors import UserError

MAX_DESCRIPTION_BYTES = 2**30
SAMPLE = re.compile(r"sample-\d+")


def read_description(root: Location) -> dict[str, Any]:
    """``dataset.json`` of a built data set.

    Raises
    ------
    UserError : there is none, or it is none.
    """
    path = root / "dataset.json"
    if not path.is_file():
        raise UserError(f"{path}: missing; this folder holds no finished data set: python -m jobs.build")
    try:
        description: dict[str, Any] = json.loads(text_of(path, MAX_DESCRIPTION_BYTES))
        names = [shard["file"] for shard in description["shards"]]
        listed = all(isinstance(name, str) for name in [*names, *description["packed"]])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: describes no data set: {type(error).__name__}: {error}") from None
    if not listed or not all(SHARD_NAME.fullmatch(name) for name in names):
        raise UserError(f"{path}: expected shards such as train-00000-of-00004.parquet, found {names[:20]}")
    return description


def sample_name(number: int) -> str:
    """The folder of one of several predictions of the same clips, or of its videos: ``sample-00``, ``sample-01``."""
    return f"sample-{number:02d}"


def sample_names(folder: Path) -> list[str]:
    """The folders of `sample_name` in a folder, in order; none where it holds a single prediction."""
    return sorted(path.name for path in folder.glob("sample-*") if path.is_dir() and SAMPLE.fullmatch(path.name))


def media_file(root: Location, relative: str) -> Location:
    """The file that a media column names, which must lie in the data set's own folder ``media/``.

    Raises
    ------
    UserError : it lies elsewhere, or is not there; a data set of other people's may name any path.
    """
    path = root / relative
    if not lies_in(path, root / "media") or not path.is_file():
        raise UserError(f"{root}: a clip names the file {relative!r}, expected one that lies in {root / 'media'}")
    return path


def read_clips(root: Location, columns: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The manifest's columns and those asked for of every clip, shard by shard in order of clip ids.

    Lists of numbers come as numpy arrays of the column's shape, the rest as Python objects. A clip that
    ``takedown.txt`` names by its own id, its source or its people is left out.

    Raises
    ------
    UserError : no data set, one without such a column, or with types that are not plain Arrow.
    """
    description, gone = read_description(root), takedown_ids(root)
    if missing := [name for name in columns if name not in description["packed"]]:
        known = ", ".join(description["packed"])
        raise UserError(f"{root}: its shards hold no column {', '.join(missing)}, only {known}")
    names = list(dict.fromkeys([*(column.name for column in CLIP_COLUMNS), *columns]))
    for shard in description["shards"]:
        table = read_plain(root / "shards" / shard["file"], names)
        for i in range(table.num_rows):
            row = {name: _value(table[name][i]) for name in names}
            if not WITHDRAWABLE.fullmatch(row["clip_id"] or ""):  # it becomes the name of files
                raise UserError(f"{root}: {shard['file']}: found clip {shown(row['clip_id'])}, allowed: an id")
            if not withdrawn(row, gone):
                yield row


def _value(scalar: pa.Scalar) -> Any:
    """A list of numbers, or of fixed-size lists of them, as an array; anything else as Python has it."""
    if not scalar.is_valid or not isinstance(scalar, pa.ListScalar | pa.FixedSizeListScalar):
        return scalar.as_py()
    values, shape = scalar.values, [len(scalar.values)]
    while pa.types.is_fixed_size_list(values.type):
        shape.append(values.type.list_size)
        values = values.flatten()
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)):
        return scalar.as_py()
    return values.to_numpy(zero_copy_only=False).reshape(shape)
