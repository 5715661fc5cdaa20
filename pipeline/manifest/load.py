"""The manifest: a TOML file that names the data set, its sources, its clips (a CSV) and the settings of its stages.

Every mistake ends as a `UserError` that says file, line, what was found and what is allowed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.clip import Pair, Sounds
from pipeline.dataset.leaks import Leak, has_faces, leaks_by_face
from pipeline.dataset.read import read_description
from pipeline.manifest.clips_csv import ClipRow, read_clips_csv
from pipeline.manifest.splits import Key, SplitRule, check_splits, derive_splits, keys_of
from pipeline.manifest.toml import Document, Table
from pipeline.sources.availability import Availability
from schemas.clip import SIDES, SPLITS
from schemas.errors import UserError

TABLES = ("dataset", "sources", "stages")
DATASET_KEYS = ("name", "clips", "min_yield", "stages", "split", "takedown", "faces")
FILM_KEYS = ("path", "url", "youtube")
PAIR_KEYS = ("speaker", "listener", "audio")
OF_SIDES, OF_ROLES = ("left_audio", "right_audio"), ("speaker_audio", "listener_audio")  # files of own sounds
CHANNELS = {"channels": (0, 1), "crossed_channels": (1, 0)}  # a film's ``audio`` -> of whom sits left, and right
OF_SPEAKER = {"left": (0, 1), "right": (1, 0)}  # a pair's ``speaker_channel`` -> of speaker, and listener
SOUND_KEYS = (*OF_SIDES, *OF_ROLES, "speaker_channel")
SOURCE_KEYS = ("id", *FILM_KEYS, *PAIR_KEYS, *SOUND_KEYS, "portrait", "cropped", "licence", "sha256", "video")
ONLY_BY_HAND = (("download", "internal_hosts"),)  # what the author of a manifest may not decide for who builds it


@dataclass(frozen=True)
class Source:
    """One original video: a file, a url whose download may not be there yet, or a pair of cropped videos.

    Where ``portrait`` names a picture of the listener, the video shows the speaker alone.
    """

    source_id: str
    path: Path  # the file; of a pair, the speaker's
    licence: str
    sha256: str = ""
    url: str = ""
    pair: Pair | None = None  # the files, where speaker and listener have one each
    video: str = ""  # of a pair, the film that it was cut from, by a name of whoever cut it
    sounds: Sounds | None = None  # of each person

    @property
    def files(self) -> tuple[Path, ...]:
        own = self.sounds.files if self.sounds else ()
        return (*(self.pair.files if self.pair else (self.path,)), *own)

    def resolved(self) -> Path | Pair:
        """What a worker reads, wherever it was started."""
        if not self.pair:
            return self.path.resolve()
        speaker, listener, audio = (path.resolve() for path in self.pair.files)
        return replace(self.pair, speaker=speaker, listener=listener, audio=audio)

    def resolved_sounds(self) -> Sounds | None:
        """As `resolved`, of each person's own sound."""
        if not (self.sounds and self.sounds.files):
            return self.sounds
        first, second = (path.resolve() for path in self.sounds.files)
        return replace(self.sounds, own=(first, second))

    def sound_keys(self, folder: Path) -> dict[str, str]:
        """What a manifest in that folder says of each person's own sound beside this film."""
        if self.sounds is None:
            return {}
        if files := self.sounds.files:
            return {key: os.path.relpath(file.resolve(), folder) for key, file in zip(OF_SIDES, files, strict=True)}
        return {"audio": next(key for key, own in CHANNELS.items() if own == self.sounds.own)}


