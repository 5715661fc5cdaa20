"""A data set as it describes itself: ``dataset.json``, typed, and the names of its shards.

A build, a prediction, a re-extraction and a set of random numbers are data sets alike; `Description.kind` says which.
The file holds no dates, so that the same data say the same. Reading and writing it is `pipeline.dataset`'s alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

import pyarrow as pa

from schemas.clip import ATTITUDES, CLIP_COLUMNS, SPLITS
from schemas.column import FRAME_AXIS, Column

FORMAT_VERSION = 1
MANIFEST = "manifest"  # who made a clip's own columns, where a stage's name stands for others
BUILT, PREDICTED, RANDOM = "built", "predicted", "random"  # kinds: by jobs.build, jobs.predict, jobs.study.random_set
SHARD_NAME = re.compile(r"(?P<split>[a-z]+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.parquet")

T = TypeVar("T")


def shard_name(split: str, number: int, count: int) -> str:
    """``train-00000-of-00004.parquet``: the naming that Hugging Face ``datasets`` and others know."""
    return f"{split}-{number:05d}-of-{count:05d}.parquet"


def shard_schema(columns: Sequence[Column]) -> pa.Schema:
    """The manifest's columns, then those of the stages, with axes, unit and meaning in each field's metadata."""
    return pa.schema([column.field() for column in (*CLIP_COLUMNS, *columns)])


@dataclass(frozen=True)
class ColumnEntry:
    """A column that a data set holds, in its shards or beside them.

    Attributes
    ----------
    type : Arrow's name of the whole type. axes : as `Column.shape` prints them.
    stage : who wrote it, or `MANIFEST`.
    """

    name: str
    type: str
    axes: str = ""
    unit: str = ""
    meaning: str = ""
    stage: str = MANIFEST
    heavy: bool = False
    media: bool = False

    @classmethod
    def of(cls, column: Column, stage: str) -> ColumnEntry:
        """The entry of a column that a stage wrote."""
        return cls(
            name=column.name,
            type=str(column.arrow_type),
            axes=column.shape,
            unit=column.unit,
            meaning=column.meaning,
            stage=stage,
            heavy=column.heavy,
            media=column.media,
        )

    @property
    def per_frame(self) -> bool:
        return self.axes.startswith(f"({FRAME_AXIS}")


@dataclass(frozen=True)
class Maker:
    """What makes a stage's output besides its input, and the code that ran.

    Attributes
    ----------
    weights : name -> sha256. writes : (column, Arrow type).
    """

    stage: str
    version: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    writes: tuple[tuple[str, str], ...] = ()
    code_sha256: str = ""


@dataclass(frozen=True)
class Shard:
    """A Parquet file of finished clips, all columns joined; what a trainer reads."""

    file: str
    clips: int
    fingerprint: str = ""

    @property
    def split(self) -> str:
        found = SHARD_NAME.fullmatch(self.file)
        assert found, self.file  # `Description.of_json` lets no other name in
        return found["split"]


@dataclass(frozen=True)
class MissingClip:
    """A clip of the manifest that is not in the data set: the stage that stopped it, and why."""

    clip_id: str
    source_id: str
    stage: str
    outcome: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class SourceEntry:
    """Where a source comes from and, where it has a url, whether it could be had."""

    file: str = ""
    licence: str = ""
    sha256: str = ""
    url: str = ""
    availability: str = ""
    date: str = ""
    message: str = ""


@dataclass(frozen=True)
class Predicted:
    """Whose prediction a data set is, and of what.

    Attributes
    ----------
    members : of an ensemble, an entry a run; see `stages.train.prediction`.
    """

    listener: str = ""
    run: str = ""
    sha256: str = ""
    members: tuple[Mapping[str, Any], ...] = ()
    causal: bool = False
    seed: int = 0
    sample: int = 0
    attitude: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Description:
    """What ``dataset.json`` says.

    Attributes
    ----------
    kind : `BUILT`, `PREDICTED` or `RANDOM`; only the first has a ledger and column files.
    columns : every column; ``packed`` : names of those in the shards, in their order.
    stages : name -> who made its columns.
    wanted : clips of the manifest, of which those in the shards are published and the rest missing.
    pack : settings of packing.
    """

    name: str
    kind: str
    fps: int
    sample_rate_hz: int
    columns: tuple[ColumnEntry, ...]
    packed: tuple[str, ...]
    stages: Mapping[str, Maker]
    shards: tuple[Shard, ...]
    attitudes: tuple[str, ...] = ATTITUDES
    splits: tuple[str, ...] = SPLITS
    wanted: int = 0
    missing: tuple[MissingClip, ...] = ()
    takedown: tuple[str, ...] = ()
    sources: Mapping[str, SourceEntry] = field(default_factory=dict)
    pack: Mapping[str, Any] = field(default_factory=dict)
    predicted: Predicted | None = None

    @property
    def published(self) -> int:
        return sum(shard.clips for shard in self.shards)

    def column(self, name: str) -> ColumnEntry:
        """The entry of a column; `KeyError` if there is none."""
        return {entry.name: entry for entry in self.columns}[name]

    def splits_held(self) -> list[str]:
        """The splits of which there are clips, in the order of shards."""
        return list(dict.fromkeys(shard.split for shard in self.shards))

    def to_json(self) -> dict[str, Any]:
        """Plain values, as the file has them."""
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "kind": self.kind,
            "fps": self.fps,
            "sample_rate_hz": self.sample_rate_hz,
            "vocabulary": {"attitude": list(self.attitudes), "split": list(self.splits)},
            "columns": [asdict(entry) for entry in self.columns],
            "packed": list(self.packed),
            "stages": {name: asdict(maker) for name, maker in self.stages.items()},
            "pack": dict(self.pack),
            "shards": [asdict(shard) for shard in self.shards],
            "clips": {"wanted": self.wanted, "published": self.published},
            "missing": [asdict(entry) for entry in self.missing],
            "takedown": list(self.takedown),
            "sources": {name: asdict(entry) for name, entry in self.sources.items()},
            **({"predicted": asdict(self.predicted)} if self.predicted else {}),
        }

    @classmethod
    def of_json(cls, content: Any) -> Description:
        """The description in a file's content, also of data sets that were written before they had a kind.

        Raises
        ------
        ValueError, KeyError, TypeError : it describes no data set; the message says what is wrong.
        """
        if content.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
            raise ValueError(f"format_version: expected {FORMAT_VERSION}, found {content['format_version']!r}")
        shards = tuple(_made(Shard, entry) for entry in content["shards"])
        if wrong := [shard.file for shard in shards if not SHARD_NAME.fullmatch(_text(shard.file))]:
            raise ValueError(f"expected shards such as train-00000-of-00004.parquet, found {wrong[:20]}")
        vocabulary, clips = content.get("vocabulary", {}), content.get("clips", {})
        predicted = content.get("predicted")
        return cls(
            name=_text(content["name"]),
            kind=content.get("kind", PREDICTED if predicted else BUILT if clips else RANDOM),
            fps=int(content["fps"]),
            sample_rate_hz=int(content["sample_rate_hz"]),
            columns=tuple(_made(ColumnEntry, entry) for entry in content["columns"]),
            packed=tuple(_text(name) for name in content["packed"]),
            stages={name: _maker(name, entry) for name, entry in content["stages"].items()},
            shards=shards,
            attitudes=tuple(vocabulary.get("attitude", ATTITUDES)),
            splits=tuple(vocabulary.get("split", SPLITS)),
            wanted=int(clips.get("wanted", sum(shard.clips for shard in shards))),
            missing=tuple(_made(MissingClip, entry) for entry in content.get("missing", ())),
            takedown=tuple(content.get("takedown", ())),
            sources={name: _made(SourceEntry, entry) for name, entry in content.get("sources", {}).items()},
            pack=dict(content.get("pack", {})),
            predicted=_made(Predicted, {**predicted, "members": tuple(predicted["members"])}) if predicted else None,
        )


def _maker(name: str, entry: Mapping[str, Any]) -> Maker:
    writes = tuple((_text(column), _text(kind)) for column, kind in entry.get("writes", ()))
    return _made(Maker, {"stage": name, **entry, "writes": writes})


def _made(kind: type[T], entry: Mapping[str, Any]) -> T:
    """An object of a dataclass from what a file says, without what later versions may add."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]  # T is one of the dataclasses above
    return kind(**{key: value for key, value in entry.items() if key in known})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r}")
    return value
