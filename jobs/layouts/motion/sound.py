"""Sound of clips in other rates, as long as the frames of another clock."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import soxr

from pipeline.clock import exact_div
from pipeline.dataset.read import media_file, read_description
from pipeline.dataset.storage import Location, local_file
from pipeline.media.encode import read_wav
from schemas.column import ROLES
from schemas.errors import UserError

FULL_SCALE = 32767  # of 16 bits


def sounds_in(dataset: Location) -> dict[str, str | None]:
    """Role -> the column of that person's sound; without one the mix is the speaker's, and the listener has None."""
    packed, mix = read_description(dataset).packed, {"speaker": "audio", "listener": None}
    return {role: own if (own := f"{role}_audio") in packed else mix[role] for role in ROLES}


def sound_of(dataset: Location, relative: str | None, num_frames: int, fps: int, rate_hz: int) -> np.ndarray:
    """The sound that a media column names at another rate: float32 (sample,), exactly as long as so many frames.

    A frame of the other clock may reach half a frame beyond the clip: what is missing there is silent, as all is where
    there is no sound (None).
    """
    wanted = np.zeros(num_frames * exact_div(rate_hz, fps), np.float32)
    if relative is None:
        return wanted
    try:
        with local_file(media_file(dataset, relative)) as file:
            samples, found_hz = read_wav(file)
    except (ValueError, EOFError, wave.Error) as error:
        raise UserError(f"{relative}: expected a WAV file of 16 bits mono: {error}; build the clip again") from None
    resampled = soxr.resample(samples, found_hz, rate_hz, quality="HQ")
    count = min(len(wanted), len(resampled))
    wanted[:count] = resampled[:count]
    return wanted


def write_sound(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    """Write 16-bit mono."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.rint(samples.clip(-1, 1) * FULL_SCALE).astype("<i2").tobytes())
