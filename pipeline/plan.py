"""The plan: which stages run in which order on which parts, and what is already done.

A fingerprint of (clip, stage) hashes the stage's version, settings and weights, the manifest values that it reads and
the fingerprints of the stages whose columns it reads. A row that carries the wanted fingerprint is done. So a changed
setting recomputes that stage and those that read it, a new stage runs alone, and a killed build goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.clip import Pair, Sounds
from pipeline.gpu import NO_GPU_SETTINGS, GpuSettings
from pipeline.manifest.clips_csv import ClipRow
from pipeline.own_sounds import with_own_sounds
from pipeline.registry import StageCode
from pipeline.settings import as_plain, resolve
from pipeline.stage import Stage
from pipeline.weights import find_weights
from schemas.clip import CLIP_COLUMNS
from schemas.column import PORTRAIT, with_portraits
from schemas.errors import UserError

SOURCE = "source"  # the virtual column that stands for the source file and the clip's span in it
ENGINE_SETTINGS = ("pack", "download", "limits", "gpu")  # tables of [stages] whose readers are no stages
MANIFEST_COLUMNS = {column.name for column in CLIP_COLUMNS}


@dataclass(frozen=True, slots=True)
class ClipTask:
    """A clip to build: its row of the manifest and its source's files with the hash of their bytes."""

    row: ClipRow
    source: Path | Pair
    source_sha256: str
    sounds: Sounds | None = None

    def value_read(self, column: str) -> Any:
        """What a fingerprint takes in for a column that no stage writes."""
        if column == SOURCE:
            portrait = isinstance(self.source, Pair) and self.source.portrait
            kind: list[Any] = [PORTRAIT] if portrait else []  # the same files may stand for a pair of films
            if isinstance(self.source, Pair) and not (self.source.cropped or portrait):
                kind.append("uncropped")
            if self.sounds:
                kind += ["sounds", self.sounds.mixed, *(one for one in self.sounds.own if isinstance(one, int))]
            return [self.source_sha256, str(self.row.span.start_s), str(self.row.span.end_s), *kind]
        return getattr(self.row, column)


@dataclass(frozen=True)
class Part:
    """A small fixed set of clips: the unit of work, of retry and of resume."""

    name: str
    clips: tuple[ClipTask, ...]


def in_turn(parts: Sequence[Part]) -> list[Part]:
    """In which order to give parts out: the shortest, which soon shows a result, then the longest.

    So what is left for the end is short, and no worker waits long for the last one.
    """
    ordered = sorted(parts, key=lambda part: sum(task.row.span.num_frames for task in part.clips))
    return ordered[:1] + ordered[:0:-1]


@dataclass(frozen=True)
class Group:
    """Neighbouring stages with the same wish for resources: one operator of the pipeline, one process a copy."""

    stages: tuple[str, ...]
    cpus: float
    gpus: float


class Pipeline:
    """Stages in the order in which they run, with the column -> stage map.

    Cheap to make, so that every worker makes its own from the codes and settings. With ``portraits`` the stages also
    write what they find in the listeners' pictures.
    """

    def __init__(
        self,
        codes: Sequence[StageCode],
        settings: Mapping[str, Mapping[str, Any]],
        portraits: bool = False,
        gpu: GpuSettings = NO_GPU_SETTINGS,
    ) -> None:
        self.gpu = gpu
        self.codes = {code.name: code for code in codes}
        made = [_make(code, settings.get(code.name, {})) for code in codes]
        self.stages = _in_order(with_own_sounds(_in_order(made)))
        own = {stage.name: stage.writes() for stage in self.stages}
        self.written = {name: with_portraits(columns) if portraits else columns for name, columns in own.items()}
        self.writer = {column.name: name for name, columns in self.written.items() for column in columns}
        self.columns = {column.name: column for columns in self.written.values() for column in columns}

    def fingerprints(self, task: ClipTask) -> dict[str, str]:
        """Stage -> fingerprint that a finished row of this clip carries."""
        prints: dict[str, str] = {}
        for name, reads, others in self._hashed:
            values = (
                f'{key}"{prints[self.writer[column]]}"'
                if column in self.writer
                else f"{key}{as_text(task.value_read(column))}"
                for column, key in reads
            )
            prints[name] = digest_of([f'{{"inputs": {{{", ".join(values)}}}, {others}'])
        return prints

    @cached_property
    def _hashed(self) -> list[tuple[str, Sequence[tuple[str, str]], str]]:
        """Of every stage its name, what it reads, and the text of its identity as `digest` has it behind the inputs.

        What it reads is named as it is and as JSON has it before a value, in JSON's order. A million clips have their
        fingerprints taken three times in a build: all that is the same is made once.
        """
        assert all(key > "inputs" for own in self.identity.values() for key in own)  # the order of the keys
        return [
            (
                stage.name,
                [(column, f"{as_text(column)}: ") for column in sorted(set(stage.reads()))],
                as_text(self.identity[stage.name])[1:],
            )
            for stage in self.stages
        ]

    @cached_property
    def identity(self) -> dict[str, dict[str, Any]]:
        """What makes each stage's output besides its input: version, settings, weights, columns."""
        return {
            stage.name: {
                "stage": stage.name,
                "version": stage.version,
                "settings": as_plain(stage.settings),
                "weights": {name: find_weights(name).sha256 for name in stage.weights()},
                "writes": [[column.name, str(column.arrow_type)] for column in self.written[stage.name]],
            }
            for stage in self.stages
        }

    def downstream(self, names: Iterable[str]) -> set[str]:
        """The named stages and all that read their columns, directly or through others."""
        reached = set(names)
        for stage in self.stages:
            if any(self.writer.get(column) in reached for column in stage.reads()):
                reached.add(stage.name)
        return reached

    def groups(self, with_gpus: bool) -> list[Group]:
        """Neighbours with equal resources fused; without GPUs in the cluster all stages run on CPUs."""
        groups: list[Group] = []
        for stage in self.stages:
            gpus = self.gpu.share_of(stage) if with_gpus else 0.0
            if groups and groups[-1].gpus == gpus:
                last = groups.pop()
                groups.append(Group((*last.stages, stage.name), max(last.cpus, stage.cpus()), gpus))
            else:
                groups.append(Group((stage.name,), float(stage.cpus()), gpus))
        return groups


