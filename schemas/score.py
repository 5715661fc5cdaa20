"""A score: one number of a listener on one group of clips, with all that decides what it may be compared with.

``scores.json`` holds scores of groups of clips, ``scores.parquet`` what single clips got.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import pyarrow as pa

FORMAT_VERSION = 1
ALL = "all"  # attitudes together: what the papers call average
NOT_STATED = "not stated"  # a space or resolution that a publication leaves out although its numbers depend on it
REFERENCE_RUN = "reference"  # the reference in a prediction's place: its own variance, sharpness, blinks


def _told(kind: pa.DataType, meaning: str = "") -> Any:
    return field(metadata={"kind": kind, "meaning": {"meaning": meaning} if meaning else None})


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """What a run's prediction of one clip got in one metric: a row of ``scores.parquet``."""

    run: str = _told(pa.string(), "the listener's name")
    sample: int = _told(pa.int32(), "which of several predictions for the same clip")
    metric: str = _told(pa.string(), "id of the definition")
    clip_id: str = _told(pa.string())
    split: str = _told(pa.string())
    attitude: str | None = _told(pa.string())
    num_frames: int = _told(pa.int32(), "frames that count: valid in all of its inputs")
    value: float = _told(pa.float64(), "null where the metric is not defined for the clip")  # NaN here


@dataclass(frozen=True)
class ScoreSpace:
    """Who made the numbers that a score compares: a stage's fitter, a stage, or a network; nobody where it is empty."""

    maker: str = ""  # fitter or stage; of a network its weights alone speak, and a publication says no more than this
    version: int | None = None  # of the stage
    weights: tuple[tuple[str, str], ...] = ()  # sha256 of what it loaded, by name

    def __str__(self) -> str:
        made = self.maker if self.version is None else f"{self.maker} version {self.version}"
        return " with ".join(filter(None, (made, ", ".join(f"{n} (sha256 {h[:12]})" for n, h in self.weights))))

    def as_published(self) -> ScoreSpace:
        """As a paper could state it: the fitter or the network, without version and hash."""
        return ScoreSpace(self.maker or ", ".join(name for name, _ in self.weights))


@dataclass(frozen=True, kw_only=True)
class Comparable:
    """What two numbers must have in common before one may be called better."""

    metric: str  # id of the definition, which fixes formula, scale and pooling
    data: str  # name of the data set
    split: str
    attitude: str  # of the listeners, or `ALL`
    space: ScoreSpace  # who made the numbers that were compared; empty for pictures; its maker may be `NOT_STATED`
    scale: float  # the factor that the numbers carry
    pooling: str  # how clips become one number
    resolution: str  # of the pictures, ``256x256`` or `NOT_STATED`; empty for metrics that see none

    def to_json(self) -> dict[str, Any]:
        """Plain values; the space is a text."""
        return {**asdict(self), "space": str(self.space)}


@dataclass(frozen=True, kw_only=True)
class Score:
    """A number with its interval."""

    run: str
    key: Comparable
    value: float
    low: float  # and high: 95 % bootstrap interval over clips; NaN for fewer than two clips
    high: float
    num_clips: int  # the number was computed from so many clips, frames and samples
    num_frames: int
    num_samples: int
    left_out: int  # frames that are not valid in every input, such as those without a face

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not a number is null, as JSON has none."""
        flat = _flat(self)
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
        return _flat(self)


def _flat(result: Score | Difference) -> dict[str, Any]:
    """A result's fields in order, with those of its key in the key's place."""
    named = {field.name: getattr(result, field.name) for field in fields(result)}
    parts = [value.to_json() if isinstance(value, Comparable) else {name: value} for name, value in named.items()]
    return {name: value for part in parts for name, value in part.items()}


CLIP_SCORE_SCHEMA = pa.schema(
    [pa.field(one.name, one.metadata["kind"], metadata=one.metadata["meaning"]) for one in fields(ClipScore)]
)
"""``scores.parquet``: a row a run, sample, clip and metric that single clips have."""


def clip_score_table(rows: list[ClipScore]) -> pa.Table:
    """Rows as Arrow, in the schema of ``scores.parquet``."""
    values = [{**asdict(row), "value": None if math.isnan(row.value) else row.value} for row in rows]
    return pa.Table.from_pylist(values, schema=CLIP_SCORE_SCHEMA)
