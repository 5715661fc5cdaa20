"""The manifest: a TOML file that names the data set and its sources, and a CSV with a row a clip.

Every mistake ends as a `ManifestError` that says file, line, column, what was found and what is allowed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.clips_csv import ClipRow, read_clips
from pipeline.config import ManifestError, read_text
from pipeline.splits import SplitRule, check_splits, derive_splits
from schemas.clip import ID_PATTERN, SPLITS

DATASET_KEYS = ("name", "clips", "min_yield", "stages", "split")
SOURCE_KEYS = ("id", "path", "url", "licence", "sha256")
MAX_MANIFEST_BYTES = 16 * 2**20  # a manifest is written by people: anything larger is a mistake or an attack


@dataclass(frozen=True)
class Source:
    """One original video."""

    source_id: str
    path: Path
    licence: str
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """A data set to build: its sources, its clips sorted by id, and the settings of its stages."""

    name: str
    path: Path
    sources: dict[str, Source]
    clips: list[ClipRow]
    min_yield: float = 0.0
    stages: tuple[str, ...] | None = None  # None: all of them
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest and its clips.

    Raises
    ------
    ManifestError : anything that would make a build fail or lie, found before it starts.
    """
    document = _read_toml(path)
    _known_keys(path, "", document, ("dataset", "sources", "stages"))
    dataset = _table(path, document, "dataset")
    _known_keys(path, "[dataset] ", dataset, DATASET_KEYS)
    sources = _read_sources(path, document.get("sources", []))
    clips_file = path.parent / _text(path, dataset, "[dataset] clips", "clips")
    clips = read_clips(clips_file, sources)
    rule = SplitRule.parse(dataset["split"]) if "split" in dataset else None
    splits, warnings = _settle_splits(clips_file, clips, rule)
    clips = [replace(clip, split=splits[clip.clip_id]) for clip in clips]
    return Manifest(
        name=_text(path, dataset, "[dataset] name", "name"),
        path=path,
        sources=sources,
        clips=sorted(clips, key=lambda clip: clip.clip_id),
        min_yield=_share(path, dataset.get("min_yield", 0.0)),
        stages=_stage_names(path, dataset.get("stages")),
        settings=_stage_settings(path, document.get("stages", {})),
        warnings=warnings,
    )


def _settle_splits(path: Path, clips: list[ClipRow], rule: SplitRule | None) -> tuple[dict[str, str], list[str]]:
    """The split of every clip, given or derived, checked for leaks; and warnings for people."""
    empty = [clip for clip in clips if not clip.split]
    if rule is not None:
        if len(empty) < len(clips):
            given = next(clip for clip in clips if clip.split)
            raise ManifestError(
                f"{path}, line {given.line}: split {given.split!r} is given although [dataset] split asks for derived "
                "splits; empty the column or remove the rule"
            )
        splits = derive_splits(clips, rule)
    elif empty:
        raise ManifestError(
            f"{path}, line {empty[0].line}, column 'split': found '', allowed: {', '.join(SPLITS)}; or let the splits "
            "be derived: [dataset] split = {test = 0.1, ood = 0.1, seed = 0} with the whole column empty"
        )
    else:
        splits = {clip.clip_id: clip.split for clip in clips}
    return splits, check_splits(path, clips, splits)


def _read_sources(path: Path, tables: Any) -> dict[str, Source]:
    if not isinstance(tables, list) or not tables:
        raise ManifestError(f"{path}: no sources; expected one [[sources]] table a video with id, path and licence")
    sources: dict[str, Source] = {}
    for number, table in enumerate(tables, start=1):
        where = f"[[sources]] number {number}: "
        if not isinstance(table, dict):
            raise ManifestError(f"{path}: {where}expected a table, found {table!r}")
        source = _read_source(path, where, table)
        if source.source_id in sources:
            raise ManifestError(f"{path}: {where}id {source.source_id!r} is given twice")
        sources[source.source_id] = source
    return sources


def _read_source(path: Path, where: str, table: dict[str, Any]) -> Source:
    _known_keys(path, where, table, SOURCE_KEYS)
    source_id = _text(path, table, f"{where}id", "id")
    if not ID_PATTERN.fullmatch(source_id):
        raise ManifestError(f"{path}: {where}id: found {source_id[:80]!r}, allowed: 1 to 64 of A-Z a-z 0-9 _ -")
    if "url" in table:
        raise ManifestError(f"{path}: {where}url: this version reads local files only; download it and give `path`")
    text = _text(path, table, f"{where}path", "path")
    if "\0" in text or "://" in text:
        raise ManifestError(f"{path}: {where}path: found {text[:80]!r}, allowed: a file, relative to the manifest")
    file = path.parent / text
    if not file.is_file():
        raise ManifestError(f"{path}: {where}path: no file {file}; source {source_id!r} needs it")
    sha256 = table.get("sha256", "")
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", str(sha256)):
        raise ManifestError(f"{path}: {where}sha256: found {str(sha256)[:80]!r}, allowed: 64 digits 0-9 a-f")
    return Source(source_id, file, _text(path, table, f"{where}licence", "licence"), sha256)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path, MAX_MANIFEST_BYTES))
    except tomllib.TOMLDecodeError as error:  # its message names line and column
        raise ManifestError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise ManifestError(f"{path}: not valid TOML: nested too deeply") from None


def _known_keys(path: Path, where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise ManifestError(f"{path}: {where}unknown key {key!r}, allowed: {', '.join(known)}")


def _table(path: Path, document: Mapping[str, Any], key: str) -> dict[str, Any]:
    table = document.get(key)
    if not isinstance(table, dict):
        raise ManifestError(f"{path}: expected a table [{key}] with {', '.join(DATASET_KEYS)}")
    return table


def _text(path: Path, table: Mapping[str, Any], where: str, key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ManifestError(f"{path}: {where}: expected text, found {value!r}")
    return value


def _share(path: Path, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ManifestError(f"{path}: [dataset] min_yield: found {value!r}, allowed: a share from 0 to 1")
    return float(value)


def _stage_names(path: Path, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ManifestError(f"{path}: [dataset] stages: found {value!r}, allowed: a list of stage names")
    return tuple(value)


def _stage_settings(path: Path, tables: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ManifestError(f"{path}: [stages]: expected one table a stage, e.g. [stages.blink]")
    return tables
