"""PocketSphinx (Huggins-Daines et al., ICASSP 2006; BSD): a recogniser whose English model is in its package.

It needs no download and is weak: see the word error rates in docs/speech.md. A stand-in where no Whisper weights are.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stages.transcribers.transcript import SPEECH_RATE_HZ, Spans, Transcript, Word, settled
from stages.transcribers.voice import as_pcm

LANGUAGE = "en"
FRAMES_PER_S = 100  # of its search
_VARIANT = re.compile(r"\(\d+\)$")  # "to(2)": another pronunciation of the same word
_FILLERS = ("<", "[", "+")  # silence, noise, breath


class Sphinx:
    """The decoder with its acoustic model ``en-us/``, dictionary and trigram language model out of one folder."""

    def __init__(self, model: Path) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(
            hmm=str(model / "en-us"),
            lm=str(model / "en-us.lm.bin"),
            dict=str(model / "cmudict-en-us.dict"),
            samprate=SPEECH_RATE_HZ,
            cmn="batch",
            loglevel="FATAL",
        )

    def transcribe(self, samples: np.ndarray, spans: Spans) -> Transcript:
        """The words of one clip: float32 (sample,) at 16 kHz, full scale +-1."""
        self._decoder.reinit_feat()  # else the end of the clip before is heard at the start of this one
        self._decoder.start_utt()
        self._decoder.process_raw(as_pcm(samples), full_utt=True)
        self._decoder.end_utt()
        words = (
            Word(_VARIANT.sub("", s.word), s.start_frame / FRAMES_PER_S, (s.end_frame + 1) / FRAMES_PER_S, s.prob)
            for s in self._decoder.seg() or ()
            if not s.word.startswith(_FILLERS)
        )
        return Transcript(settled(words, len(samples) / SPEECH_RATE_HZ, spans), LANGUAGE)
