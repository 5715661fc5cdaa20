"""Where a voice is: the guard against recognisers that hear words in silence, in noise and in music."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.transcribers.transcript import SPEECH_RATE_HZ, Spans

BEGINS, ENDS = 0.5, 0.35  # probability of a voice from and to which it lasts, Silero's own
CHUNK_S = 512 / SPEECH_RATE_HZ  # of Silero's network
EARLIER_S = 0.05  # than noticed a voice begins; its end is noticed late
PAUSE_S = 0.3  # less is a gap between syllables


def voiced_spans(probability: NDArray[np.floating[Any]], duration_s: float) -> Spans:
    """Spans in s in which somebody speaks, with pauses between, from the probability (chunk,) of a voice."""
    spans: list[tuple[float, float]] = []
    for first, last in _stretches(probability):
        start_s, end_s = max(first * CHUNK_S - EARLIER_S, 0.0), min(last * CHUNK_S, duration_s)
        if spans and start_s - spans[-1][1] < PAUSE_S:
            start_s = spans.pop()[0]
        spans.append((start_s, end_s))
    return spans


def _stretches(probability: NDArray[np.floating[Any]]) -> Iterator[tuple[int, int]]:
    """First chunk and the one after the last of every stretch with a voice."""
    first = None
    for chunk, now in enumerate([*probability, 0.0]):
        if first is None and now >= BEGINS:
            first = chunk
        elif first is not None and now < ENDS:
            yield first, chunk
            first = None
