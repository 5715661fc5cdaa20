"""A data set as it describes itself: ``dataset.json``, typed, and the names of its shards.

A build, a prediction, a re-extraction and a set of random numbers are data sets alike; `Description.kind` says which.
The file holds no dates, so that the same data say the same. Reading and writing it is `pipeline.dataset`'s alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cache
from itertools import repeat
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa

from schemas.clip import ATTITUDES, CLIP_COLUMNS, SPLITS
from schemas.column import FRAME_AXIS, LISTENER, Column, plain_fields

FORMAT_VERSION = 1
MANIFEST = "manifest"  # who made a clip's own columns, where a stage's name stands for others
BUILT, PREDICTED, RANDOM = "built", "predicted", "random"  # kinds: by jobs.build, jobs.predict, jobs.study.random_set
IMPORTED = "imported"  # by jobs.import_data, of layouts that hold numbers and no films
SUBSET = "subset"  # by jobs.subset, of what jobs.build made; a subset of another kind stays of that kind
FILMED = (BUILT, SUBSET)  # whose people are real: who is who can be asked
SHARD_NAME = re.compile(r"(?P<split>[a-z]+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.parquet")


def shard_name(split: str, number: int, count: int) -> str:
    """``train-00000-of-00004.parquet``: the naming that Hugging Face ``datasets`` and others know."""
    return f"{split}-{number:05d}-of-{count:05d}.parquet"


def shard_schema(columns: Sequence[Column]) -> pa.Schema:
    """The manifest's columns, then those of the stages, with axes, unit and meaning in each field's metadata."""
    return pa.schema([column.field() for column in (*CLIP_COLUMNS, *columns)])


@dataclass(frozen=True)
class ColumnEntry:
    """A column that a data set holds, in its shards or beside them."""

    name: str
    type: str  # Arrow's name of the whole type
    axes: str = ""  # as `Column.shape` prints them
    unit: str = ""
    meaning: str = ""
    stage: str = MANIFEST  # who wrote it
    heavy: bool = False
    media: bool = False

    @classmethod
    def of(cls, column: Column, stage: str) -> ColumnEntry:
        """The entry of a column that a stage wrote."""
        alike = {key: getattr(column, key) for key in ("name", "unit", "meaning", "heavy", "media")}
        return cls(type=str(column.arrow_type), axes=column.shape, stage=stage, **alike)

    @property
    def per_frame(self) -> bool:
        return self.axes.startswith(f"({FRAME_AXIS}")


@dataclass(frozen=True)
class Maker:
    """What makes a stage's output besides its input, and the code that ran."""

    stage: str
    version: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)  # name -> sha256
    writes: tuple[tuple[str, str], ...] = ()  # (column, Arrow type)
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
    video: str = ""  # of a pair, the film that it was cut from


@dataclass(frozen=True)
class Predicted:
    """Whose prediction a data set is, and of what."""

    listener: str = ""
    role: str = LISTENER  # whose motion it is
    run: str = ""
    sha256: str = ""
    members: tuple[Mapping[str, Any], ...] = ()  # of an ensemble, an entry a run; see `stages.train.prediction`
    causal: bool = False
    seed: int = 0
    sample: int = 0
    attitude: str = ""
    sound: str = ""  # whose the speaker's sound was; empty in older files
    reference: str = ""


@dataclass(frozen=True)
class Chosen:
    """Of which data set a subset is, and which of its clips."""

    where: str  # the condition, as `pipeline.dataset.where` reads it
    of: str  # the data set's name
    clips: int  # how many it had


@dataclass(frozen=True, kw_only=True)
class Description:
    """What ``dataset.json`` says, in the order in which it says it."""

    name: str
    kind: str  # `BUILT` or another of those above; only the first has a ledger
    fps: int
    sample_rate_hz: int
    attitudes: tuple[str, ...] = ATTITUDES
    splits: tuple[str, ...] = SPLITS
    columns: tuple[ColumnEntry, ...]
    packed: tuple[str, ...]  # names of the columns in the shards, in their order
    stages: Mapping[str, Maker]  # name -> who made its columns
    pack: Mapping[str, Any] = field(default_factory=dict)  # settings of packing
    shards: tuple[Shard, ...]
    wanted: int = 0  # clips of the manifest; those in the shards are published, the rest missing
    missing: tuple[MissingClip, ...] = ()
    takedown: tuple[str, ...] = ()
    sources: Mapping[str, SourceEntry] = field(default_factory=dict)
    predicted: Predicted | None = None
    chosen: Chosen | None = None

    @property
    def role(self) -> str:
        """Whose motion a prediction holds; the listener's where the data set is none."""
        return self.predicted.role if self.predicted else LISTENER

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
        """Plain values, as the file has them: the fields, of which those of clips and of vocabulary stand together."""
        plain = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self, dict_factory=plain_fields).items()
        }
        said = {key: value for key, value in plain.items() if value is not None}
        vocabulary = {"attitude": said["attitudes"], "split": said.pop("splits")}
        clips = {"wanted": self.wanted, "published": self.published}
        together = {"attitudes": ("vocabulary", vocabulary), "wanted": ("clips", clips)}
        return {"format_version": FORMAT_VERSION, **dict(together.get(key, (key, said[key])) for key in said)}

    @classmethod
    def of_json(cls, content: Any) -> Description:
        """The description in a file's content, also of data sets that were written before they had a kind.

        Raises
        ------
        ValueError, KeyError, TypeError : it describes no data set; the message says what is wrong.
        """
        if content.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
            raise ValueError(f"format_version: expected {FORMAT_VERSION}, found {content['format_version']!r}")
        vocabulary, clips = content.get("vocabulary", {}), content.get("clips", {})
        before_kinds = PREDICTED if content.get("predicted") else BUILT if clips else RANDOM
        found: Description = made(
            cls,
            {
                "kind": before_kinds,
                "attitudes": vocabulary.get("attitude", ATTITUDES),
                "splits": vocabulary.get("split", SPLITS),
                "wanted": clips.get("wanted", sum(shard["clips"] for shard in content["shards"])),
                **content,
                "stages": {name: {"stage": name, **maker} for name, maker in content["stages"].items()},
            },
        )
        if wrong := [shard.file for shard in found.shards if not SHARD_NAME.fullmatch(shard.file)]:
            raise ValueError(f"expected shards such as train-00000-of-00004.parquet, found {wrong[:20]}")
        return found


_hints = cache(get_type_hints)


def made(kind: Any, value: Any) -> Any:
    """A value of a field's type from what a file says, without what later versions may add."""
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        known = {key: made(hint, value[key]) for key, hint in _hints(kind).items() if key in value}
        return kind(**known)
    if origin is tuple:
        kinds = repeat(inner[0], len(value)) if inner[-1] is Ellipsis else inner
        return tuple(made(one, element) for one, element in zip(kinds, value, strict=True))
    if origin is Mapping:
        return {key: made(inner[1], element) for key, element in value.items()}
    if origin is UnionType:
        return None if value is None else made(inner[0], value)
    if kind in (str, int, bool) and not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, found {value!r}")
    return value
