"""Draws a scene and encodes it: H.264 beside PCM (Matroska) or AAC (MP4), the same bytes every time."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import ffmpeg
import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from scipy.io import wavfile

from jobs.demo.cast import CAST
from jobs.demo.conversation import Moment, Scene, Turn, perform
from jobs.demo.faces import Face
from jobs.demo.head import Head
from jobs.demo.portrait import PANEL_H_PX, PANEL_W_PX, make_portrait
from jobs.demo.sound import render
from schemas.clip import SIDES

SEAM_PX, SEAM_GREY = 4, 12  # the dark line between the panels
AUDIO_CODECS = {".mkv": "pcm_s16le", ".mp4": "aac"}
QUALITY = {"preset": "veryfast", "crf": 18, "pix_fmt": "yuv420p", "b:a": "128k"}
SAME_BYTES = {  # one thread, no dates or version tags, no choice of algorithms by processor
    "threads": 1,
    "filter_threads": 1,
    "fflags": "+bitexact",
    "flags:v": "+bitexact",
    "flags:a": "+bitexact",
    "sws_flags": "bicubic+accurate_rnd+full_chroma_int+bitexact",
    "x264-params": "cpu-independent=1",
}


class Actor:
    """A person of the cast who can be drawn."""

    def __init__(self, name: str) -> None:
        portrait = make_portrait(CAST[name], seed=sorted(CAST).index(name))
        self.face = Face(portrait)
        self.head = Head(portrait)

    def draw(self, moment: Moment) -> np.ndarray:
        """The person's panel: uint8 (720, 640, 3)."""
        return self.head.move(self.face.draw(moment.expression), moment.pose)


def draw_frames(scene: Scene, actors: Mapping[str, Actor]) -> Iterator[np.ndarray]:
    """The frames of a scene: uint8 (720, 1280, 3) RGB."""
    seats = [actors[scene.person(side)] for side in SIDES]
    for number, moments in enumerate(zip(*(perform(scene, side) for side in SIDES), strict=True)):
        panels = [actor.draw(moment) for actor, moment in zip(seats, moments, strict=True)]
        frame = np.hstack(panels[::-1] if scene.swapped(number) else panels)
        frame[:, PANEL_W_PX - SEAM_PX // 2 : PANEL_W_PX + SEAM_PX // 2] = SEAM_GREY
        yield frame


def write_film(scene: Scene, actors: Mapping[str, Actor], path: Path) -> None:
    """Draw and encode a scene."""
    track = render(scene.syllables, scene.clicks(), float(scene.duration_s), scene.sample_rate_hz, scene.seed)
    with tempfile.TemporaryDirectory() as scratch:
        sound = Path(scratch) / "sound.wav"
        wavfile.write(sound, scene.sample_rate_hz, np.round(track * 32767).astype("<i2"))
        _encode(draw_frames(scene, actors), scene.frame_rate, sound, path)


def write_speaker(scene: Scene, turn: Turn, film: Path, path: Path) -> None:
    """A film of the speaker of a turn alone, cut out of the scene's film."""
    source = ffmpeg.input(str(film), ss=float(turn.span.start_s), to=float(turn.span.end_s))
    x = PANEL_W_PX * SIDES.index(turn.speaker_side)
    panel = source.video.filter("crop", PANEL_W_PX - SEAM_PX, PANEL_H_PX, x, 0)
    codecs = {"c:v": "libx264", "c:a": AUDIO_CODECS[path.suffix]}
    output = ffmpeg.output(panel, source.audio, str(path), **codecs, **QUALITY, **SAME_BYTES)
    output.global_args("-loglevel", "error", "-nostdin").overwrite_output().run(cmd=get_ffmpeg_exe())


def _encode(frames: Iterator[np.ndarray], frame_rate: Fraction, sound: Path, path: Path) -> None:
    size = f"{2 * PANEL_W_PX}x{PANEL_H_PX}"
    pictures = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=size, framerate=str(frame_rate))
    codecs = {"c:v": "libx264", "c:a": AUDIO_CODECS[path.suffix]}
    output = ffmpeg.output(pictures, ffmpeg.input(str(sound)), str(path), **codecs, **QUALITY, **SAME_BYTES)
    command = output.global_args("-loglevel", "error").overwrite_output().compile(cmd=get_ffmpeg_exe())
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        try:
            for frame in frames:
                encoder.stdin.write(frame.tobytes())
        except BrokenPipeError:
            pass  # the encoder gave up: its own words follow
        _, complaint = encoder.communicate()
    if encoder.returncode:
        raise RuntimeError(f"ffmpeg could not write {path} (exit {encoder.returncode}): {complaint.decode().strip()}")
