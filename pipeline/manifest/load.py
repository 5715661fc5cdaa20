"""The manifest: a TOML file that names the data set, its sources, its clips (a CSV) and the settings of its stages.

Every mistake ends as a `UserError` that says file, line, what was found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.clip import Pair
from pipeline.manifest.clips_csv import ClipRow, read_clips_csv
from pipeline.manifest.splits import SplitRule, check_splits, derive_splits
from pipeline.manifest.toml import Document, Table
from pipeline.sources.availability import Availability
from schemas.clip import SIDES, SPLITS
from schemas.errors import UserError

TABLES = ("dataset", "sources", "stages")
DATASET_KEYS = ("name", "clips", "min_yield", "stages", "split", "takedown")
PAIR_KEYS = ("speaker", "listener", "audio")
SOURCE_KEYS = ("id", "path", "url", "youtube", *PAIR_KEYS, "licence", "sha256")
ONLY_BY_HAND = (("download", "internal_hosts"),)  # what the author of a manifest may not decide for who builds it


@dataclass(frozen=True)
class Source:
    """One original video: a file, a url whose download may not be there yet, or a pair of cropped videos."""

    source_id: str
    path: Path  # the file; of a pair, the speaker's
    licence: str
    sha256: str = ""
    url: str = ""
    pair: Pair | None = None  # the files of a source that somebody has cropped already

    @property
    def files(self) -> tuple[Path, ...]:
        return self.pair.files if self.pair else (self.path,)

    def resolved(self) -> Path | Pair:
        """What a worker reads, wherever it was started."""
        return Pair(*(path.resolve() for path in self.pair.files)) if self.pair else self.path.resolve()


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
    takedown: tuple[str, ...] = ()  # ids of clips, sources and people that must not be shown any more


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest and its clips; `UserError` for what would make a build fail or lie before it starts."""
    document = Document(path)
    document.table("", TABLES)
    dataset = document.table("dataset", DATASET_KEYS)
    sources = _sources(document)
    clips_file = path.parent / dataset.text("clips")
    clips = read_clips_csv(clips_file, sources)
    _check_sides(clips_file, clips, sources)
    splits = _settle_splits(clips_file, clips, dataset.values.get("split"))
    clips = [replace(clip, split=splits[clip.clip_id]) for clip in clips]
    return Manifest(
        name=dataset.text("name"),
        path=path,
        sources=sources,
        clips=sorted(clips, key=lambda clip: clip.clip_id),
        min_yield=dataset.share("min_yield"),
        stages=dataset.names("stages"),
        settings=_settings(document),
        warnings=check_splits(clips_file, clips, splits),
        takedown=dataset.withdrawn("takedown"),
    )


def _check_sides(path: Path, clips: list[ClipRow], sources: Mapping[str, Source]) -> None:
    for clip in clips:
        if (clip.speaker_side is None) != (sources[clip.source_id].pair is not None):
            found, allowed = clip.speaker_side or "", ", ".join(SIDES) if clip.speaker_side is None else "'' in a pair"
            raise UserError(f"{path}, line {clip.line}, column 'speaker_side': found {found!r}, allowed: {allowed}")


def _settle_splits(path: Path, clips: list[ClipRow], rule: Any) -> dict[str, str]:
    """The split of every clip, as the column gives it or derived by the manifest's rule."""
    empty = [clip for clip in clips if not clip.split]
    given = [clip for clip in clips if clip.split]
    if rule is not None and given:
        raise UserError(
            f"{path}, line {given[0].line}: split {given[0].split!r} is given although [dataset] split asks for "
            "derived splits; empty the column or remove the rule"
        )
    if rule is not None:
        return derive_splits(clips, SplitRule.parse(rule))
    if empty:
        raise UserError(
            f"{path}, line {empty[0].line}, column 'split': found '', allowed: {', '.join(SPLITS)}; or have the splits "
            "derived: leave the whole column empty and write [dataset] split = {test = 0.1, ood = 0.1, seed = 0}"
        )
    return {clip.clip_id: clip.split for clip in clips}


def _sources(document: Document) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    downloads = Availability(document.path)
    for table in document.tables("sources", SOURCE_KEYS):
        source = _source(table, downloads)
        if source.source_id in sources:
            raise table.error("id", "an id that no other source has")
        sources[source.source_id] = source
    return sources


def _source(table: Table, downloads: Availability) -> Source:
    source_id, licence, sha256 = table.identity("id"), table.text("licence"), table.sha256("sha256")
    given = [key for key in ("path", "url", "youtube", *PAIR_KEYS) if key in table.values]
    if given == list(PAIR_KEYS):
        pair = Pair(*(table.file(key) for key in PAIR_KEYS))
        return Source(source_id, pair.speaker, licence, sha256, pair=pair)
    if len(given) > 1 or (given and given[0] in PAIR_KEYS):
        raise table.error(given[-1], "one of path, url, youtube, or speaker with listener and audio")
    if given in (["url"], ["youtube"]):
        url = table.url(given[0])
        return Source(source_id, downloads.file(source_id, url), licence, sha256, url)
    return Source(source_id, table.file("path"), licence, sha256)


def _settings(document: Document) -> dict[str, dict[str, Any]]:
    tables = document.content.get("stages", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UserError(f"{document.path}: [stages]: expected one table a stage, e.g. [stages.blink]")
    for name, key in ONLY_BY_HAND:
        if key in tables.get(name, {}):
            raise UserError(f"{document.path}: [stages.{name}] {key}: allowed: only --set {name}.{key}=...")
    return tables