def digest(value: Any) -> str:
    """A short hash of JSON-ready values: 32 hex digits of SHA-256."""
    return digest_of([as_text(value)])


def digest_of(pieces: Iterable[str]) -> str:
    """`digest` of values whose text comes piece by piece."""
    hashed = hashlib.sha256()
    for piece in pieces:
        hashed.update(piece.encode())
    return hashed.hexdigest()[:32]


as_text = json.JSONEncoder(sort_keys=True).encode  # equal values are equal texts


def select(
    codes: Sequence[StageCode],
    wanted: Sequence[str] | None,
    settings: Mapping[str, Any],
    left_out: Container[str] = (),
) -> list[StageCode]:
    """The wanted stages and those whose columns they read.

    None wants all but those `left_out`, of those that are `Stage.opt_in` the ones that the settings name: an empty
    ``[stages.spectrogram]`` is enough. Where a named one writes what another one would, the other is not wanted.
    """
    known = {code.name: code for code in codes}
    for name in [*(wanted or ()), *settings]:
        if name not in known and name not in ENGINE_SETTINGS:
            raise UserError(f"unknown stage {name!r}; stages: {', '.join(sorted(known))}")
    made = {name: _make(code, settings.get(name, {})) for name, code in known.items()}
    named = [name for name in (settings if wanted is None else wanted) if name in made]
    instead = {column.name: name for name in named for column in made[name].writes()}  # of others that write the same
    if wanted is None:
        usual = [n for n, stage in made.items() if not (stage.opt_in or n in left_out or _writes_any(stage, instead))]
        wanted = [name for name in made if name in named or name in usual]
    writer = {column.name: name for name, stage in made.items() for column in stage.writes()} | instead
    chosen: set[str] = set()
    queue = list(wanted)
    while queue:
        name = queue.pop()
        if name not in chosen:
            chosen.add(name)
            queue += [writer[column] for column in made[name].reads() if column in writer]
    return [code for code in codes if code.name in chosen]


def _writes_any(stage: Stage, columns: Container[str]) -> bool:
    return any(column.name in columns for column in stage.writes())


def without_weights(codes: Sequence[StageCode], settings: Mapping[str, Any]) -> dict[str, str]:
    """Stages that nobody names and whose weights came with a package that is gone, and those that read their columns.

    For each a sentence that says what is missing and how to get it.
    """
    made = [stage for code in codes if code.name not in settings and not (stage := _make(code, {})).opt_in]
    writer = {column.name: stage.name for stage in made for column in stage.writes()}
    found = {
        stage.name: f"weights {name!r} are not here: {find_weights(name).remedy()}"
        for stage in made
        for name in stage.weights()
        if find_weights(name).is_gone
    }
    while reading := {
        stage.name: f"it reads what {writer[column]} writes"
        for stage in made
        for column in stage.reads()
        if writer.get(column) in found and stage.name not in found
    }:
        found |= reading
    return found


def _make(code: StageCode, given: Mapping[str, Any]) -> Stage:
    stage_class = code.load()
    return stage_class(resolve(code.name, stage_class.Settings, given))


def _in_order(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Stages after those whose columns they read; among equals those that may reject come first, so that no work is
    spent on clips that will not be published, then by name."""
    writer: dict[str, str] = {}
    for stage in stages:
        for column in stage.writes():
            if column.name in writer or column.name in MANIFEST_COLUMNS:
                other = writer.get(column.name, "the manifest")
                raise UserError(f"column {column.name!r} is written by both {other} and {stage.name}")
            writer[column.name] = stage.name
    waiting = sorted(stages, key=lambda stage: (not stage.rejects, stage.name))
    done: list[Stage] = []
    available = {SOURCE, *MANIFEST_COLUMNS}
    while waiting:
        ready = next((stage for stage in waiting if available.issuperset(stage.reads())), None)
        if ready is None:
            raise UserError(_unordered(waiting, available, writer))
        waiting.remove(ready)
        done.append(ready)
        available |= {column.name for column in ready.writes()}
    return tuple(done)


def _unordered(waiting: list[Stage], available: set[str], writer: Mapping[str, str]) -> str:
    for stage in waiting:
        for column in stage.reads():
            if column not in available and column not in writer:
                return f"stage {stage.name!r} reads column {column!r}, which no stage of this plan writes"
    return f"stages {', '.join(stage.name for stage in waiting)} read each other's columns in a circle"
