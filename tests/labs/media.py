"""Generated media whose frames and sound say what time it is, in every container and codec that tests need.

Every frame carries its number in sixteen black and white blocks, large enough to survive compression and scaling. The
sound is silence with a click at known times. A click is a formula, so that it can be sampled at any rate and time.
Encoded by ffmpeg's command line, which also serves as the decoder to compare with.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg
import numpy as np
from scipy.io import wavfile

NUM_BITS = 16
CLICK_S = 0.03  # a burst of random tones with soft ends: its correlation with itself has one sharp peak


@dataclass(frozen=True)
class Recipe:
    """A source to generate; ``video`` and ``audio`` are options of ffmpeg, ``click_times_s`` count from frame 0."""

    suffix: str
    video: dict[str, Any]
    audio: dict[str, Any] = field(default_factory=dict)
    fps: Fraction = Fraction(25)
    num_frames: int = 75
    size: tuple[int, int] = (192, 108)
    sample_rate_hz: int = 44_100
    click_times_s: tuple[Fraction, ...] = (Fraction(1, 2), Fraction(31, 30), Fraction(9, 4))
    times: str = ""  # an expression of ffmpeg's setpts filter

    @property
    def duration_s(self) -> Fraction:
        return self.num_frames / self.fps


def ffmpeg_binary() -> str:
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def numbered_frame(number: int, size: tuple[int, int] = (192, 108)) -> np.ndarray:
    """A frame that shows its number: uint8 (height, width, 3). Upper half blocks, lower half a coloured ramp."""
    width, height = size
    bits = [(number >> bit) & 1 for bit in range(NUM_BITS)]
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2] = np.repeat(np.array(bits) * 255, width // NUM_BITS)[None, :, None]
    ramp = np.linspace(30, 220, width)
    frame[height // 2 :] = np.stack([ramp, ramp[::-1], np.full(width, 100)], axis=-1)
    return frame


def read_number(frame: np.ndarray) -> int:
    """The number that a frame shows, at any size, in colour or grey."""
    grey = frame.mean(axis=2) if frame.ndim == 3 else frame
    height, width = grey.shape
    centres = ((np.arange(NUM_BITS) + 0.5) * width / NUM_BITS).astype(int)
    rows = grey[height // 8 : height * 3 // 8]
    return sum(1 << bit for bit, centre in enumerate(centres) if rows[:, centre].mean() > 128)


def clicks(times_s: np.ndarray, click_times_s: tuple[Fraction, ...]) -> np.ndarray:
    """The sound at given times: 0 but for a burst that begins at every click time. Float, within +-1."""
    rng = np.random.default_rng(4)
    tones = list(zip(rng.uniform(500, 5000, 40), rng.uniform(0, 2 * np.pi, 40), strict=True))
    sound = np.zeros(len(times_s))
    for click_time_s in click_times_s:
        t = times_s - float(click_time_s)
        near = (t >= 0) & (t < CLICK_S)
        window = np.sin(np.pi * t[near] / CLICK_S) ** 2
        sound[near] += window * sum(np.sin(2 * np.pi * hz * t[near] + phase) for hz, phase in tones) / 15
    return sound


def make_source(path: Path, recipe: Recipe, frames: bytes = b"") -> Path:
    """Encode a recipe to ``path`` plus its suffix; its frames show their numbers unless there are others."""
    path, rate = path.with_suffix(recipe.suffix), str(recipe.fps)
    video = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", video_size=recipe.size, framerate=rate).video
    if recipe.times:
        video = video.filter("setpts", recipe.times)
    streams = [video]
    if recipe.audio:
        sound = path.with_suffix(".source.wav")
        write_clicks(sound, recipe)
        streams.append(ffmpeg.input(str(sound)).audio)
    options = {"fps_mode": "passthrough", "enc_time_base": "1:90000"} if recipe.times else {}
    output = ffmpeg.output(*streams, str(path), **recipe.video, **recipe.audio, **options)
    run(output, frames or b"".join(numbered_frame(n, recipe.size).tobytes() for n in range(recipe.num_frames)))
    return path


def write_clicks(path: Path, recipe: Recipe) -> None:
    """The sound of a recipe as 16-bit mono WAV at the recipe's rate."""
    num_samples = round(recipe.duration_s * recipe.sample_rate_hz)
    sound = clicks(np.arange(num_samples) / recipe.sample_rate_hz, recipe.click_times_s)
    wavfile.write(path, recipe.sample_rate_hz, np.rint(sound * 30_000).astype("<i2"))


def run(output: Any, given: bytes = b"") -> bytes:
    """Run an ffmpeg-python graph; its standard output."""
    return _ffmpeg(*output.get_args(), given=given)


def _ffmpeg(*arguments: str, given: bytes | None = None) -> bytes:
    command = [ffmpeg_binary(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def remux(source: Path, target: Path, *before: str, after: tuple[str, ...] = ()) -> Path:
    """Copy the streams of a file into another container, with options before and after the input."""
    _ffmpeg(*before, "-i", str(source), "-c", "copy", *after, str(target))
    return target


def reference_frames(path: Path) -> tuple[list[Fraction], np.ndarray]:
    """Times from the container's start, and RGB frames, as ffmpeg's command line decodes them."""
    video = ["-i", str(path), "-map", "0:v:0"]
    # ffmpeg counts from the earliest stream that it was told to read, so the sound must be among them.
    timing = ["-map", "0:a?", "-fps_mode", "passthrough", "-enc_time_base:v", "demux", "-f", "framecrc", "-"]
    listing = _ffmpeg(*video, *timing).decode()
    tick_s = Fraction(re.findall(r"#tb 0: (\S+)", listing)[0])
    width, height = map(int, re.findall(r"#dimensions 0: (\d+)x(\d+)", listing)[0])
    times = [int(line.split(",")[2]) * tick_s for line in listing.splitlines() if line.startswith("0,")]
    pixels = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    return times, np.frombuffer(_ffmpeg(*video, *pixels), np.uint8).reshape(-1, height, width, 3)
