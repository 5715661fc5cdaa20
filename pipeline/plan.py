"""The plan: which stages run in which order on which parts, and what is already done.

A fingerprint of (clip, stage) hashes the stage's version, settings and weights, the manifest values that it reads and
the fingerprints of the stages whose columns it reads. A row that carries the wanted fingerprint is done. So a changed
setting recomputes that stage and those that read it, a new stage runs alone, and a killed build goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.clip import Pair
from pipeline.manifest.clips_csv import ClipRow
from pipeline.registry import StageCode
from pipeline.settings import as_plain, resolve
from pipeline.stage import Stage
from pipeline.weights import find_weights
from schemas.clip import CLIP_COLUMNS
from schemas.errors import UserError

SOURCE = "source"  # the virtual column that stands for the source file and the clip's span in it
ENGINE_SETTINGS = ("pack", "download", "limits")  # tables of [stages] whose readers are no stages
MANIFEST_COLUMNS = {column.name for column in CLIP_COLUMNS}


@dataclass(frozen=True)
class ClipTask:
    """A clip to build: its row of the manifest and its source file with the hash of its bytes."""

    row: ClipRow
    source: Path | Pair
    source_sha256: str

    def value_read(self, column: str) -> Any:
        """What a fingerprint takes in for a column that no stage writes."""
        if column == SOURCE:
            return [self.source_sha256, str(self.row.span.start_s), str(self.row.span.end_s)]
        return self.row.columns()[column]


@dataclass(frozen=True)
class Part:
    """A small fixed set of clips: the unit of work, of retry and of resume."""

    name: str
    clips: tuple[ClipTask, ...]


@dataclass(frozen=True)
class Group:
    """Neighbouring stages with the same wish for resources: one operator of the pipeline, one process a copy."""

    stages: tuple[str, ...]
    cpus: float
    gpus: float


class Pipeline:
    """Stages in the order in which they run, with the column -> stage map.

    Cheap to make, so that every worker makes its own from the codes and settings.
    """

    def __init__(self, codes: Sequence[StageCode], settings: Mapping[str, Mapping[str, Any]]) -> None:
        self.codes = {code.name: code for code in codes}
        made = [_make(code, settings.get(code.name, {})) for code in codes]
        self.stages = _in_order(made)
        self.writer = {column.name: stage.name for stage in self.stages for column in stage.writes()}
        self.columns = {column.name: column for stage in self.stages for column in stage.writes()}

    def fingerprints(self, task: ClipTask) -> dict[str, str]:
        """Stage -> fingerprint that a finished row of this clip carries."""
        prints: dict[str, str] = {}
        for stage in self.stages:
            inputs = {
                column: prints[self.writer[column]] if column in self.writer else task.value_read(column)
                for column in stage.reads()
            }
            prints[stage.name] = digest({**self.identity[stage.name], "inputs": inputs})
        return prints

    @cached_property
    def identity(self) -> dict[str, dict[str, Any]]:
        """What makes each stage's output besides its input: version, settings, weights, columns."""
        return {
            stage.name: {
                "stage": stage.name,
                "version": stage.version,
                "settings": as_plain(stage.settings),
                "weights": {name: find_weights(name).sha256 for name in stage.weights()},
                "writes": [[column.name, str(column.arrow_type)] for column in stage.writes()],
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
            gpus = float(stage.gpus()) if with_gpus else 0.0
            if groups and groups[-1].gpus == gpus:
                last = groups.pop()
                groups.append(Group((*last.stages, stage.name), max(last.cpus, stage.cpus()), gpus))
            else:
                groups.append(Group((stage.name,), float(stage.cpus()), gpus))
        return groups


def digest(value: Any) -> str:
    """A short hash of JSON-ready values: 32 hex digits of SHA-256."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def select(codes: Sequence[StageCode], wanted: Sequence[str] | None, settings: Mapping[str, Any]) -> list[StageCode]:
    """The wanted stages (None: all) and those whose columns they read."""
    known = {code.name: code for code in codes}
    for name in [*(wanted or ()), *settings]:
        if name not in known and name not in ENGINE_SETTINGS:
            raise UserError(f"unknown stage {name!r}; stages: {', '.join(sorted(known))}")
    if wanted is None:
        return list(codes)
    made = {name: _make(code, settings.get(name, {})) for name, code in known.items()}
    writer = {column.name: name for name, stage in made.items() for column in stage.writes()}
    chosen: set[str] = set()
    queue = list(wanted)
    while queue:
        name = queue.pop()
        if name not in chosen:
            chosen.add(name)
            queue += [writer[column] for column in made[name].reads() if column in writer]
    return [code for code in codes if code.name in chosen]


def _make(code: StageCode, given: Mapping[str, Any]) -> Stage:
    stage_class = code.load()
    return stage_class(resolve(code.name, stage_class.Settings, given))


def _in_order(stages: list[Stage]) -> tuple[Stage, ...]:
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
