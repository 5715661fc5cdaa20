"""Where a voice may be: the guard against recognisers that hear words in silence and in noise.

WebRTC's voice activity detector (Gaussian mixtures on six bands, BSD; the copy inside pocketsphinx) takes any steady
noise for a voice. Speech is never steady: the level of syllables and of the gaps between them differs by far more than
that of a fan, a hum or a hiss, so sound of constant level is no speech, whatever the detector says.
"""

from __future__ import annotations

import numpy as np

from stages.transcribers.transcript import SPEECH_RATE_HZ, Spans

STRICTNESS = 2  # of WebRTC's 0..3; 3 misses the soft ends of words
FRAME_S = 0.03
MARGIN_S = 0.3  # around a voice: soft beginnings and ends, and the error of word times
LEVEL_WINDOW_SAMPLES = SPEECH_RATE_HZ // 10  # long enough to average noise, shorter than a syllable
MIN_LEVEL_RANGE_DB = 6.0  # of a clip's windows, 5th to 95th percentile; steady noise has 2, quiet rooms 3, speech 20
FLOOR_POWER = 1e-9  # -90 dB full scale: below it there is nothing to compare


def voiced_spans(samples: np.ndarray) -> Spans:
    """Spans in seconds that may hold speech, with a margin, of float32 (sample,) at 16 kHz, full scale +-1."""
    if level_range_db(samples) < MIN_LEVEL_RANGE_DB:
        return []
    spans: list[tuple[float, float]] = []
    for frame in np.flatnonzero(_voiced(samples)):
        start_s, end_s = frame * FRAME_S - MARGIN_S, (frame + 1) * FRAME_S + MARGIN_S
        if spans and start_s <= spans[-1][1]:
            start_s = spans.pop()[0]
        spans.append((float(start_s), float(end_s)))
    return spans


def level_range_db(samples: np.ndarray) -> float:
    """How much the level of windows of 0.1 s varies: 95th less 5th percentile."""
    count = len(samples) // LEVEL_WINDOW_SAMPLES
    if count == 0:
        return 0.0
    windows = samples[: count * LEVEL_WINDOW_SAMPLES].reshape(count, -1)
    power = np.mean(np.square(windows, dtype=np.float64), axis=1)
    low, high = np.percentile(10 * np.log10(power + FLOOR_POWER), [5, 95])
    return float(high - low)


def as_pcm(samples: np.ndarray) -> bytes:
    """Float samples as 16-bit PCM."""
    return np.rint(samples * 32767).clip(-32768, 32767).astype("<i2").tobytes()


def _voiced(samples: np.ndarray) -> np.ndarray:
    """WebRTC's decision for every whole frame, bool (frame,)."""
    from pocketsphinx import Vad

    detector = Vad(STRICTNESS, SPEECH_RATE_HZ, FRAME_S)
    pcm, size = as_pcm(samples), detector.frame_bytes
    return np.array([detector.is_speech(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size)], bool)
