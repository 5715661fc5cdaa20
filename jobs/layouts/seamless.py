"""Seamless Interaction's layout: of a person ``V_S_I_P.mp4``, ``.wav`` and ``.json``, two people of one V_S_I a pair.

Both speak and both listen: a pair becomes two clips, each named after its speaker, with a sound a person. The films
show more than heads, so faces are looked for. A folder ``train``, ``dev`` or ``test`` above the files tells the split.
Transcript and voice activity of both people are kept in ``annotations/<clip>.json``, under the names that the files
give them. Keypoints, movement and SMPL-H (``.npz``) are left.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from jobs.layouts import Layout, Moved, staged
from jobs.layouts.release.clips import FILM, Found, PublishedClip, beside
from jobs.layouts.release.manifest import write_manifest
from pipeline.settings import read_text
from schemas.column import ROLES
from schemas.errors import UserError

NAME = re.compile(r"(?P<pair>V\w+_S\w+_I\w+)_(?P<person>P\w+)", re.ASCII)
SPLITS = {"train": "train", "dev": "val", "val": "val", "test": "test"}  # folder -> split
KEPT = ("metadata:transcript", "metadata:vad")
MAX_JSON_BYTES = 2**27
LICENCE = "Seamless Interaction: CC BY-NC 4.0"


class Seamless(Layout):
    """Half a pair, or a third person, is listed and left out."""

    reads = (
        "Seamless Interaction: V_S_I_P.mp4, .wav, .json in folders below train, dev, test; two of a V_S_I are a pair"
    )

    def read(self, folder: Path, out: Path) -> Moved:
        """Write the manifest of a folder and what its files say of speech; `UserError` if no file has such a name."""
        people: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(folder.rglob(f"V*.{FILM}")):
            if name := NAME.fullmatch(path.stem):
                people[name["pair"]].append(path)
        if not people:
            raise UserError(f"{folder}: expected films such as V00_S0001_I00000001_P0001.mp4, found none")
        found, told = Found(), {}
        for pair, paths in people.items():
            if len(paths) != len(ROLES):
                listing = ", ".join(path.name for path in paths)
                found.problems.append(f"{pair}: expected the films of two people, found {listing}; it is left out")
                continue
            said = {path: _said(path.with_suffix(".json"), found) for path in paths}
            for speaker, listener in (paths, paths[::-1]):
                clip = _clip(folder, pair, speaker, listener)
                found.add(clip)
                told[clip.clip_id] = {"speaker": said[speaker], "listener": said[listener]}
        moved = write_manifest(folder.name, found, out, licence=LICENCE, file="seamless.toml")
        with staged(out / "annotations") as kept:
            for clip_id in moved.clips:
                (kept / f"{clip_id}.json").write_text(json.dumps(told[clip_id]), encoding="utf-8")
        return moved


def _clip(folder: Path, pair: str, speaker: Path, listener: Path) -> PublishedClip:
    named = [SPLITS[part] for part in speaker.relative_to(folder).parts[:-1] if part in SPLITS]
    return PublishedClip(
        clip_id=speaker.stem,
        speaker=speaker,
        listener=listener,
        audio=beside(speaker, ".wav"),
        listener_audio=beside(listener, ".wav"),
        cropped=False,
        attitude="",
        speaker_id=speaker.stem.rpartition("_")[2],
        listener_id=listener.stem.rpartition("_")[2],
        split=named[-1] if named else "train",
        video_id=pair,
    )


def _said(path: Path, found: Found) -> dict[str, Any]:
    """What a person's file says of speech; nothing, and a problem, if it cannot be read."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(read_text(path, MAX_JSON_BYTES))
        return {key: content[key] for key in KEPT if key in content}
    except (ValueError, TypeError, RecursionError, UserError) as error:
        found.problems.append(f"{path}: expected an object of JSON: {error}; its clips come in without their words")
        return {}
