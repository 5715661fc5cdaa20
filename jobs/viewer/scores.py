"""Scores of single clips, from the ``scores.parquet`` of evaluations, beside the clips that they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.viewer.index import Entry
from jobs.viewer.measures import HIGH, LOW, Measure
from pipeline.dataset.read import read_plain
from pipeline.dataset.storage import Location
from schemas.score import CLIP_SCORE_SCHEMA
from stages.evaluate.metrics.definition import Direction
from stages.evaluate.metrics.registry import definitions

FILE = "scores.parquet"


@dataclass(frozen=True)
class ClipScores:
    """What one evaluation says of single clips; ``value`` is the mean over samples."""

    table: pa.Table  # run, metric, clip_id, value

    @classmethod
    def read(cls, path: Location) -> ClipScores:
        """`UserError` if it is no such file."""
        rows = read_plain(path, CLIP_SCORE_SCHEMA.names)
        means = rows.group_by(["run", "metric", "clip_id"]).aggregate([("value", "mean")])
        return cls(means.rename_columns({"value_mean": "value"}))

    def of_clip(self, clip_id: str) -> list[dict[str, Any]]:
        """The scores of one clip, in the order of the registry of metrics."""
        found = self.table.filter(pa.compute.equal(self.table["clip_id"], clip_id)).to_pylist()
        order = {name: place for place, name in enumerate(definitions())}
        rows = sorted(found, key=lambda row: (row["run"], order.get(row["metric"], len(order))))
        return [{key: row[key] for key in ("run", "metric", "value")} | _defined(row["metric"]) for row in rows]

    def entries(self) -> Iterator[tuple[list[str], Entry]]:
        """A measure for every run and metric: the ids of clips, and their values."""
        runs = pa.compute.binary_join_element_wise(self.table["run"], self.table["metric"], "/")
        for key in pa.compute.unique(runs).to_pylist():
            rows = self.table.filter(pa.compute.equal(runs, key))
            metric = rows["metric"][0].as_py()
            said = _defined(metric)
            name = f"score.{rows['run'][0].as_py()}.{metric}"
            one = Measure(
                name, "", said["unit"], said["meaning"], LOW if said["better"] == Direction.HIGHER.value else HIGH
            )
            values = rows["value"].to_numpy().astype(np.float32)
            yield rows["clip_id"].to_pylist(), Entry((one,), values[None])


def _defined(metric: str) -> dict[str, str]:
    """How a metric is shown; one that is not ours has its id alone."""
    known = definitions().get(metric)
    if known is None:
        return {"name": metric, "unit": "", "better": "", "meaning": ""}
    return {"name": known.name, "unit": known.unit, "better": known.direction.value, "meaning": known.formula}
