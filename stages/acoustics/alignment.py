"""How much later one recording of a conversation began than another, by what both of them hear.

The normalised cross-correlation of waveforms (8 kHz) is taken of two seconds at a time and its squares are added up: in
so short a piece two recorders' clocks agree to a sample, over minutes they do not. For the same reason a piece counts
with its highest value within 4 ms, by which clocks part in 40 s that differ by 100 in a million. A voice under another
one still stands out: its waveform comes again, nobody else's does. Vowels of one pitch are alike, though; so sounds are
made flatter first: every tone of a moment is divided by its loudness to the power of .4, where the phase transform
takes 1 (Knapp and Carter, "The generalized correlation method for estimation of time delay", IEEE TASSP 1976).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import exact_div

RATE_HZ = 8_000
PIECE_SAMPLES = 2 * RATE_HZ
APART_SAMPLES = exact_div(RATE_HZ, 250)  # 4 ms
PEAK_SAMPLES = exact_div(RATE_HZ, 4)  # on either side of the peak belongs to it: echoes, and vowels that ring on
WINDOW_SAMPLES = 512  # 64 ms, every 16
FLATTER, LEAST_TONE = 0.4, 1e-3  # power of the loudness, and its floor in parts of the loudest
LEAST_POWER = 1e-6  # of the loudest two seconds: what is quieter correlates by its rounding


class Shift(NamedTuple):
    """How many seconds into ``longer`` the sound ``shorter`` begins, and how far to trust that.

    ``peak`` is the highest mean of squared correlations, ``next`` the highest one more than a quarter of a second away
    from it, and ``confidence`` is 1 - next / peak: 0 where another shift fits as well, 1 where no other fits at all.
    """

    seconds: float
    confidence: float
    peak: float


def shift_of(shorter: NDArray[np.floating[Any]], longer: NDArray[np.floating[Any]]) -> Shift:
    """Where ``shorter`` (sample,) lies in ``longer`` (sample,), both at 8 kHz; no confidence where one is silent."""
    from scipy.ndimage import maximum_filter1d

    one, other = _flatter(shorter), _flatter(longer)
    shifts = len(other) - len(one) + 1
    if shifts <= 2 * PEAK_SAMPLES:
        raise ValueError(f"expected {2 * PEAK_SAMPLES} shifts or more to look at, found {shifts}")
    starts = range(0, len(one), PIECE_SAMPLES)
    one, other = (np.pad(sound, (0, -len(one) % PIECE_SAMPLES)) for sound in (one, other))
    exact, loose = np.zeros(shifts), np.zeros(shifts)
    for start in starts:
        squares = _squares(one[start : start + PIECE_SAMPLES], other[start : start + PIECE_SAMPLES + shifts - 1])
        exact += squares / len(starts)
        loose += maximum_filter1d(squares, 2 * APART_SAMPLES + 1) / len(starts)
    at = int(loose.argmax())
    elsewhere = np.concatenate([loose[: max(at - PEAK_SAMPLES, 0)], loose[at + PEAK_SAMPLES + 1 :]])
    peak, first = float(loose[at]), max(at - 2 * APART_SAMPLES, 0)
    near = first + int(exact[first : at + 2 * APART_SAMPLES + 1].argmax())
    return Shift(near / RATE_HZ, 1 - float(elsewhere.max()) / peak if peak > 0 else 0.0, peak)


def _flatter(sound: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Sound (sample,) whose tones differ less in loudness."""
    from scipy.signal import istft, stft

    windows = {"nperseg": WINDOW_SAMPLES, "noverlap": WINDOW_SAMPLES * 3 // 4}
    tones = stft(np.pad(sound, (0, WINDOW_SAMPLES)), **windows)[2]
    loudness = np.abs(tones)
    floor = LEAST_TONE * loudness.max() or 1.0
    flat: NDArray[np.float64] = istft(tones / loudness.clip(floor) ** FLATTER, **windows)[1]
    return flat[: len(sound)]


def _squares(piece: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared correlation (shift,) of a piece (sample,) with every stretch of its length of a sound; 0 in silence."""
    from scipy.signal import correlate

    powers = np.concatenate([[0.0], np.cumsum(other**2)])
    powers = powers[len(piece) :] - powers[: -len(piece)]
    power = float(piece @ piece)
    if not power:
        return np.zeros(len(powers))
    products = correlate(other, piece, "valid", "fft")
    return np.divide(products**2, power * powers, np.zeros(len(powers)), where=powers > LEAST_POWER * powers.max())
