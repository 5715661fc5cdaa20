"""What a recogniser returns: words with times, in order; and which of them cannot have been said."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from statistics import fmean

SPEECH_RATE_HZ = 16_000  # what every recogniser here was trained on
LOOP, IMPROBABLE, UNVOICED = "loop", "improbable", "unvoiced"  # why a word is dropped
LOOP_RATIO = 2.4  # of a text's bytes to those of its zlib, as in Whisper's paper, section 4.5; people reach 2
LEAST_PROBABILITY = 1e-6

Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Word:
    """One word: its text as it stands in the transcript, its time in seconds from the clip's start, 0..1 how sure."""

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True)
class Dropped(Word):
    """A word that the recogniser heard and that was not said: ``loop``, ``improbable`` or ``unvoiced``."""

    reason: str


@dataclass(frozen=True)
class Transcript:
    """The words of a clip, their language (ISO 639-1; nothing said, no language), and what was dropped."""

    words: tuple[Word, ...] = ()
    language: str | None = None
    dropped: tuple[Dropped, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def settled(heard: Iterable[Sequence[Word]], duration_s: float, spans: Spans, likely: float) -> list[Word]:
    """What a recogniser heard, a sequence a window; the words that were not said as `Dropped`.

    A window's words all fall together: as a loop, where they repeat each other, or as improbable, where the geometric
    mean of their probabilities is below ``likely``. Unvoiced are those outside every span with a voice. Times lie
    inside the clip, never run backwards, and reach into no pause.
    """
    found: list[Word] = []
    earliest_s = 0.0
    for window in heard:
        words = [word for word in window if any(map(str.isalnum, word.text))]
        fallen = _why_fallen(words, likely)
        for word in words:
            start_s = min(max(word.start_s, earliest_s), duration_s)
            end_s = min(max(word.end_s, start_s), duration_s)
            voiced = [(max(start_s, first), min(end_s, last)) for first, last in spans]
            first_s, last_s = max(voiced, key=lambda span: span[1] - span[0], default=(end_s, start_s))
            is_voiced = first_s <= last_s
            earliest_s, end_s = (first_s, last_s) if is_voiced else (start_s, end_s)
            placed = replace(word, start_s=earliest_s, end_s=end_s)
            reason = fallen or ("" if is_voiced else UNVOICED)
            found.append(Dropped(**vars(placed), reason=reason) if reason else placed)
    return found


def _why_fallen(words: Sequence[Word], likely: float) -> str:
    """Why no word of a window was said; empty where they were."""
    text = " ".join(word.text for word in words).encode()
    if len(text) > LOOP_RATIO * len(zlib.compress(text)):
        return LOOP
    logs = [log(max(word.probability, LEAST_PROBABILITY)) for word in words]
    return IMPROBABLE if words and exp(fmean(logs)) < likely else ""
