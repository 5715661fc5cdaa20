"""Predictions as a data set: shards of the data set's own schema, and a ``dataset.json`` that says whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.dataset.read import columns_of, read_clips, read_description
from pipeline.dataset.store import Store
from pipeline.dataset.write import write_dataset
from pipeline.sources.takedown import copy_takedown
from schemas.clip import CLIP_COLUMNS
from schemas.dataset import PREDICTED, Predicted
from schemas.errors import UserError
from stages.train.plan import fingerprints
from stages.train.prediction import Draw, Predictor, predict_clip

MANIFEST = tuple(column.name for column in CLIP_COLUMNS)


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
    rows = [row for split in request.splits for row in _predicted(predictors, request, split)]
    if not rows:
        raise UserError(f"{request.root}: no clips in the split {' or '.join(request.splits)}")
    reference, predicted = read_description(request.root), _account(predictors, request)
    wanted = columns_of(request.root, [name for name in rows[0] if name not in MANIFEST])
    write_dataset(
        out,
        rows,
        list(wanted.values()),
        name=f"{reference.name}_predicted",
        kind=PREDICTED,
        stages={name: maker for name, maker in reference.stages.items() if any(c in wanted for c, _ in maker.writes)},
        identity=[asdict(predicted), fingerprints(request.root)],
        fps=reference.fps,
        sample_rate_hz=reference.sample_rate_hz,
        predicted=predicted,
    )
    copy_takedown(request.root, Store(out))
    return len(rows)


def check(predictors: Sequence[Predictor], root: Path) -> None:
    """Raise if the runs have different orders of motion, or one of them cannot read the data set."""
    orders = {str(predictor.folder.root): predictor.run.inputs.order for predictor in predictors}
    if len(set(orders.values())) > 1:
        listing = ", ".join(f"{run}: {order}" for run, order in orders.items())
        raise UserError(f"an ensemble needs runs of one order of motion, found {listing}")
    for predictor in predictors:
        predictor.check(root)


def _account(predictors: Sequence[Predictor], request: Request) -> Predicted:
    """Whose prediction it is."""
    members = tuple(predictor.account() for predictor in predictors)
    return Predicted(
        listener="+".join(dict.fromkeys(member["listener"] for member in members)),
        run=" ".join(member["run"] for member in members),
        sha256=" ".join(member["sha256"] for member in members),
        members=members,
        causal=all(member["causal"] for member in members),
        seed=request.draw.seed,
        sample=request.draw.sample,
        attitude=request.attitude or "as in the reference",
        reference=str(request.root),
    )


def _predicted(predictors: Sequence[Predictor], request: Request, split: str) -> list[dict[str, Any]]:
    """Rows of the clips of a split: the manifest's columns and the predicted ones."""
    columns = list(dict.fromkeys(name for predictor in predictors for name in predictor.run.inputs.columns))
    rows = []
    for row in read_clips(request.root, columns):
        if row["split"] == split:
            seen = {**row, "attitude": request.attitude or row["attitude"]}
            rows.append({**{name: seen[name] for name in MANIFEST}, **predict_clip(predictors, seen, request.draw)})
    return rows
