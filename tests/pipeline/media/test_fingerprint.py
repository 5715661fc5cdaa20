"""Fingerprints of sound: copies of a recording are told from others, by construction."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.clock import SAMPLE_RATE_HZ
from pipeline.media.fingerprint import fingerprint, same_sounds

SYLLABLE = 3528  # samples, 80 ms


def speech(seconds: float, seed: int) -> np.ndarray:
    """Chords of five random tones, a new one every 80 ms."""
    rng = np.random.default_rng(seed)
    syllables = -(-round(seconds * SAMPLE_RATE_HZ) // SYLLABLE)
    tones_hz, levels = rng.uniform(200, 3000, (syllables, 5, 1)), rng.uniform(0, 0.1, (syllables, 5, 1))
    times_s = np.arange(SYLLABLE) / SAMPLE_RATE_HZ
    return (levels * np.sin(2 * np.pi * tones_hz * times_s)).sum(axis=1).ravel().astype(np.float32)


def copied(sound: np.ndarray, from_s: float, seed: int = 9) -> np.ndarray:
    """Quieter, with noise 20 dB below, and cut elsewhere, not on the grid of prints."""
    noise = np.random.default_rng(seed).normal(size=len(sound)) * sound.std() / 10
    return (0.3 * (sound + noise))[round(from_s * SAMPLE_RATE_HZ) :].astype(np.float32)


def test_a_copy_is_found_wherever_it_was_cut_and_strangers_are_not() -> None:
    originals = [speech(6, seed) for seed in range(8)]
    copies = [copied(sound, from_s) for sound, from_s in zip(originals[:3], (0.0, 1.2345, 3.6), strict=True)]
    found = list(same_sounds([fingerprint(sound) for sound in (*originals, *copies)], range(11)))
    assert [(same.one, same.other) for same in found] == [(0, 8), (1, 9), (2, 10)]
    assert all(0 < same.bit_errors < 0.2 for same in found)


def test_recordings_of_one_group_are_not_compared() -> None:
    prints = [fingerprint(sound) for sound in (speech(4, 1), copied(speech(4, 1), 0.5))]
    assert len(list(same_sounds(prints, [0, 1]))) == 1 and not list(same_sounds(prints, [0, 0]))


@pytest.mark.parametrize("kind", ["silence", "tone", "hum"])
def test_sound_that_says_nothing_is_no_reason_to_call_two_films_one(kind: str) -> None:
    times_s = np.arange(5 * SAMPLE_RATE_HZ, dtype=np.float32) / SAMPLE_RATE_HZ
    hum = sum(np.sin(2 * np.pi * 50 * tone * times_s) / tone for tone in range(6, 40))
    sound = {"silence": 0 * times_s, "tone": np.sin(2 * np.pi * 440 * times_s), "hum": hum}[kind].astype(np.float32)
    assert not list(same_sounds([fingerprint(sound), fingerprint(sound[100:])], [0, 1]))


def test_sound_shorter_than_a_second_and_a_half_has_no_say() -> None:
    assert len(fingerprint(speech(0.2, 1))) == 0
    short = [fingerprint(speech(1.2, 1)), fingerprint(copied(speech(1.2, 1), 0))]
    assert not list(same_sounds(short, [0, 1])) and not list(same_sounds([], []))
