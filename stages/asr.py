"""Stage ``asr``: what is said in a clip, word by word, with times.

The 2023 winner gained from transcripts (HSP, "Hierarchical Semantic Perceptual Listener Head Generation", ViCo@2023)
and does not say whose. The sound is a mix of both people: words may be the listener's back-channels.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.clip import Clip
from pipeline.media.encode import read_wav
from pipeline.stage import Stage, setting
from pipeline.weights import find_weights
from schemas.column import Column
from stages.transcribers.openai_whisper import Whisper
from stages.transcribers.sphinx import Sphinx
from stages.transcribers.transcript import SPEECH_RATE_HZ, Transcript
from stages.transcribers.voice import voiced_spans

WHISPER, SPHINX = "whisper", "pocketsphinx"
SPHINX_WEIGHTS = "pocketsphinx_en_us"
WORD = pa.struct([("text", pa.string())] + [(name, pa.float32()) for name in ("start_s", "end_s", "probability")])


class Asr(Stage):
    """Transcript and words with times, by the recogniser that the manifest names; none stands in for another."""

    @dataclass(frozen=True)
    class Settings:
        backend: str = setting(
            SPHINX,
            "recogniser: whisper (its weights are a download), or pocketsphinx, which is in its package, weak, English",
            choices=(WHISPER, SPHINX),
        )
        model: str = setting("base", "Whisper's checkpoint: tiny, base.en, large-v3-turbo ..., or a path with a /")
        language: str = setting("", "what is spoken, ISO 639-1, for Whisper; empty: detected in every clip")
        no_speech: float = setting(0.6, "Whisper's probability of no speech above which unlikely words are dropped")

    reads = ("audio",)
    writes = (
        Column("transcript", "string", meaning="what is said in the clip; empty where there is no speech"),
        Column("words", WORD, ("word",), meaning="its words: text, start and end in s from the clip's start, how sure"),
        Column("language", "string", meaning="language of the transcript, ISO 639-1; none where nothing is said"),
    )

    def weights(self) -> tuple[str, ...]:
        if self.settings.backend == SPHINX:
            return (SPHINX_WEIGHTS,)
        model = self.settings.model
        return (model if "/" in model else "whisper_" + re.sub(r"[-.]", "_", model),)

    def gpus(self) -> float:  # half a GPU holds every checkpoint beside the other models
        return 0.5 if self.settings.backend == WHISPER else 0.0

    def setup(self, device: str) -> None:
        path, settings = find_weights(self.weights()[0]).paths()[0], self.settings
        if settings.backend == SPHINX:
            self._recognise = Sphinx(path.parent.parent).transcribe
        else:
            whisper = Whisper(path, None if "/" in settings.model else settings.model, device)
            self._recognise = partial(whisper.transcribe, language=settings.language, no_speech=settings.no_speech)

    def process(self, clip: Clip) -> dict[str, Any]:
        import soxr

        if clip["audio"] is None:
            raise ValueError(f"asr: clip {clip.clip_id} has no sound; the stage `face` rejects such clips")
        samples, rate_hz = read_wav(clip.path("audio"))
        said = self.transcribe(soxr.resample(samples, rate_hz, SPEECH_RATE_HZ))
        return {
            "transcript": said.text,
            "words": [asdict(word) for word in said.words],
            "language": said.language if said.words else None,
        }

    def transcribe(self, samples: np.ndarray) -> Transcript:
        """The words in float32 (sample,) at 16 kHz; a recogniser only ever hears sound that may hold a voice."""
        spans = voiced_spans(samples)
        return self._recognise(samples, spans) if spans else Transcript()
