"""Whisper (Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", ICML 2023; MIT).

Word times come from the attention of the decoder's heads that follow the sound, aligned by dynamic time warping: the
package's own `word_timestamps`. Greedy decoding, so that the same sound gives the same words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.transcribers.transcript import Spans, Word

HALLUCINATION_SILENCE_S = 2.0  # silence around words that are unlikely to have been said


class Whisper:
    """A checkpoint's file on a device: ``"cpu"`` or ``"cuda"``, where it runs in half precision.

    By its published name the package knows the heads that follow the sound; None for one's own.
    """

    def __init__(self, checkpoint: Path, name: str | None, device: str) -> None:
        import whisper

        # By name it looks for the file in download_root, where ours is, and compares its hash: nothing is downloaded.
        self._model = whisper.load_model(name or str(checkpoint), device, download_root=str(checkpoint.parent))
        self._half = device == "cuda"

    def hear(self, samples: np.ndarray, spans: Spans, language: str, no_speech: float) -> tuple[list[list[Word]], str]:
        """The words of each segment of a clip, float32 (sample,) at 16 kHz, full scale +-1, and their language.

        The language is an ISO 639-1 code, or empty to have it detected; ``no_speech`` is the probability of no speech
        above which half a minute is passed over, unless its words are likely.
        """
        said: dict[str, Any] = self._model.transcribe(
            samples.astype(np.float32),
            word_timestamps=True,
            language=language or None,
            no_speech_threshold=no_speech,
            hallucination_silence_threshold=HALLUCINATION_SILENCE_S,
            condition_on_previous_text=False,  # one bad half-minute must not lead the next astray
            temperature=0.0,
            fp16=self._half,
        )
        heard = [
            [
                Word(word["word"].strip(), *(float(word[key]) for key in ("start", "end", "probability")))
                for word in words
            ]
            for words in (segment["words"] for segment in said["segments"])
        ]
        return heard, said["language"]
