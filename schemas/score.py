"""A score: one number of a listener on one group of clips, with all that decides what it may be compared with.

``scores.json`` holds scores of groups of clips, ``scores.parquet`` what single clips got.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

FORMAT_VERSION = 1
ALL = "all"  # attitudes together: what the papers call average
REFERENCE_RUN = "reference"  # the reference in a prediction's place: its own variance, sharpness, blinks

CLIP_SCORE_SCHEMA = pa.schema(
    [
        pa.field("run", pa.string(), metadata={"meaning": "the listener's name"}),
        pa.field("sample", pa.int32(), metadata={"meaning": "which of several predictions for the same clip"}),
        pa.field("metric", pa.string(), metadata={"meaning": "id of the definition"}),
        pa.field("clip_id", pa.string()),
        pa.field("split", pa.string()),
        pa.field("attitude", pa.string()),
        pa.field("num_frames", pa.int32(), metadata={"meaning": "frames that count: valid in all of its inputs"}),
        pa.field("value", pa.float64(), metadata={"meaning": "null where the metric is not defined for the clip"}),
    ]
)
"""``scores.parquet``: a row a run, sample, clip and metric that single clips have."""


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """What one clip got: a row of ``scores.parquet``; ``value`` is NaN where the metric is not defined for it."""

    run: str
    sample: int
    metric: str
    clip_id: str
    split: str
    attitude: str | None
    num_frames: int
    value: float


@dataclass(frozen=True)
class ScoreSpace:
    """Who made the numbers that a score compares: a stage's fitter, a stage, or a network; nobody where it is empty.

    Attributes
    ----------
    maker : fitter or stage; of a network its weights alone speak. A published number names no more than the fitter.
    version : of the stage. weights : sha256 of what it loaded, by name.
    """

    maker: str = ""
    version: int | None = None
    weights: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        made = self.maker if self.version is None else f"{self.maker} version {self.version}"
        return " with ".join(filter(None, (made, ", ".join(f"{n} (sha256 {h[:12]})" for n, h in self.weights))))

    def as_published(self) -> ScoreSpace:
        """As a paper could state it: the fitter or the network, without version and hash."""
        return ScoreSpace(self.maker or ", ".join(name for name, _ in self.weights))


@dataclass(frozen=True, kw_only=True)
class Comparable:
    """What two numbers must have in common before one may be called better.

    Attributes
    ----------
    metric : id of the definition, which fixes formula, scale and pooling.
    data : name of the data set; split : its part; attitude : of the listeners, or `ALL`.
    space : who made the numbers that were compared; empty for pictures.
    scale : the factor that the numbers carry. pooling : how clips become one number.
    resolution : of the pictures, ``256x256``; empty for metrics that see none.
    """

    metric: str
    data: str
    split: str
    attitude: str
    space: ScoreSpace
    scale: float
    pooling: str
    resolution: str

    def to_json(self) -> dict[str, Any]:
        """Plain values; the space is a text."""
        return {**asdict(self), "space": str(self.space)}


@dataclass(frozen=True, kw_only=True)
class Score:
    """A number with its interval.

    Attributes
    ----------
    low, high : 95 % bootstrap interval over clips; NaN for fewer than two clips.
    num_clips, num_frames, num_samples : what the number was computed from.
    left_out : frames that are not valid in every input, such as those without a face.
    """

    run: str
    key: Comparable
    value: float
    low: float
    high: float
    num_clips: int
    num_frames: int
    num_samples: int
    left_out: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not a number is null, as JSON has none."""
        numbers = {name: value for name, value in asdict(self).items() if name not in ("run", "key")}
        flat = {"run": self.run, **self.key.to_json(), **numbers}
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in flat.items()}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Paired bootstrap of two runs on the same clips: ``first`` minus ``second``, with its 95 % interval."""

    first: str
    second: str
    key: Comparable
    value: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {"first": self.first, "second": self.second, **self.key.to_json(), **numbers}


def clip_score_table(rows: list[ClipScore]) -> pa.Table:
    """Rows as Arrow, in the schema of ``scores.parquet``."""
    values = [{**asdict(row), "value": None if math.isnan(row.value) else row.value} for row in rows]
    return pa.Table.from_pylist(values, schema=CLIP_SCORE_SCHEMA)
