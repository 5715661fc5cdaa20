"""REACT 2024's layout (and 2023's): ``SPLIT/KIND/SITE/CHAT/PERSON/CLIP``, at 25 fps, the two people of a chat a pair.

KIND is ``Video_files`` (``1.mp4``, 256 x 256), ``Audio_files`` (``1.wav``, a person's) or ``3D_FV_files`` (``1.npy``,
(frame, 58) or (frame, 1, 58) of FaceVerse); ``Emotion`` is left. Either person reacts to the other: a pair becomes two
clips, each named after its speaker, with the own sound of both, or of that person alone where the other has none. Where
films are folders of pictures, they are to be made films first, since only the sandboxed reader opens strangers' media.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from jobs.layouts import Layout, Moved
from jobs.layouts.motion.spaces import FACEVERSE
from jobs.layouts.release.clips import Found, PublishedClip, beside
from jobs.layouts.release.manifest import write_manifest
from schemas.clip import SPLITS
from schemas.column import ROLES
from schemas.errors import UserError

FILMS, SOUNDS, COEFFICIENTS = "Video_files", "Audio_files", "3D_FV_files"
TRACKER = {"space": FACEVERSE, "fps": 25}
LICENCE = "REACT: as its organisers grant it"


class React2024(Layout):
    """Half a pair, or a third person, is listed and left out."""

    reads = (
        f"REACT 2023, 2024: SPLIT/{{{FILMS},{SOUNDS},{COEFFICIENTS}}}/SITE/CHAT/PERSON/1.{{mp4,wav,npy}}; the rest is "
        "left"
    )

    def read(self, folder: Path, out: Path) -> Moved:
        """Write the manifest of a folder; `UserError` if it holds neither films nor folders of pictures."""
        found = Found()
        for split in SPLITS:
            chats: dict[tuple[Path, str], list[Path]] = defaultdict(list)  # of a chat, the films of one number
            for path in sorted((folder / split / FILMS).glob("*/*/*/*")):
                if path.suffix.lower() == ".mp4":
                    chats[path.parent.parent, path.name].append(path)
                elif path.is_dir():
                    remedy = f"first: ffmpeg -framerate 25 -i {path}/%d.png {path}.mp4"
                    found.problems.append(f"{path}: expected a film, found a folder; {remedy}")
            for (chat, number), films in chats.items():
                if len(films) != len(ROLES):
                    people = ", ".join(film.parent.name for film in films)
                    found.problems.append(
                        f"{chat}: {number}: expected films of two people, found {people}; it is left out"
                    )
                    continue
                for speaker, listener in (films, films[::-1]):
                    found.add(_clip(folder / split, split, speaker, listener))
        if not found.clips and not found.problems:
            raise UserError(
                f"{folder}: expected train/{FILMS}/NoXI/010_2016-03-25_Paris/Expert_video/1.mp4, found no such"
            )
        return write_manifest(folder.name, found, out, licence=LICENCE, file="react.toml", tracker=TRACKER)


def _clip(root: Path, split: str, speaker: Path, listener: Path) -> PublishedClip:
    place = speaker.relative_to(root / FILMS)  # SITE/CHAT/PERSON/1.mp4
    site, chat, person = place.parts[:-1]
    people = {"speaker": place, "listener": listener.relative_to(root / FILMS)}
    sounds = {role: beside(root / SOUNDS / film, ".wav") for role, film in people.items()}
    return PublishedClip(
        clip_id="_".join((site, chat, person, speaker.stem)),
        speaker=speaker,
        listener=listener,
        audio=sounds["speaker"],
        listener_audio=sounds["listener"] if sounds["listener"].is_file() else None,
        attitude="",
        speaker_id=f"{chat}_{person}",
        listener_id=f"{chat}_{listener.parent.name}",
        split=split,
        video_id=f"{site}_{chat}",
        coefficients={role: (root / COEFFICIENTS / film).with_suffix(".npy") for role, film in people.items()},
    )
