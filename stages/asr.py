"""Stage ``asr``: what is said in a clip, word by word, with times.

The 2023 winner gained from transcripts (HSP, "Hierarchical Semantic Perceptual Listener Head Generation", ViCo@2023)
and does not say whose. The sound is a mix of both people: words may be the listener's back-channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.media.encode import read_wav
from pipeline.stage import Stage, setting
from pipeline.weights import find_weights
from schemas.column import Column
from stages.transcribers.transcript import (
    IMPROBABLE,
    LOOP,
    SPEECH_RATE_HZ,
    UNVOICED,
    Dropped,
    Spans,
    Transcript,
    Word,
    settled,
)
from stages.transcribers.voice import voiced_spans

CTRANSLATE2, WHISPER = "ctranslate2", "whisper"
DEFAULTS = {CTRANSLATE2: "tiny.en", WHISPER: "base"}  # models
VOICE = "silero_vad"
FIELDS = [("text", pa.string()), *((name, pa.float32()) for name in ("start_s", "end_s", "probability"))]


class Asr(Stage):
    """Transcript and words with times, by the recogniser that the manifest names; none stands in for another."""

    @dataclass(frozen=True)
    class Settings:
        backend: str = setting(
            CTRANSLATE2,
            "what runs Whisper: ctranslate2 (tiny.en is in a package), or whisper, OpenAI's own (all are downloads)",
            choices=(CTRANSLATE2, WHISPER),
        )
        model: str = setting(
            "",
            "Whisper's size: for ctranslate2 tiny.en (the default), for whisper tiny, base (the default), base.en, "
            "large-v3-turbo ...; or the path, with a /, of a checkpoint, which for ctranslate2 is a folder",
        )
        language: str = setting("", "what is spoken, ISO 639-1; empty: detected in every clip by models of many")
        likely: float = setting(
            0.45, "geometric mean of their probabilities below which the words of half a minute drop"
        )
        no_speech: float = setting(0.6, "whisper's probability of no speech above which unlikely words are not heard")

    version = 2
    batches_on = ("cuda",)
    reads = ("audio",)
    writes = (
        Column("transcript", "string", meaning="what is said in the clip; empty where there is no speech"),
        Column(
            "words",
            pa.struct(FIELDS),
            ("word",),
            meaning="its words: text, start and end in s from the clip's start, how sure",
        ),
        Column(
            "dropped_words",
            pa.struct([*FIELDS, ("reason", pa.string())]),
            ("dropped_word",),
            meaning=f"what was heard and not said, and why: {LOOP}, {IMPROBABLE} or {UNVOICED}",
        ),
        Column("language", "string", meaning="language of the transcript, ISO 639-1; none where nothing is said"),
    )

    def weights(self) -> tuple[str, ...]:
        backend = self.settings.backend
        model = self.settings.model or DEFAULTS[backend]
        return (model if "/" in model else f"{backend}_" + re.sub(r"[-.]", "_", model), VOICE)

    def gpus(self) -> float:  # half a GPU holds every checkpoint beside the other models
        return 0.5

    def setup(self, device: str) -> None:
        from stages.speakers.voice import Voice

        settings, (model, voice) = self.settings, map(find_weights, self.weights())
        self._voice = Voice(*voice.paths())
        self._together = settings.backend == CTRANSLATE2 and device != "cpu"
        path = model.paths()[0]
        if settings.backend == CTRANSLATE2:
            from stages.transcribers.ctranslate2_whisper import CTranslate2Whisper

            recogniser = CTranslate2Whisper(path.parent, device, int(self.cpus()))
            self._hear = partial(recogniser.hear, language=settings.language)
            self._hear_together = partial(recogniser.hear_together, language=settings.language)
        else:
            from stages.transcribers.openai_whisper import Whisper

            name = settings.model or DEFAULTS[WHISPER]
            whisper = Whisper(path, None if "/" in name else name, device)
            self._hear = partial(whisper.hear, language=settings.language, no_speech=settings.no_speech)

    def process_part(self, clips: list[Clip]) -> list[dict[str, Any] | Exception]:
        """On a GPU windows of all clips in batches, where the recogniser takes such."""
        if not self._together:
            return super().process_part(clips)
        sounds = [_speech(clip) for clip in clips]
        spans = [self._voiced(samples) for samples in sounds]
        spoken = [row for row, found in enumerate(spans) if found]
        heard = self._hear_together([(sounds[row], spans[row]) for row in spoken])
        said = [Transcript() for _ in clips]
        for row, (words, language) in zip(spoken, heard, strict=True):
            said[row] = self._settled(words, language, sounds[row], spans[row])
        return [_columns(one) for one in said]

    def process(self, clip: Clip) -> dict[str, Any]:
        return _columns(self.transcribe(_speech(clip)))

    def transcribe(self, samples: NDArray[np.float32]) -> Transcript:
        """The words in float32 (sample,) at 16 kHz; a recogniser only ever hears sound with a voice in it."""
        spans = self._voiced(samples)
        return self._settled(*self._hear(samples, spans), samples, spans) if spans else Transcript()

    def _voiced(self, samples: NDArray[np.float32]) -> Spans:
        return voiced_spans(self._voice.probability(samples, amid_speech=False), len(samples) / SPEECH_RATE_HZ)

    def _settled(
        self, heard: Iterable[Sequence[Word]], language: str, samples: NDArray[np.float32], spans: Spans
    ) -> Transcript:
        found = settled(heard, len(samples) / SPEECH_RATE_HZ, spans, self.settings.likely)
        words = tuple(word for word in found if not isinstance(word, Dropped))
        return Transcript(words, language if words else None, tuple(w for w in found if isinstance(w, Dropped)))


def _speech(clip: Clip) -> NDArray[np.float32]:
    """A clip's sound as recognisers take it, float32 (sample,) at 16 kHz."""
    import soxr

    samples, rate_hz = read_wav(clip.path("audio"))
    found: NDArray[np.float32] = soxr.resample(samples, rate_hz, SPEECH_RATE_HZ)
    return found


def _columns(said: Transcript) -> dict[str, Any]:
    return {
        "transcript": said.text,
        "words": [asdict(word) for word in said.words],
        "dropped_words": [asdict(word) for word in said.dropped],
        "language": said.language,
    }
