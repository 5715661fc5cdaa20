"""Reading a data set: the clips of its shards, without those that were withdrawn since."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import ManifestError
from pipeline.object_storage import Location, arrow_source
from pipeline.takedown import takedown_ids, withdrawn
from schemas.clip import CLIP_COLUMNS


def read_description(root: Location) -> dict[str, Any]:
    """``dataset.json`` of a built data set.

    Raises
    ------
    ManifestError : there is none.
    """
    path = root / "dataset.json"
    if not path.is_file():
        raise ManifestError(f"{path}: missing; this folder holds no finished data set: python -m jobs.build")
    description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return description


def read_clips(root: Location, columns: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The manifest's columns and those asked for of every clip, shard by shard in order of clip ids.

    Lists of numbers come as numpy arrays of the column's shape, the rest as Python objects. A clip that
    ``takedown.txt`` names by its own id, its source or its people is left out.

    Raises
    ------
    ManifestError : no data set, or one without such a column.
    """
    description, gone = read_description(root), takedown_ids(root)
    if missing := [name for name in columns if name not in description["packed"]]:
        known = ", ".join(description["packed"])
        raise ManifestError(f"{root}: its shards hold no column {', '.join(missing)}, only {known}")
    names = list(dict.fromkeys([*(column.name for column in CLIP_COLUMNS), *columns]))
    for shard in description["shards"]:
        table = pq.read_table(arrow_source(root / "shards" / shard["file"]), columns=names, partitioning=None)
        for i in range(table.num_rows):
            row = {name: _value(table[name][i]) for name in names}
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
