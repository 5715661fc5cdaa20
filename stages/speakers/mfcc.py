"""MFCC as python_speech_features computes them (J. Lyons, 0.6, MIT): what LR-ASD was trained to hear.

Davis and Mermelstein, "Comparison of Parametric Representations for Monosyllabic Word Recognition in Continuously
Spoken Sentences", 1980, with that library's choices: pre-emphasis over the whole sound, rectangular windows, zeros
behind the end, corners of the mel bands on whole bins of the spectrum, sines that lift the higher coefficients, and the
logarithm of a window's energy in the place of the first coefficient.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import exact_div

RATE_HZ = 16_000
WINDOW_SAMPLES = exact_div(RATE_HZ * 25, 1000)  # 400 samples = 25 ms
STEP_SAMPLES = exact_div(RATE_HZ, 100)  # 160 samples = 10 ms
FFT_SAMPLES = 512  # the power of two above a window
BANDS = 26
COEFFICIENTS = 13
PRE_EMPHASIS = 0.97
LIFT = 22  # coefficients to half a period of the lifting sine
SMALLEST = np.finfo(float).eps  # stands for an energy of 0
INT16_SCALE = 32_768  # energies are of whole 16-bit samples


def read_sound(path: Path) -> NDArray[np.float32]:
    """Samples (sample,) at 16 kHz, full scale 1, of a clip's sound."""
    import soxr

    from pipeline.media.encode import read_wav

    samples, rate_hz = read_wav(path)
    sound: NDArray[np.float32] = soxr.resample(samples, rate_hz, RATE_HZ)
    return sound


def mfcc(samples: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Coefficients (row, 13), a row every 10 ms, of sound (sample,) at 16 kHz with full scale 1.

    The last row begins before the sound ends and may reach beyond it; sound shorter than a window has one row.
    """
    whole = np.rint(np.asarray(samples, np.float64) * INT16_SCALE)
    emphasised = np.append(whole[:1], whole[1:] - PRE_EMPHASIS * whole[:-1])
    rows = 1 + max(0, -((WINDOW_SAMPLES - len(whole)) // STEP_SAMPLES))
    padded = np.zeros((rows - 1) * STEP_SAMPLES + WINDOW_SAMPLES)
    padded[: len(emphasised)] = emphasised
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::STEP_SAMPLES]
    power = np.abs(np.fft.rfft(windows, FFT_SAMPLES)) ** 2 / FFT_SAMPLES  # (row, 257)
    energy = power.sum(axis=1)
    bands = power @ mel_bands().T  # (row, 26)
    cepstrum = np.log(np.where(bands == 0, SMALLEST, bands)) @ cosines().T  # (row, 13)
    cepstrum *= 1 + LIFT / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFT)
    cepstrum[:, 0] = np.log(np.where(energy == 0, SMALLEST, energy))
    return cepstrum


def mel_bands() -> NDArray[np.float64]:
    """Triangles (band, bin) between corners at equal distances on the mel scale from 0 to 8 kHz, on whole bins."""
    top_mel = 2595 * np.log10(1 + RATE_HZ / 2 / 700)
    corners_hz = 700 * (10 ** (np.linspace(0, top_mel, BANDS + 2) / 2595) - 1)
    corners = np.floor((FFT_SAMPLES + 1) * corners_hz / RATE_HZ)
    low, middle, high = (corners[begin : begin + BANDS, None] for begin in range(3))
    bins = np.arange(FFT_SAMPLES // 2 + 1)
    rising = (bins - low) / np.maximum(middle - low, 1)
    falling = (high - bins) / np.maximum(high - middle, 1)
    return np.where((low <= bins) & (bins < middle), rising, np.where((middle <= bins) & (bins < high), falling, 0.0))


def cosines() -> NDArray[np.float64]:
    """The first rows (coefficient, band) of the orthonormal discrete cosine transform, type II."""
    order, band = np.arange(COEFFICIENTS)[:, None], np.arange(BANDS)
    table = np.sqrt(2 / BANDS) * np.cos(np.pi * order * (2 * band + 1) / (2 * BANDS))
    table[0] /= np.sqrt(2)
    return table
