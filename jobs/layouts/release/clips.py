"""Published clips: what a row of a published table names, whether it can be used, and a sentence where it cannot."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.manifest.clips_csv import MAX_CSV_BYTES
from pipeline.settings import read_text
from schemas.clip import ATTITUDES, ID_PATTERN, SPLITS
from schemas.errors import UserError


@dataclass(frozen=True)
class PublishedClip:
    """One published clip: its files, its labels, and the video that it says it was cut from."""

    clip_id: str
    speaker: Path
    listener: Path
    audio: Path
    attitude: str
    speaker_id: str | None  # None where nobody knows
    listener_id: str | None
    split: str
    video_id: str = ""
    portrait: bool = False  # whether the listener's file is a picture
    listener_audio: Path | None = None  # the listener's own sound; ``audio`` is the speaker's own then
    cropped: bool = True  # whether the films show heads and nothing else
    coefficients: Mapping[str, Path] = field(default_factory=dict)  # role -> a file, if there is one, of its tracker's

    @property
    def sounds(self) -> dict[str, Path]:
        """Its sound by the manifest's keys."""
        if self.listener_audio is None:
            return {"audio": self.audio}
        return {"speaker_audio": self.audio, "listener_audio": self.listener_audio}


@dataclass
class Found:
    """What a folder holds: clips that can be used, and a sentence for everything that cannot."""

    clips: list[PublishedClip] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)  # ids of the clips: a large folder has many

    def add(self, clip: PublishedClip) -> None:
        """Take in a clip, or say what is wrong with it."""
        wrong = list(_wrong(clip))
        if wrong:
            self.problems += [f"{clip.clip_id}: {problem}" for problem in wrong]
        elif clip.clip_id in self._seen:
            self.problems.append(f"{clip.clip_id}: stands there twice; the second is left out")
        else:
            self._seen.add(clip.clip_id)
            self.clips.append(clip)


FILM = "[mM][pP]4"  # ending of a film for `Path.glob`: cameras write .MP4


def beside(film: Path, ending: str) -> Path:
    """The file of a film's name with another ending, which may be in capitals as the film's."""
    small, capital = film.with_suffix(ending), film.with_suffix(ending.upper())
    return capital if capital.exists() and not small.exists() else small


def published(
    folder: Path, clip_id: str, names: tuple[str, str, str], row: Mapping[str, str], split: str
) -> PublishedClip:
    """The clip of a row; ``names``: its speaker's video, its listener's and its sound, without endings."""
    speaker, listener, audio = names
    return PublishedClip(
        clip_id=clip_id,
        speaker=folder / "videos" / f"{speaker}.mp4",
        listener=folder / "videos" / f"{listener}.mp4",
        audio=folder / "audios" / f"{audio}.wav",
        attitude=row.get("attitude", ""),  # the challenge dropped it; our own export keeps it in a column more
        speaker_id=row["speaker_id"],
        listener_id=row["listener_id"],
        split=split,
        video_id=row.get("video_id", ""),
    )


def read_table(path: Path, columns: Iterable[str]) -> Iterator[dict[str, str]]:
    """The rows of a published csv; `UserError` if it has other columns."""
    reader = csv.DictReader(io.StringIO(read_text(path, MAX_CSV_BYTES), newline=""), restval="")
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        found = ", ".join(reader.fieldnames or ()) or "nothing"
        raise UserError(f"{path}, line 1: expected the columns {', '.join(columns)}, found {found}")
    for row in reader:
        yield {name: (value or "").strip() for name, value in row.items() if name}


def _wrong(clip: PublishedClip) -> Iterator[str]:
    for name in ("clip_id", "speaker_id", "listener_id"):
        identity = getattr(clip, name)
        if identity is not None and not ID_PATTERN.fullmatch(identity):
            yield f"{name} {identity!r}: expected 1 to 64 of the characters A-Z a-z 0-9 _ -"
            return  # a name that may not become a file is not even looked for
    if clip.attitude not in (*ATTITUDES, ""):
        yield f"attitude {clip.attitude!r}: expected {', '.join(ATTITUDES)}"
    if clip.split not in SPLITS:
        yield f"split {clip.split!r}: expected {', '.join(SPLITS)}"
    for role, path in {"speaker": clip.speaker, "listener": clip.listener, **clip.sounds}.items():
        if path.name != Path(path.name).name or not path.parent.is_dir() or not path.is_file():
            yield f"no {role} file {path}"
