"""The two layouts of ViCo as published: the full release (``RLD_data.csv``) and the challenge's (a csv a split)."""

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

RELEASE_CSV = "RLD_data.csv"
RELEASE_COLUMNS = ("attitude", "audio", "listener", "speaker", "listener_id", "speaker_id", "data_split")
CHALLENGE_COLUMNS = ("video_id", "uuid", "speaker_id", "listener_id")


@dataclass(frozen=True)
class VicoClip:
    """One published clip: its files, its labels, and the video that it says it was cut from."""

    clip_id: str
    speaker: Path
    listener: Path
    audio: Path
    attitude: str
    speaker_id: str
    listener_id: str
    split: str
    video_id: str = ""


@dataclass
class Found:
    """What a folder holds: clips that can be used, and a sentence for everything that cannot."""

    clips: list[VicoClip] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, clip: VicoClip) -> None:
        """Take in a clip, or say what is wrong with it."""
        wrong = list(_wrong(clip))
        if wrong:
            self.problems += [f"{clip.clip_id}: {problem}" for problem in wrong]
        elif any(other.clip_id == clip.clip_id for other in self.clips):
            self.problems.append(f"{clip.clip_id}: stands there twice; the second is left out")
        else:
            self.clips.append(clip)


def read_layout(folder: Path) -> Found:
    """The clips of a folder in either layout.

    Raises
    ------
    UserError : it is in neither, or a csv has other columns.
    """
    found = Found()
    if (folder / RELEASE_CSV).is_file():
        for row in _rows(folder / RELEASE_CSV, RELEASE_COLUMNS):
            names = (row["speaker"], row["listener"], row["audio"])  # to be looked up, never derived
            found.add(_clip(folder, row["audio"], names, row, row["data_split"]))
        return found
    tables = [(split, folder / f"{split}.csv") for split in SPLITS if (folder / f"{split}.csv").is_file()]
    if not tables:
        expected = f"{RELEASE_CSV} (the full release) or one of {', '.join(f'{split}.csv' for split in SPLITS)}"
        raise UserError(f"{folder}: expected {expected} (the challenge's), found neither")
    for split, path in tables:
        for row in _rows(path, CHALLENGE_COLUMNS):
            names = (f"{row['uuid']}.speaker", f"{row['uuid']}.listener", row["uuid"])
            found.add(_clip(folder, row["uuid"], names, row, split))
    return found


def _clip(folder: Path, clip_id: str, names: tuple[str, str, str], row: Mapping[str, str], split: str) -> VicoClip:
    speaker, listener, audio = names
    return VicoClip(
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


def _rows(path: Path, columns: Iterable[str]) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(read_text(path, MAX_CSV_BYTES), newline=""), restval="")
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        found = ", ".join(reader.fieldnames or ()) or "nothing"
        raise UserError(f"{path}, line 1: expected the columns {', '.join(columns)}, found {found}")
    for row in reader:
        yield {name: (value or "").strip() for name, value in row.items() if name}


def _wrong(clip: VicoClip) -> Iterator[str]:
    for name in ("clip_id", "speaker_id", "listener_id"):
        if not ID_PATTERN.fullmatch(getattr(clip, name)):
            yield f"{name} {getattr(clip, name)!r}: expected 1 to 64 of the characters A-Z a-z 0-9 _ -"
            return  # a name that may not become a file is not even looked for
    if clip.attitude not in (*ATTITUDES, ""):
        yield f"attitude {clip.attitude!r}: expected {', '.join(ATTITUDES)}"
    if clip.split not in SPLITS:
        yield f"split {clip.split!r}: expected {', '.join(SPLITS)}"
    for role, path in (("speaker", clip.speaker), ("listener", clip.listener), ("audio", clip.audio)):
        if path.name != Path(path.name).name or not path.parent.is_dir() or not path.is_file():
            yield f"no {role} file {path}"
