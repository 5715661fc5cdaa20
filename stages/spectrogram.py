"""Stage ``spectrogram``: the sound as a log-mel spectrogram, three rows a video frame.

HSP (the ViCo@2023 winner) hears through a ResNetSE34 (Chung et al., "In defence of metric learning for speaker
recognition", Interspeech 2020), a network of spectrograms; the paper gives no numbers of it. These are ours, as near to
what that network was made for (16 kHz, windows of 25 ms every 10 ms, mel bands up to 8 kHz) as the frame clock allows:

* The sound is the clip's own, 44.1 kHz, one channel, full scale 1. At 16 kHz no whole number of samples is a frame.
* Row r of frame k is centred on sample ``1470 k + 490 (r - 1)``: a row every 11.1 ms, the middle one at the frame's
  instant. Laid one after the other, the rows of all frames are one spectrogram with a hop of 490 samples.
* A row sees 1102 samples (25 ms) under a periodic Hann window; beyond the clip's ends stands silence. Their power
  spectrum, of 2048 points so that every band holds one, is not normalised.
* The bands are triangles of height 1 whose corners lie at equal distances on the mel scale of O'Shaughnessy,
  ``2595 log10(1 + f / 700 Hz)`` (as in HTK).
* The value is ``ln(power + 1e-6)``. The rounding of 16-bit sound stays below that floor, so silence reads -13.8.

Pre-emphasis and normalisation over a clip or a training split belong to the network that reads this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import HOP_SAMPLES, SAMPLE_RATE_HZ, exact_div
from pipeline.media.encode import read_wav
from pipeline.stage import Stage, setting
from schemas.column import FRAME_AXIS, Column

ROWS = 3  # a video frame: 11.1 ms each, of all whole numbers the nearest to the usual 10
ROW_SAMPLES = exact_div(HOP_SAMPLES, ROWS)  # 490 samples = one row
WINDOW_SAMPLES = 1102  # 25 ms, less the half sample
FFT_SAMPLES = 2048  # a bin every 21.5 Hz; the lowest bands are 60 Hz wide
FLOOR = 1e-6  # power added before the logarithm
ROWS_AT_ONCE = 512  # bounds the memory that a long clip needs


class Spectrogram(Stage):
    """Log-mel spectrogram of the sound: 44.1 kHz, Hann windows of 25 ms, three rows a frame, ln(power + 1e-6)."""

    @dataclass(frozen=True)
    class Settings:
        mel_bins: int = setting(64, "bands of the mel scale", least=1)
        max_hz: float = setting(8000.0, "upper end of the highest band; the lowest begins at 0", least=1)

    opt_in = True
    reads = ("audio",)

    def writes(self) -> tuple[Column, ...]:
        meaning = "ln(power + 1e-6) of the sound in bands of the mel scale; the middle row is at the frame's instant"
        return (Column("log_mel", "float32", (FRAME_AXIS, ROWS, self.settings.mel_bins), meaning=meaning),)

    def setup(self, device: str) -> None:
        self._filters = mel_filters(self.settings.mel_bins, self.settings.max_hz)

    def process(self, clip: Clip) -> dict[str, Any]:
        samples, rate_hz = read_wav(clip.path("audio"))
        if rate_hz != SAMPLE_RATE_HZ or len(samples) != clip.num_frames * HOP_SAMPLES:
            raise ValueError(
                f"spectrogram: {clip.path('audio')} of clip {clip.clip_id} must hold {clip.num_frames * HOP_SAMPLES} "
                f"samples at {SAMPLE_RATE_HZ} Hz, found {len(samples)} at {rate_hz} Hz; write it again with --redo clip"
            )
        return {"log_mel": log_mel(samples, self._filters)}


def log_mel(samples: NDArray[np.float32], filters: NDArray[np.float64]) -> NDArray[np.float32]:
    """The spectrogram (frame, 3, band) of sound (frame * 1470,) under filters (band, bin)."""
    before = WINDOW_SAMPLES // 2 + ROW_SAMPLES  # the first row's centre is one row before the first sample
    padded = np.pad(samples, (before, WINDOW_SAMPLES))
    rows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::ROW_SAMPLES]
    rows = rows[: exact_div(len(samples), ROW_SAMPLES)]  # (frame * 3, 1102), a view
    window = np.hanning(WINDOW_SAMPLES + 1)[:-1]
    found = np.empty((len(rows), len(filters)), np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        spectrum = np.fft.rfft(rows[start : start + ROWS_AT_ONCE] * window, FFT_SAMPLES)
        found[start : start + ROWS_AT_ONCE] = np.log((np.abs(spectrum) ** 2) @ filters.T + FLOOR)
    return found.reshape(-1, ROWS, len(filters))


def mel_filters(bands: int, max_hz: float) -> NDArray[np.float64]:
    """Weights (band, bin) of the bins of a power spectrum in every band."""
    highest = 2595 * np.log10(1 + max_hz / 700)
    corners_hz = 700 * (10 ** (np.linspace(0, highest, bands + 2) / 2595) - 1)
    bins_hz = np.fft.rfftfreq(FFT_SAMPLES, 1 / SAMPLE_RATE_HZ)
    low, centre, high = (corners_hz[at : at + bands, None] for at in range(3))
    return np.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)).clip(0)
