"""REACT 2026's layout: a folder a split, a kind, a role and a session, at 25 fps.

``SPLIT/KIND/ROLE/sessionK/NAME.EXT`` where KIND is ``video-face-crop`` (.mp4, 384 x 384), ``audio`` (.wav, a person's)
and ``coefficients`` (.npy, (frame, 58): FaceVerse's expression 52, rotation 3, translation 3). The 25 facial attributes
are not written, since no stage makes them, and neither is ``video-raw``. A clip whose id is ``sessionK_NAME`` has that
place, every other is NAME of ``session0``; so what goes out comes in again under its own id.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from jobs.layouts import Layout, Moved, Row, write_each
from jobs.layouts.motion.film import write_film
from jobs.layouts.motion.sound import sound_of, sounds_in, write_sound
from jobs.layouts.motion.spaces import FACEVERSE, WIDTHS, finite, holds_coefficients, require_space
from jobs.layouts.release.clips import FILM, Found, PublishedClip, beside
from jobs.layouts.release.manifest import write_manifest
from pipeline.clock import SAMPLE_RATE_HZ, frames_at
from pipeline.dataset.read import read_clips
from pipeline.dataset.storage import Location
from schemas.clip import SPLITS
from schemas.column import ROLES
from schemas.errors import UserError

CROPS, AUDIO, COEFFICIENTS = "video-face-crop", "audio", "coefficients"
SIZE_PX = 384
NOBODY = {"speaker_id": None, "listener_id": None}
PLACE = re.compile(r"(session\d+)_(.+)")
ELSEWHERE = "session0"
TRACKER = {"space": FACEVERSE, "fps": 25}
LICENCE = "REACT: as its organisers grant it"


class React2026(Layout):
    """What comes in has both people's sound, or the speaker's alone where there is none of the listener."""

    reads = (
        "REACT 2026: SPLIT/{video-face-crop,audio,coefficients}/{speaker,listener}/sessionK/NAME.{mp4,wav,npy}; the "
        "rest is left"
    )
    writes = "the same with coefficients, where the data set has FaceVerse's; without facial-attributes, video-raw"
    loses = "labels, all other columns; without a sound a person the speaker has the mix and the listener silence"
    space = FACEVERSE
    fps = 25

    def read(self, folder: Path, out: Path) -> Moved:
        """Write the manifest of a folder; `UserError` if it holds no crops."""
        found = Found()
        for split in SPLITS:
            crops = {role: folder / split / CROPS / role for role in ROLES}
            names = {path.relative_to(root) for root in crops.values() for path in root.glob(f"*/*.{FILM}")}
            for name in sorted(names):
                session, stem = name.parent.name, name.stem
                files = {role: root / name for role, root in crops.items()}
                sounds = {role: beside(folder / split / AUDIO / role / name, ".wav") for role in ROLES}
                tracked = {role: (folder / split / COEFFICIENTS / role / name).with_suffix(".npy") for role in ROLES}
                clip = PublishedClip(
                    clip_id=stem if session == ELSEWHERE else f"{session}_{stem}",
                    **files,
                    audio=sounds["speaker"],
                    listener_audio=sounds["listener"] if sounds["listener"].is_file() else None,
                    **NOBODY,
                    attitude="",
                    split=split,
                    coefficients=tracked,
                )
                found.add(clip)
        if not found.clips and not found.problems:
            raise UserError(f"{folder}: expected train/{CROPS}/speaker/session1/NAME.mp4 and its like, found none")
        return write_manifest(folder.name, found, out, licence=LICENCE, file="react.toml", tracker=TRACKER)

    def write(self, dataset: Location, out: Path) -> Moved:
        """Write the clips of a data set; `UserError` if it has coefficients that are not FaceVerse's."""
        coefficients = require_space(dataset, self.name, self.space) if holds_coefficients(dataset) else []
        sounds = sounds_in(dataset)
        films = [f"{role}_video" for role in ROLES]

        def write(folder: Path, row: Row) -> None:
            place = PLACE.fullmatch(row["clip_id"])
            session, name = place.groups() if place else (ELSEWHERE, row["clip_id"])
            frames = frames_at(row["num_frames"], self.fps)
            for role in ROLES:

                def path(kind: str, ending: str, role: str = role) -> Path:
                    found = folder / row["split"] / kind / role / session / f"{name}{ending}"
                    found.parent.mkdir(parents=True, exist_ok=True)
                    return found

                write_film(dataset, row[f"{role}_video"], row["num_frames"], path(CROPS, ".mp4"), SIZE_PX, self.fps)
                sound = row[sounds[role]] if sounds[role] else None
                samples = sound_of(dataset, sound, len(frames), self.fps, SAMPLE_RATE_HZ)
                write_sound(path(AUDIO, ".wav"), samples, SAMPLE_RATE_HZ)
                if coefficients:
                    parts = [finite(row, f"{role}_{part}")[frames] for part in WIDTHS[self.space]]
                    np.save(path(COEFFICIENTS, ".npy"), np.concatenate(parts, axis=1))

        return write_each(read_clips(dataset, [*films, *filter(None, sounds.values()), *coefficients]), out, write)
