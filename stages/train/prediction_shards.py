"""Predictions as a data set: shards of the data set's own schema, and a ``dataset.json`` that says whose they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.pack import ROW_GROUP_CLIPS
from pipeline.dataset.read import read_clips, read_description
from pipeline.dataset.store import Store
from pipeline.plan import digest
from pipeline.sources.takedown import FILE as TAKEDOWN
from schemas.clip import CLIP_COLUMNS
from schemas.coefficients import STAGE
from schemas.column import Column
from schemas.dataset import shard_name, shard_schema
from schemas.errors import UserError
from stages.train.inputs import column_shapes
from stages.train.plan import fingerprints
from stages.train.prediction import Draw, Predictor, predict_clip

MANIFEST = tuple(column.name for column in CLIP_COLUMNS)
KEPT = ("format_version", "fps", "sample_rate_hz", "vocabulary")  # of the data set's own description


@dataclass(frozen=True)
class Request:
    """What is to be predicted.

    Attributes
    ----------
    root : the data set, which is also the reference to score against.
    attitude : taken for all clips instead of their own, if not empty.
    draw : seed and number of the sample.
    """

    root: Path
    splits: tuple[str, ...]
    attitude: str = ""
    draw: Draw = Draw()


def write_predictions(predictors: Sequence[Predictor], request: Request, out: Path) -> int:
    """Predict all clips of the request into the data set ``out``; returns their number.

    Raises
    ------
    UserError : the runs have different orders, cannot read the data set, or there are no such clips.
    MixedCoefficientsError : the data set's coefficients are another fitter's than the runs'.
    """
    check(predictors, request.root)
    store, predicted = Store(out), _account(predictors, request)
    shards: list[dict[str, Any]] = []
    columns: list[Column] = []
    for split in request.splits:
        rows = _predicted(predictors, request, split)
        if rows:
            columns = _columns(request.root, [name for name in rows[0] if name not in MANIFEST])
            fingerprint = digest([split, predicted, fingerprints(request.root)])
            shards.append(_write_shard(store, rows, columns, (shard_name(split, 0, 1), fingerprint)))
    if not shards:
        raise UserError(f"{request.root}: no clips in the split {' or '.join(request.splits)}")
    if (request.root / TAKEDOWN).is_file():
        store.write_text(out / TAKEDOWN, (request.root / TAKEDOWN).read_text(encoding="utf-8"))
    description = _description(request.root, [column.name for column in columns], shards)
    store.write_text(out / "dataset.json", json.dumps({**description, "predicted": predicted}, indent=1) + "\n")
    store.clear_scratch()
    return sum(shard["clips"] for shard in shards)


def check(predictors: Sequence[Predictor], root: Path) -> None:
    """Raise if the runs have different orders of motion, or one of them cannot read the data set."""
    orders = {str(predictor.folder.root): predictor.run.inputs.order for predictor in predictors}
    if len(set(orders.values())) > 1:
        listing = ", ".join(f"{run}: {order}" for run, order in orders.items())
        raise UserError(f"an ensemble needs runs of one order of motion, found {listing}")
    for predictor in predictors:
        predictor.check(root)


def _account(predictors: Sequence[Predictor], request: Request) -> dict[str, Any]:
    """Whose prediction it is: ``predicted`` in ``dataset.json``."""
    members = [predictor.account() for predictor in predictors]
    return {
        "listener": "+".join(dict.fromkeys(member["listener"] for member in members)),
        "run": " ".join(member["run"] for member in members),
        "sha256": " ".join(member["sha256"] for member in members),
        "members": members,
        "causal": all(member["causal"] for member in members),
        "seed": request.draw.seed,
        "sample": request.draw.sample,
        "attitude": request.attitude or "as in the reference",
        "reference": str(request.root),
    }


def _predicted(predictors: Sequence[Predictor], request: Request, split: str) -> list[dict[str, Any]]:
    """Rows of the clips of a split: the manifest's columns and the predicted ones."""
    columns = list(dict.fromkeys(name for predictor in predictors for name in predictor.run.inputs.columns))
    rows = []
    for row in read_clips(request.root, columns):
        if row["split"] == split:
            seen = {**row, "attitude": request.attitude or row["attitude"]}
            rows.append({**{name: seen[name] for name in MANIFEST}, **predict_clip(predictors, seen, request.draw)})
    return rows


def _columns(root: Path, names: Sequence[str]) -> list[Column]:
    """The data set's columns of some names."""
    entries = {entry["name"]: entry for entry in read_description(root)["columns"]}
    shapes = column_shapes(root, names)
    return [
        Column(name, shapes[name].dtype, shapes[name].axes, entries[name]["unit"], entries[name]["meaning"])
        for name in names
    ]


def _write_shard(
    store: Store, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], identity: tuple[str, str]
) -> dict[str, Any]:
    """Write a shard of an identity (name, fingerprint); returns its entry for ``dataset.json``."""
    name, fingerprint = identity
    every = [*CLIP_COLUMNS, *columns]
    arrays = [column.to_arrow(column.check(row[column.name], row["num_frames"]) for row in rows) for column in every]
    schema = shard_schema(columns).with_metadata({"fingerprint": fingerprint})
    with store.new_file(store.shards / name) as temporary:
        table = pa.table(arrays, schema=schema)
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP_CLIPS)
    return {"file": name, "clips": len(rows), "fingerprint": fingerprint}


def _description(root: Path, columns: Sequence[str], shards: list[dict[str, Any]]) -> dict[str, Any]:
    """The data set's own description, reduced to what a prediction holds."""
    reference = read_description(root)
    packed = [*MANIFEST, *columns]
    kept = {
        key: reference[key] for key in ("format_version", "fps", "sample_rate_hz", "vocabulary") if key in reference
    }
    return {
        **kept,
        "name": f"{reference['name']}_predicted",
        "columns": [entry for entry in reference["columns"] if entry["name"] in packed],
        "packed": packed,
        "stages": {STAGE: reference["stages"][STAGE]},
        "shards": shards,
    }