@dataclass(frozen=True)
class Manifest:
    """A data set to build: its sources, its clips sorted by id, and the settings of its stages."""

    name: str
    path: Path
    clips_file: Path
    sources: dict[str, Source]
    clips: list[ClipRow]
    min_yield: float = 0.0
    stages: tuple[str, ...] | None = None  # None: all of them
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    takedown: tuple[str, ...] = ()  # ids of clips, sources and people that must not be shown any more
    split: Any = None  # the rule by which splits are derived, as it is written


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest and its clips; `UserError` for what would make a build fail or lie before it starts."""
    document = Document(path)
    films = _films(document, DATASET_KEYS)
    dataset = document.table("dataset", DATASET_KEYS)
    clips_file = path.parent / dataset.text("clips")
    clips = read_clips_csv(clips_file, films.sources)
    _check_sides(clips_file, clips, films.sources)
    same = keys_of(_leaks(dataset, clips))
    splits = _settle_splits(clips_file, clips, films.split, same)
    if films.split is not None:
        clips = [replace(clip, split=splits[clip.clip_id]) for clip in clips]
    return replace(
        films,
        clips_file=clips_file,
        clips=sorted(clips, key=lambda clip: clip.clip_id),
        warnings=check_splits(clips_file, clips, splits, same),
    )


def load_films(path: Path) -> Manifest:
    """Read and check a manifest of films whose clips are still to be found: it names none."""
    films = _films(Document(path), tuple(key for key in DATASET_KEYS if key not in ("clips", "faces")))
    for source in films.sources.values():
        if source.pair:
            raise UserError(f"{path}: source {source.source_id!r} is a pair of crops, expected a film: path or url")
    return films


def load_sources(path: Path) -> Manifest:
    """Read and check a manifest with clips or without, for those who need its sources alone."""
    dataset = Document(path).content.get("dataset", {})
    return load_manifest(path) if not isinstance(dataset, dict) or "clips" in dataset else load_films(path)


def _films(document: Document, keys: tuple[str, ...]) -> Manifest:
    """A manifest but for its clips."""
    document.table("", TABLES)
    dataset = document.table("dataset", keys)
    return Manifest(
        name=dataset.text("name"),
        path=document.path,
        clips_file=document.path,
        sources=_sources(document),
        clips=[],
        min_yield=dataset.share("min_yield"),
        stages=dataset.names("stages"),
        settings=_settings(document),
        takedown=dataset.withdrawn("takedown"),
        split=dataset.values.get("split"),
    )


def _check_sides(path: Path, clips: list[ClipRow], sources: Mapping[str, Source]) -> None:
    for clip in clips:
        if (clip.speaker_side is None) != (sources[clip.source_id].pair is not None):
            found, allowed = clip.speaker_side or "", ", ".join(SIDES) if clip.speaker_side is None else "'' in a pair"
            raise UserError(f"{path}, line {clip.line}, column 'speaker_side': found {found!r}, allowed: {allowed}")


def _leaks(dataset: Table, clips: list[ClipRow]) -> Iterator[Leak]:
    """What the faces of the built data set that ``faces`` names say of the ids of the clips."""
    if "faces" in dataset.values:
        root = dataset.folder("faces")
        if not has_faces(read_description(root)):
            told = "a built data set with the stage face_identity, backend dlib, relative to the manifest"
            raise dataset.error("faces", told)
        yield from leaks_by_face(root, {clip.clip_id: clip.columns() for clip in clips})


def _settle_splits(path: Path, clips: list[ClipRow], rule: Any, same: Collection[tuple[Key, Key]]) -> dict[str, str]:
    """The split of every clip, as the column gives it or derived by the manifest's rule."""
    empty = [clip for clip in clips if not clip.split]
    given = [clip for clip in clips if clip.split]
    if rule is not None and given:
        raise UserError(
            f"{path}, line {given[0].line}: split {given[0].split!r} is given although [dataset] split asks for "
            "derived splits; empty the column or remove the rule"
        )
    if rule is not None:
        return derive_splits(clips, SplitRule.parse(rule), same)
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
    sounds = _sounds(table)
    apart = sounds is not None and not sounds.mixed  # a pair without a sound of both
    portrait = table.file("portrait") if "portrait" in table.values else None
    if portrait and (sounds or "cropped" in table.values):
        raise table.error("portrait", "none where people have a sound of their own, or films that are cropped here")
    given = [key for key in (*FILM_KEYS, *PAIR_KEYS) if key in table.values]
    if sounds and not sounds.files and "speaker" not in given:
        given.remove("audio")  # says which channel is whose
    if given == [key for key in PAIR_KEYS if not ((portrait and key == "listener") or (apart and key == "audio"))]:
        listener = portrait or table.file("listener")
        audio = sounds.files[0] if sounds and apart else table.file("audio")
        cropped = table.flag("cropped", True)
        pair = Pair(table.file("speaker"), listener, audio, cropped=cropped, portrait=portrait is not None)
        video = table.text("video") if "video" in table.values else ""
        return Source(source_id, pair.speaker, licence, sha256, pair=pair, video=video, sounds=sounds)
    for key in ("video", "cropped"):
        if key in table.values:
            raise table.error(key, "only in a source of speaker, listener and audio: others are the video")
    if len(given) > 1 or (given and given[0] in PAIR_KEYS):
        raise table.error(given[-1], "one of path, url, youtube, or speaker with audio and listener or portrait")
    if given in (["url"], ["youtube"]):
        url = table.url(given[0])
        file = downloads.file(source_id, url)
    else:
        url, file = "", table.file("path")
    alone = Pair(file, portrait, file, cropped=False, portrait=True) if portrait else None
    return Source(source_id, file, licence, sha256, url, alone, sounds=sounds)


def _sounds(table: Table) -> Sounds | None:
    """Each person's own sound, if the source names one."""
    given = [key for key in SOUND_KEYS if key in table.values]
    is_pair, channels = "speaker" in table.values, table.values.get("audio")
    if not is_pair and isinstance(channels, str) and channels in CHANNELS:
        given.append("audio")
    if not given:
        return None
    if given == ["audio"]:
        return Sounds(CHANNELS[table.text("audio")])
    if given == ["speaker_channel"] and is_pair:
        return Sounds(OF_SPEAKER[table.one_of("speaker_channel", tuple(OF_SPEAKER))])
    files = OF_ROLES if is_pair else OF_SIDES
    if given == list(files):
        first, second = map(table.file, files)
        return Sounds((first, second), mixed=not is_pair or "audio" in table.values)
    of_pair = f"{' and '.join(OF_ROLES)}, or speaker_channel with audio"
    of_film = f"{' and '.join(OF_SIDES)}, or audio = {' or '.join(CHANNELS)}"
    raise table.error(given[-1], of_pair if is_pair else f"beside a film {of_film}")


def _settings(document: Document) -> dict[str, dict[str, Any]]:
    tables = document.content.get("stages", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UserError(f"{document.path}: [stages]: expected one table a stage, e.g. [stages.blink]")
    for name, key in ONLY_BY_HAND:
        if key in tables.get(name, {}):
            raise UserError(f"{document.path}: [stages.{name}] {key}: allowed: only --set {name}.{key}=...")
    return tables
