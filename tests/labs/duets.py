"""Two open heads side by side who speak in turns, in one shot without a cut, over mixed sound: onsets known.

The heads are films of ``media/b_heads``. Who listens is his own closed mouth, a third of a second of his film, slowly
there and back, pictures between blended; who speaks is his film with its sound.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import soxr
from scipy.io import wavfile

from pipeline.clock import FPS, SAMPLE_RATE_HZ, Span, frames_in, map_to_grid
from pipeline.media.reader import SourceReader
from stages.speakers.mfcc import RATE_HZ
from stages.speakers.turns import Turn
from tests.labs.media import ffmpeg_binary

SIDE_PX = 288
QUIET_FRAMES, SLOWER = 10, 3
LOUDNESS = 0.05  # root of the mean square of every turn
HISS = 3e-4


@dataclass(frozen=True)
class Head:
    """A film of b_heads: from when to when he talks without a pause of half a second, and from when he is silent."""

    film: str
    talks_s: tuple[float, float]
    quiet_s: float


HEADS = {
    "grid": Head("grid_sbia1a.mpg", (0.53, 2.43), 2.4),
    "tps": Head("tps_driving_man.mp4", (0.0, 5.8), 6.23),
    "retalk": Head("retalk_man1.mp4", (0.0, 2.45), 5.67),
    "chat": Head("vox_00086.mp4", (0.5, 5.1), 0.0),
    "studio": Head("vox_christie.mp4", (0.0, 6.9), 4.03),
}


@dataclass(frozen=True, eq=False)
class Duet:
    """Tiles (side, frame, 288, 288, 3), sound (sample,) at 16 kHz and the turns that are in them."""

    tiles: np.ndarray
    sound: np.ndarray
    turns: list[Turn]

    def write(self, path: Path) -> Path:
        """The two side by side as a film with sound."""
        wav = path.with_suffix(".wav")
        wavfile.write(wav, RATE_HZ, np.rint(self.sound * 32_000).astype("<i2"))
        pictures = np.ascontiguousarray(np.concatenate(list(self.tiles), axis=2))
        height, width = pictures.shape[1:3]
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FPS), "-i", "pipe:"]
        coded = ["-c:v", "libx264", "-crf", "16", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
        command = [ffmpeg_binary(), "-loglevel", "error", "-y", *raw, "-i", str(wav), *coded, str(path)]
        subprocess.run(command, input=pictures.tobytes(), check=True, capture_output=True)
        return path


def duet(folder: Path, names: tuple[str, str], seed: int, num_turns: int = 4) -> Duet:
    """Turns of 1.6 to 3.5 s, left and right in turn, with silences of .1 to .8 s between them."""
    rng = np.random.default_rng(seed)
    heads = [HEADS[name] for name in names]
    talking = [_tile_and_sound(folder / head.film, *head.talks_s) for head in heads]
    quiet = [_tile_and_sound(folder / head.film, head.quiet_s, head.quiet_s + 0.4)[0][:QUIET_FRAMES] for head in heads]
    tiles: list[list[np.ndarray]] = [[], []]
    sound, turns, place = [np.zeros(0)], [], 0
    side = int(rng.integers(2))
    pause = round(frames_in(0.6))
    for turn in range(num_turns + 1):
        for tile, still in zip(tiles, quiet, strict=True):
            tile.append(listening(still, place, pause))
        sound.append(np.zeros(_samples(place + pause) - _samples(place)))
        place += pause
        if turn == num_turns:
            break
        pictures, voice = talking[side]
        length = min(len(pictures), round(frames_in(rng.uniform(1.6, 3.5))))
        first = int(rng.integers(len(pictures) - length + 1))
        tiles[side].append(pictures[first : first + length])
        tiles[1 - side].append(listening(quiet[1 - side], place, length))
        said = np.zeros(_samples(place + length) - _samples(place))
        part = voice[_samples(first) :][: len(said)]
        said[: len(part)] = part * LOUDNESS / np.sqrt(np.mean(part**2))
        sound.append(said)
        turns.append(Turn(place, place + length, side))
        place, side, pause = place + length, 1 - side, round(frames_in(rng.uniform(0.1, 0.8)))
    mixed = np.concatenate(sound)
    return Duet(
        np.stack([np.concatenate(tile) for tile in tiles]),
        (mixed + rng.normal(0, HISS, len(mixed))).astype(np.float32),
        turns,
    )


def listening(still: np.ndarray, first: int, count: int) -> np.ndarray:
    """Frames (count, ...) of a few, slowly there and back, from a place in that rhythm."""
    last = len(still) - 1
    at = np.abs((np.arange(first, first + count) / SLOWER) % (2 * last) - last)
    before = np.floor(at).astype(int).clip(0, last - 1)
    share = (at - before)[:, None, None, None]
    return np.rint(still[before] * (1 - share) + still[before + 1] * share).astype(np.uint8)


def _samples(frames: int) -> int:
    return round(frames * RATE_HZ / FPS)


def _tile_and_sound(path: Path, start_s: float, end_s: float) -> tuple[np.ndarray, np.ndarray]:
    """The middle of a film's picture (frame, 288, 288, 3) on the grid, and its sound (sample,) at 16 kHz."""
    from PIL import Image

    tiles = []
    with SourceReader(path) as reader:
        times = reader.frame_times()
        span = Span(Fraction(start_s).limit_denominator(100), Fraction(end_s).limit_denominator(100))
        for _, rgb in reader.frames(map_to_grid(span, times).pts):
            height, width = rgb.shape[:2]
            side = min(height, width)
            box = ((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2)
            tiles.append(np.asarray(Image.fromarray(rgb).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, box)))
        sound = soxr.resample(reader.audio(span), SAMPLE_RATE_HZ, RATE_HZ)
    return np.stack(tiles), sound
