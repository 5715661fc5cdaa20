"""ViCo's full release as its authors laid it out, made of the six clips of its public page."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ffmpeg

from tests.labs.media import ffmpeg_binary

COLUMNS = ("attitude", "audio", "listener", "speaker", "listener_id", "speaker_id", "data_split")


@dataclass(frozen=True)
class ReleasedClip:
    """A clip of the release: a span of a file of the public page, under an id in ViCo's grammar."""

    source: str
    clip_id: str
    attitude: str
    split: str
    people: int  # whose ids follow from it
    start_s: float = 0.0
    length_s: float | None = None  # None: to the end


def take_apart(video: Path, folder: Path, names: tuple[str, str, str], clip: ReleasedClip) -> None:
    """Split a picture of both people into the two videos and the sound that the release holds."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    (folder / "audios").mkdir(exist_ok=True)
    source = ffmpeg.input(str(video), ss=clip.start_s, **({"t": clip.length_s} if clip.length_s else {}))
    outputs = [source.audio.output(str(folder / "audios" / f"{names[2]}.wav"), ac=1, ar=44100)]
    for name, x in ((names[0], 0), (names[1], "iw/2")):
        half = source.video.filter("crop", "iw/2", "ih", x, 0)
        outputs.append(half.output(str(folder / "videos" / f"{name}.mp4"), crf=12, preset="veryfast"))
    for output in outputs:
        output.global_args("-nostdin").run(cmd=ffmpeg_binary(), quiet=True)


def write_release(shared: Path, folder: Path, clips: Sequence[ReleasedClip]) -> Path:
    """The release of these clips."""
    rows = []
    for clip in clips:
        speaker, listener = f"{clip.clip_id}.1", f"{clip.clip_id}.0"
        take_apart(shared / "media/vico" / f"{clip.source}.mp4", folder, (speaker, listener, clip.clip_id), clip)
        people = [10 + clip.people, 20 + clip.people]
        rows.append([clip.attitude, clip.clip_id, listener, speaker, *people, clip.split])
    with (folder / "RLD_data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return folder
