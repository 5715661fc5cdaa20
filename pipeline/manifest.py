"""The manifest: a TOML file that names the data set, its sources, its clips (a CSV) and the settings of its stages.

Every mistake ends as a `ManifestError` that says file, line, what was found and what is allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.availability import Availability
from pipeline.clip import Pair
from pipeline.clips_csv import ClipRow, read_clips
from pipeline.config import INVISIBLE, ManifestError, parse_toml, read_text, shown
from pipeline.splits import SplitRule, check_splits, derive_splits
from pipeline.takedown import WITHDRAWABLE
from schemas.clip import ID_MEANING, ID_PATTERN, SIDES, SPLITS

YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
YOUTUBE_URL = "https://www.youtube.com/watch?v="
TABLES = ("dataset", "sources", "stages")
DATASET_KEYS = ("name", "clips", "min_yield", "stages", "split", "takedown")
PAIR_KEYS = ("speaker", "listener", "audio")
SOURCE_KEYS = ("id", "path", "url", "youtube", *PAIR_KEYS, "licence", "sha256")
WEB_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d{1,5})?(/\S*)?")
ONLY_BY_HAND = (("download", "internal_hosts"),)  # what the author of a manifest may not decide for who builds it
MAX_HOST = 253  # characters of a name in the DNS
MAX_TEXT = 4096  # characters; no path can be longer on Linux
MAX_MANIFEST_BYTES = 16 * 2**20  # people write it: anything larger is a mistake or an attack


@dataclass(frozen=True)
class Source:
    """One original video: a file, a url whose download may not be there yet, or a pair of cropped videos.

    Attributes
    ----------
    path : the file; of a pair, the speaker's.
    pair : the files of a source that somebody has cropped already.
    """

    source_id: str
    path: Path
    licence: str
    sha256: str = ""
    url: str = ""
    pair: Pair | None = None

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
    """Read and check a manifest and its clips.

    Raises
    ------
    ManifestError : anything that would make a build fail or lie, found before it starts.
    """
    document = _Document(path)
    dataset = document.dataset()
    sources = document.sources()
    clips_file = path.parent / dataset.text("clips")
    clips = read_clips(clips_file, sources)
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
        settings=document.stages(),
        warnings=check_splits(clips_file, clips, splits),
        takedown=dataset.withdrawn(),
    )


def _check_sides(path: Path, clips: list[ClipRow], sources: Mapping[str, Source]) -> None:
    for clip in clips:
        if (clip.speaker_side is None) != (sources[clip.source_id].pair is not None):
            found, allowed = clip.speaker_side or "", ", ".join(SIDES) if clip.speaker_side is None else "'' in a pair"
            raise ManifestError(f"{path}, line {clip.line}, column 'speaker_side': found {found!r}, allowed: {allowed}")


def _settle_splits(path: Path, clips: list[ClipRow], rule: Any) -> dict[str, str]:
    """The split of every clip, as the column gives it or derived by the manifest's rule."""
    empty = [clip for clip in clips if not clip.split]
    given = [clip for clip in clips if clip.split]
    if rule is not None and given:
        raise ManifestError(
            f"{path}, line {given[0].line}: split {given[0].split!r} is given although [dataset] split asks for "
            "derived splits; empty the column or remove the rule"
        )
    if rule is not None:
        return derive_splits(clips, SplitRule.parse(rule))
    if empty:
        raise ManifestError(
            f"{path}, line {empty[0].line}, column 'split': found '', allowed: {', '.join(SPLITS)}; or have the splits "
            "derived: leave the whole column empty and write [dataset] split = {test = 0.1, ood = 0.1, seed = 0}"
        )
    return {clip.clip_id: clip.split for clip in clips}


