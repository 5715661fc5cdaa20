"""Preset ``vico45-code``: what the released ViCo baseline computes, number for number, at 44.1 kHz.

For reproducing results of dc3ea9f/vico_challenge_baseline (``preprocess/extract.py``). It cuts the sound into chunks of
one video frame and hands *each chunk alone* to torchaudio and librosa, with arguments that do not do what they seem to:

* 0-12: MFCC of one 25 ms window a chunk (the last 8 ms of every chunk are never seen), C0 replaced by the log-energy.
  Kaldi's energy floor of 1 is meant for int16 samples; on +-1 sound it clamps much of ordinary speech to exactly 0.
* 13-38: delta and delta-delta over the chunk's own time axis, which is one row long: **26 dimensions of rounding
  noise** (below 2e-6 and 1e-13). They stay the noise they are because the baseline divides by their standard deviation:
  zeros would make NaN of them.
* 39-41: RMS of the chunk's first 1024 samples and, twice, of the whole chunk; each divided by a window of 2048.
* 42-44: three times the same zero-crossing count, over 44100 because the sampling rate is passed as window length.

So 16 of 45 dimensions say something, there is no loudness, and any other sampling rate gives another width than 45.

The MFCC follow Kaldi's defaults as torchaudio documents them (``torchaudio.compliance.kaldi.mfcc``; Povey et al., "The
Kaldi Speech Recognition Toolkit", 2011; ``compute-mfcc-feats --use-energy``), all chunks at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import HOP_SAMPLES, SAMPLE_RATE_HZ

NUM_MFCC = 13
WINDOW_SAMPLES = SAMPLE_RATE_HZ * 25 // 1000  # 1102 samples = 25 ms; the next one, 10 ms on, no longer fits a chunk
WINDOW = np.hanning(WINDOW_SAMPLES) ** 0.85  # Kaldi's: a Hann window to the power .85
FFT_SAMPLES = 2048  # the next power of two
NUM_MEL_BANDS = 23
LOWEST_BAND_HZ = 20.0
PRE_EMPHASIS = 0.97
LIFTER = 22
ENERGY_FLOOR = 1.0
BAND_FLOOR = float(np.finfo(np.float32).eps)

RMS_WINDOW_SAMPLES = 2048
ZERO_CROSSING_WINDOW_SAMPLES = SAMPLE_RATE_HZ  # the reference passes the rate where librosa expects a window
ZERO_LEVEL = 1e-10  # librosa's default: what is nearer to zero counts as zero
NUM_CENTRES = 1 + HOP_SAMPLES // 512  # 3: librosa's default hop puts windows at samples 0, 512 and 1024 of a chunk

MEANING = (
    "acoustic features, preset vico45-code: 0-12 MFCC of the frame's chunk (0 is log-energy), 13-38 rounding noise "
    "where deltas were meant, 39-41 RMS (41 repeats 40), 42-44 zero crossings / 44100 (three times the same)"
)


def features(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """The reference's 45 numbers a frame, (frame, 45) in the order of `MEANING`.

    Of mono samples (frame * 1470,) at 44.1 kHz, full scale +-1; chunk k is the sound from k/30 to (k+1)/30 s.
    """
    chunks = samples.astype(np.float32, copy=False).reshape(-1, HOP_SAMPLES)
    mfcc = kaldi_mfcc(chunks[:, :WINDOW_SAMPLES])
    delta = delta_of_one_row(mfcc)
    blocks = [mfcc, delta, delta_of_one_row(delta), rms(chunks), zero_crossing_rate(chunks)]
    return np.concatenate(blocks, axis=1, dtype=np.float64)


def kaldi_mfcc(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-energy and cepstra 1-12 of windows (window, 1102): (window, 13), natural logarithm, liftered."""
    centred = windows - windows.mean(axis=1, keepdims=True, dtype=np.float64)
    energy = np.maximum((centred**2).sum(axis=1, keepdims=True), ENERGY_FLOOR)
    previous = np.concatenate([centred[:, :1], centred[:, :-1]], axis=1)
    shaped = (centred - PRE_EMPHASIS * previous) * WINDOW
    power = np.abs(np.fft.rfft(shaped, FFT_SAMPLES)) ** 2  # (window, 1025)
    log_bands = np.log(np.maximum(power @ mel_bands(), BAND_FLOOR))  # (window, 23)
    return np.concatenate([np.log(energy), log_bands @ liftered_cosines()], axis=1, dtype=np.float32)


def mel_bands() -> NDArray[np.float64]:
    """Triangles of equal width on the scale mel(f) = 1127 ln(1 + f/700), from 20 Hz to Nyquist: (1025, 23)."""
    frequencies_hz = np.fft.rfftfreq(FFT_SAMPLES, 1 / SAMPLE_RATE_HZ)
    edges = np.linspace(_mel(LOWEST_BAND_HZ), _mel(SAMPLE_RATE_HZ / 2), NUM_MEL_BANDS + 2)
    distance = np.abs(_mel(frequencies_hz)[:, None] - edges[1:-1]) / (edges[1] - edges[0])
    return np.maximum(1 - distance, 0)


def liftered_cosines() -> NDArray[np.float64]:
    """Orthonormal DCT-II of the bands for orders 1-12, each scaled by the lifter: (23, 12)."""
    orders = np.arange(1, NUM_MFCC)
    bands = np.arange(NUM_MEL_BANDS)[:, None] + 0.5
    cosines = np.sqrt(2 / NUM_MEL_BANDS) * np.cos(np.pi / NUM_MEL_BANDS * bands * orders)
    return cosines * (1 + LIFTER / 2 * np.sin(np.pi * orders / LIFTER))


def delta_of_one_row(row: NDArray[np.float32]) -> NDArray[np.float32]:
    """The delta filter (-2, -1, 0, 1, 2)/10 over five copies of each value.

    Exact arithmetic gives 0. Single precision, summed in the filter's order, leaves the reference's noise to the bit.
    """
    return (-2 * row - row + row + 2 * row) / np.float32(10)


def rms(chunks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Root mean squares of zero-padded windows that start 1024 samples before 0, 512 and 1024: (chunk, 3)."""
    squares = chunks.astype(np.float64) ** 2
    ends = [RMS_WINDOW_SAMPLES // 2 + 512 * centre for centre in range(NUM_CENTRES)]  # 1024, 1536, 2048: all start <= 0
    return np.sqrt(np.stack([squares[:, :end].sum(axis=1) for end in ends], axis=1) / RMS_WINDOW_SAMPLES)


def zero_crossing_rate(chunks: NDArray[np.float32]) -> NDArray[np.float64]:
    """Crossings in the chunk over a window so long that all three windows hold the whole chunk: (chunk, 3)."""
    negative = chunks < -ZERO_LEVEL
    crossings = (negative[:, 1:] != negative[:, :-1]).sum(axis=1, keepdims=True)
    return np.repeat(crossings / ZERO_CROSSING_WINDOW_SAMPLES, NUM_CENTRES, axis=1)


def _mel(frequency_hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return 1127 * np.log1p(np.asarray(frequency_hz) / 700)
