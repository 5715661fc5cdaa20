"""Triangular bands on Slaney's mel scale (Auditory Toolbox, 1998), librosa's default (McFee et al., 2015).

The same numbers as ``librosa.filters.mel``, which the tests compare, without the 1.3 s of processor time that librosa's
import costs every worker.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LINEAR_HZ = 200 / 3  # a mel below 1 kHz ...
BREAK_HZ = 1000.0
BREAK_MEL = BREAK_HZ / LINEAR_HZ
STEP = np.log(6.4) / 27  # ... and the logarithm of the ratio of neighbours above


def mel_filters(bands: int, rate_hz: int, fft_samples: int) -> NDArray[np.float32]:
    """Weights (band, bin) of the bins of a power spectrum in bands from 0 Hz to Nyquist, each of area 1 in Hz."""
    highest_mel = BREAK_MEL + np.log(rate_hz / 2 / BREAK_HZ) / STEP
    mels = np.linspace(0, highest_mel, bands + 2)
    corners_hz = np.where(mels < BREAK_MEL, LINEAR_HZ * mels, BREAK_HZ * np.exp(STEP * (mels - BREAK_MEL)))
    low, centre, high = (corners_hz[at : at + bands, None] for at in range(3))
    bins_hz = np.fft.rfftfreq(fft_samples, 1 / rate_hz)
    triangles = np.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)).clip(0)
    return (triangles.astype(np.float32) * (2 / (high - low))).astype(np.float32)
