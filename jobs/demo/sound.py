"""Speech-like sound: a buzzing source through vowel formants, in syllables and pauses, with clicks for the clock.

Source-filter synthesis (Fant 1960) with the vowels of Peterson & Barney (1952); nobody's voice and no words.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.signal import lfilter

VOWELS_HZ = {  # first three formants of a woman's vowels (Peterson & Barney 1952, table II)
    "i": (310, 2790, 3310),
    "e": (610, 2330, 2990),
    "a": (850, 1220, 2810),
    "o": (590, 920, 2710),
    "u": (370, 950, 2670),
}
MOUTH_OF_VOWEL = {"i": 0.35, "e": 0.6, "a": 1.0, "o": 0.7, "u": 0.3}  # how far the mouth opens
BANDWIDTHS_HZ = (80, 100, 150)
CLICK_WIDTH_S = 0.0005
CLICK_PEAK = 0.6
SPEECH_PEAK = 0.35
ROOM_NOISE = 0.0003  # -70 dB: a quiet room, not digital silence


@dataclass(frozen=True)
class Syllable:
    """One vowel with an optional hiss before it."""

    start_s: float
    end_s: float
    vowel: str
    pitch_hz: float
    hiss: bool


def speak(start_s: float, end_s: float, pitch_hz: float, rng: np.random.Generator) -> list[Syllable]:
    """Phrases of a few syllables with pauses between them, within a span."""
    syllables: list[Syllable] = []
    now = start_s
    while True:
        count = int(rng.integers(3, 6))
        for place in range(count):
            length = float(rng.uniform(0.14, 0.24))
            if now + length > end_s:
                return syllables
            tune = pitch_hz * (1.12 - 0.25 * place / count) * float(rng.uniform(0.96, 1.04))
            syllables.append(
                Syllable(now, now + length, str(rng.choice(list(VOWELS_HZ))), tune, bool(rng.random() < 0.4))
            )
            now += length
        now += float(rng.uniform(0.35, 0.55))


def mouth_opening(syllables: list[Syllable], time_s: float) -> float:
    """How far the speaker's mouth is open at a time, 0..1."""
    return sum(
        MOUTH_OF_VOWEL[s.vowel] * float(np.sin(np.pi * (time_s - s.start_s) / (s.end_s - s.start_s)) ** 2)
        for s in syllables
        if s.start_s <= time_s < s.end_s
    )


def pauses(syllables: list[Syllable], start_s: float, end_s: float) -> list[tuple[float, float]]:
    """Spans of a second span in which nobody speaks."""
    edges = [start_s, *(edge for s in syllables for edge in (s.start_s, s.end_s)), end_s]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > 1e-6]


def render(syllables: list[Syllable], clicks: list[Fraction], duration_s: float, rate_hz: int, seed: int) -> np.ndarray:
    """The sound track: float32 (sample,), peaks below 1."""
    rng = np.random.default_rng(seed)
    track = rng.standard_normal(round(duration_s * rate_hz)) * ROOM_NOISE
    for syllable in syllables:
        at = round(syllable.start_s * rate_hz)
        voice = _voice(syllable, rate_hz, rng)[: len(track) - at]
        track[at : at + len(voice)] += voice
    for moment in clicks:
        _add_click(track, moment, rate_hz)
    return track.astype(np.float32)


def click_sample(moment: Fraction, rate_hz: int) -> int:
    """The sample on which a click peaks."""
    return round(moment * rate_hz)


def _voice(syllable: Syllable, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    time_s = np.arange(round((syllable.end_s - syllable.start_s) * rate_hz)) / rate_hz
    share = time_s / (syllable.end_s - syllable.start_s)
    pitch_hz = syllable.pitch_hz * (1 - 0.06 * share + 0.01 * np.sin(2 * np.pi * 5.5 * time_s))
    phase = np.cumsum(pitch_hz) / rate_hz % 1
    buzz = np.where(phase < 0.6, phase**2 * (0.6 - phase), 0)  # Rosenberg's pulse of the vocal folds
    sound = np.diff(buzz, prepend=0) + 1e-5 * rng.standard_normal(len(buzz))
    for centre_hz, width_hz in zip(VOWELS_HZ[syllable.vowel], BANDWIDTHS_HZ, strict=True):
        sound = _resonate(sound, centre_hz, width_hz, rate_hz)
    sound = sound * np.sin(np.pi * share) ** 2
    sound *= SPEECH_PEAK * (0.6 + 0.4 * MOUTH_OF_VOWEL[syllable.vowel]) / np.abs(sound).max()
    return sound + _hiss(syllable, share, rng)


def _resonate(sound: np.ndarray, centre_hz: float, width_hz: float, rate_hz: int) -> np.ndarray:
    """One formant: a two-pole resonator of unit gain at 0 Hz (Klatt 1980)."""
    radius = np.exp(-np.pi * width_hz / rate_hz)
    b, c = 2 * radius * np.cos(2 * np.pi * centre_hz / rate_hz), -(radius**2)
    return lfilter([1 - b - c], [1, -b, -c], sound)


def _hiss(syllable: Syllable, share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A short s-like noise at the syllable's start."""
    noise = np.diff(rng.standard_normal(len(share)), prepend=0)
    swell = np.sin(np.pi * np.clip(share / 0.3, 0, 1)) ** 2
    return 0.02 * syllable.hiss * swell * noise


def _add_click(track: np.ndarray, moment: Fraction, rate_hz: int) -> None:
    """A symmetric pulse whose one peak is the sample of the moment."""
    half = round(CLICK_WIDTH_S / 2 * rate_hz)
    pulse = CLICK_PEAK * np.hanning(2 * half + 3)[1:-1]
    at = click_sample(moment, rate_hz)
    track[at - half : at + half + 1] += pulse
