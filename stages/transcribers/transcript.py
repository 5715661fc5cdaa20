"""What a recogniser returns: words with times, in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

SPEECH_RATE_HZ = 16_000  # what every recogniser here was trained on

Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Word:
    """One word: its text as it stands in the transcript, its time in seconds from the clip's start, 0..1 how sure."""

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True)
class Transcript:
    """The words of a clip and their language (ISO 639-1); nothing said, no language."""

    words: tuple[Word, ...] = ()
    language: str | None = None

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def settled(words: Iterable[Word], duration_s: float, spans: Spans) -> tuple[Word, ...]:
    """The words that touch a span with a voice, with times that lie inside the clip and never run backwards."""
    kept: list[Word] = []
    earliest_s = 0.0
    for word in words:
        start_s = min(max(word.start_s, earliest_s), duration_s)
        end_s = min(max(word.end_s, start_s), duration_s)
        if word.text and any(start_s < last and first < end_s for first, last in spans):
            kept.append(replace(word, start_s=start_s, end_s=end_s))
            earliest_s = start_s
    return tuple(kept)
