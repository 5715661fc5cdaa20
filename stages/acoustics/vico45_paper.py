"""Preset ``vico45-paper``: the 45 acoustic features as the papers describe them, one row a video frame.

Zhou et al., "Responsive Listening Head Generation" (ECCV 2022), section 5.2: 14 MFCC, their first and second
differences, energy, zero-crossing rate and loudness. The papers state no window, hop or loudness measure; these are
ours:

* Row k is centred on sample ``1470 k``, the instant of video frame k, so that a click at k/30 s peaks in row k.
* MFCC, energy and zero-crossing rate see 2048 samples (46 ms), the shortest power of two that covers a hop; the mel
  scale, the 128 bands and the 80 dB range below the clip's loudest band are librosa's defaults (McFee et al. 2015).
  The numbers are librosa's too, which the tests compare; its import alone would cost every worker 1.3 s.
* The differences run along the *frame sequence*: Savitzky-Golay derivatives of order 1 and 2.
* Loudness is the momentary loudness of ITU-R BS.1770-4 and EBU Tech 3341: 400 ms, K-weighted, without gating.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import HOP_SAMPLES, SAMPLE_RATE_HZ, exact_div, frames_in
from stages.acoustics.mel import mel_filters

NUM_MFCC = 14
NUM_BANDS = 128
QUIETEST_POWER = 1e-10  # of a band
RANGE_DB = 80
ZERO_LEVEL = 1e-10  # what is nearer to zero counts as zero, which is positive
WINDOW_SAMPLES = 2048
LOUDNESS_WINDOW_SAMPLES = exact_div(4 * SAMPLE_RATE_HZ, 10)  # 17640 samples = 400 ms = 12 video frames
LOUDNESS_FLOOR_LUFS = -70.0  # absolute gate of BS.1770: what is quieter counts as silence

MEANING = (
    "acoustic features, preset vico45-paper: 0-13 MFCC C0-C13, 14-27 their deltas, 28-41 their delta-deltas, "
    "42 energy (RMS), 43 zero-crossing rate (crossings a sample), 44 momentary loudness (LUFS)"
)


def features(samples: NDArray[np.float32], delta_width_frames: int, loudness_filter: str) -> NDArray[np.float32]:
    """The 45 features of a clip, (frame, 45) in the order of `MEANING`.

    Parameters
    ----------
    samples : (frame * 1470,) mono sound at 44.1 kHz, full scale +-1.
    delta_width_frames : odd number of rows that a difference looks at.
    loudness_filter : pyloudnorm's name of the weighting filter.
    """
    mfcc = mel_cepstrum(samples)
    deltas = [delta(mfcc, delta_width_frames, order) for order in (1, 2)]
    level = energy(samples), zero_crossing_rate(samples), loudness_lufs(samples, loudness_filter)
    return np.column_stack([mfcc, *deltas, *level]).astype(np.float32)


def mel_cepstrum(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """MFCC C0-C13 in dB units, (frame, 14)."""
    from scipy.fft import dct, rfft
    from scipy.signal.windows import hann

    spectra = rfft(_windows(samples, "constant") * hann(WINDOW_SAMPLES, sym=False)).astype(np.complex64)
    filters = mel_filters(NUM_BANDS, SAMPLE_RATE_HZ, WINDOW_SAMPLES)
    bands = np.einsum("tf,mf->mt", np.abs(spectra) ** 2, filters, optimize=True)  # in librosa's order, to the last bit
    levels_db = 10 * np.log10(np.maximum(bands, QUIETEST_POWER))  # (band, frame + 1)
    cepstrum: NDArray[np.float32] = dct(np.maximum(levels_db, levels_db.max() - RANGE_DB), axis=0, norm="ortho")
    return cepstrum[:NUM_MFCC].T[: _num_frames(samples)]


def delta(rows: NDArray[np.float32], width_frames: int, order: int) -> NDArray[np.float32]:
    """Derivative of that order along the frames, per frame, same shape.

    The first and last rows come from the polynomial of the nearest full width. A clip shorter than the width has none:
    there the first and the last row are repeated outwards, so a single frame has a delta of zero.
    """
    from scipy.signal import savgol_filter

    mode = "interp" if len(rows) >= width_frames else "nearest"
    found: NDArray[np.float32] = savgol_filter(rows, width_frames, order, deriv=order, axis=0, mode=mode)
    return found


def energy(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square of the window around every frame, (frame,), full scale 1."""
    found: NDArray[np.float32] = np.sqrt(np.mean(_windows(samples, "constant") ** 2, axis=1))
    return found[: _num_frames(samples)]


def zero_crossing_rate(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Zero crossings a sample in the window around every frame, (frame,)."""
    negative = _windows(samples, "edge") < -ZERO_LEVEL
    crossings = (negative[:, 1:] != negative[:, :-1]).sum(axis=1)
    return crossings[: _num_frames(samples)] / WINDOW_SAMPLES


def loudness_lufs(samples: NDArray[np.float32], weighting: str) -> NDArray[np.float64]:
    """Momentary loudness of the 400 ms around every frame, (frame,), in LUFS, never below -70.

    Beyond the clip's ends stands silence: rows within 200 ms of them read up to 3 LU low.
    """
    from pyloudnorm import Meter

    block_s = LOUDNESS_WINDOW_SAMPLES / SAMPLE_RATE_HZ
    meter = Meter(SAMPLE_RATE_HZ, filter_class=weighting, block_size=block_s, overlap=1 - 1 / frames_in(block_s))
    meter.integrated_loudness(np.pad(samples.astype(np.float64), LOUDNESS_WINDOW_SAMPLES // 2))
    return np.maximum(meter.blockwise_loudness[: _num_frames(samples)], LOUDNESS_FLOOR_LUFS)


def _windows(samples: NDArray[np.float32], beyond: Literal["constant", "edge"]) -> NDArray[np.float32]:
    """The window around every frame and around the clip's end, (frame + 1, 2048), a view.

    ``beyond`` is what `numpy.pad` puts beyond the clip's ends.
    """
    padded = np.pad(samples, WINDOW_SAMPLES // 2, mode=beyond)
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::HOP_SAMPLES]


def _num_frames(samples: NDArray[np.float32]) -> int:
    return exact_div(len(samples), HOP_SAMPLES)