class _Document:
    """A TOML file on its way to a `Manifest`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = read_text(path, MAX_MANIFEST_BYTES)
        try:
            self.content = parse_toml(self.text)
        except ManifestError as error:
            raise ManifestError(f"{path}: {error}") from None
        _Table(self, "", 0, self.content).only(TABLES)

    def dataset(self) -> _Table:
        values = self.content.get("dataset")
        if not isinstance(values, dict):
            raise ManifestError(f"{self.path}: expected a table [dataset] with {', '.join(DATASET_KEYS)}")
        return _Table(self, "dataset", 0, values).only(DATASET_KEYS)

    def sources(self) -> dict[str, Source]:
        tables = self.content.get("sources")
        if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
            raise ManifestError(
                f"{self.path}: no sources; expected one [[sources]] table a video with id, path and licence"
            )
        sources: dict[str, Source] = {}
        downloads = Availability(self.path)
        for number, values in enumerate(tables):
            table = _Table(self, "sources", number, values).only(SOURCE_KEYS)
            source = table.source(downloads)
            if source.source_id in sources:
                raise table.error("id", "an id that no other source has")
            sources[source.source_id] = source
        return sources

    def stages(self) -> dict[str, dict[str, Any]]:
        tables = self.content.get("stages", {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            raise ManifestError(f"{self.path}: [stages]: expected one table a stage, e.g. [stages.blink]")
        for name, key in ONLY_BY_HAND:
            if key in tables.get(name, {}):
                raise ManifestError(f"{self.path}: [stages.{name}] {key}: allowed: only --set {name}.{key}=...")
        return tables

    def line_of(self, table: str, number: int, key: str) -> int:
        """The line on which a key of the number-th table of that name stands; 0 if it cannot be told."""
        current, count = "", -1
        for line, text in enumerate(self.text.splitlines(), start=1):
            if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", text):
                current = header[1]
                count += current == table
            elif current == table and max(count, 0) == number and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", text):
                return line
        return 0


@dataclass(frozen=True)
class _Table:
    """One table of the file; errors say file, line, key, found and allowed."""

    document: _Document
    name: str
    number: int
    values: Mapping[str, Any]

    def error(self, key: str, allowed: str) -> ManifestError:
        line = self.document.line_of(self.name, self.number, key)
        where = f", line {line}" if line else ""
        label = f"[[sources]] number {self.number + 1}: " if self.name == "sources" else f"[{self.name}] "
        found = shown(self.values.get(key))
        return ManifestError(f"{self.document.path}{where}: {label}{key}: found {found}, allowed: {allowed}")

    def only(self, known: tuple[str, ...]) -> _Table:
        for key in self.values:
            if key not in known:
                line = self.document.line_of(self.name, self.number, key)
                where = f", line {line}" if line else ""
                label = f"[{self.name}] " if self.name else ""
                raise ManifestError(
                    f"{self.document.path}{where}: {label}unknown key {shown(key)}, allowed: {', '.join(known)}"
                )
        return self

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, "text")
        if INVISIBLE.search(value) or len(value) > MAX_TEXT:
            raise self.error(key, f"text without control characters, of {MAX_TEXT} characters or fewer")
        return value

    def share(self, key: str) -> float:
        value = self.values.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self.error(key, "a share from 0 to 1")
        return float(value)

    def names(self, key: str) -> tuple[str, ...] | None:
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self.error(key, "a list of names")
        return tuple(value)

    def withdrawn(self) -> tuple[str, ...]:
        ids = self.names("takedown") or ()
        if any(not WITHDRAWABLE.fullmatch(name) for name in ids):
            raise self.error("takedown", "a list of ids of clips, sources and people, of the characters A-Z a-z 0-9 _ -")
        return ids

    def source(self, downloads: Availability) -> Source:
        source_id = self.text("id")
        if not ID_PATTERN.fullmatch(source_id):
            raise self.error("id", ID_MEANING)
        sha256 = self.values.get("sha256", "")
        if not isinstance(sha256, str) or not re.fullmatch(r"([0-9a-f]{64})?", sha256):
            raise self.error("sha256", "64 digits 0-9 a-f")
        given = [key for key in ("path", "url", "youtube", *PAIR_KEYS) if key in self.values]
        if given == list(PAIR_KEYS):
            pair = Pair(*(self.file(key) for key in PAIR_KEYS))
            return Source(source_id, pair.speaker, self.text("licence"), sha256, pair=pair)
        if len(given) > 1 or (given and given[0] in PAIR_KEYS):
            raise self.error(given[-1], "one of path, url, youtube, or speaker with listener and audio")
        if given in (["url"], ["youtube"]):
            url = self.url(given[0])
            return Source(source_id, downloads.file(source_id, url), self.text("licence"), sha256, url)
        return Source(source_id, self.file("path"), self.text("licence"), sha256)

    def file(self, key: str) -> Path:
        path, root = self.text(key), self.document.path.parent
        if "://" in path:
            raise self.error(key, "a file, relative to the manifest")
        file = root / path
        try:
            is_there = file.is_file()
        except OSError as error:
            raise self.error(key, f"a file that can be read, relative to the manifest: {error.strerror}") from None
        if not is_there:
            raise self.error(key, f"an existing file, relative to the manifest; there is no {file}")
        if _says_below(path) and not file.resolve().is_relative_to(root.resolve()):
            raise self.error(key, f"a file that lies where its path says; a link leads to {file.resolve()}: write that")
        return file

    def url(self, key: str) -> str:
        value = self.text(key)
        if key == "youtube":
            if not YOUTUBE_ID.fullmatch(value):
                raise self.error(key, "the 11 characters of a YouTube id")
            return YOUTUBE_URL + value
        if not _is_web_address(value):
            raise self.error(key, "an address that begins with http:// or https:// and holds no password")
        return value


def _says_below(path: str) -> bool:
    """Whether a relative path, as it is written, stays below the folder it counts from."""
    written = os.path.normpath(path)
    return not os.path.isabs(written) and written.split(os.sep)[0] != os.pardir


def _is_web_address(value: str) -> bool:
    """Whether all who read an address find the same host in it. Which hosts may be asked, `public_network` decides."""
    try:
        host = urlsplit(value).hostname or ""
    except ValueError:  # brackets that hold no address
        return False
    return bool(WEB_ADDRESS.fullmatch(value)) and len(host) <= MAX_HOST
