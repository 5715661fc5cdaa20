"""Whisper (Radford et al., ICML 2023; MIT) in CTranslate2's form (OpenNMT, MIT): the same network, many times faster.

CTranslate2 runs the network and follows the sound through the decoder's attention. What stands around it is here: the
spectrogram of the paper's section 2.2, windows, words out of tokens. One temperature: where nothing is likely, higher
ones find loops. The weights are 8-bit integers on the CPU and halves on a GPU. On the CPU a
batch holds one window: what is heard in a clip must not depend, in any bit, on the clips beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.acoustics.mel import mel_filters
from stages.transcribers.hidden import hidden
from stages.transcribers.transcript import SPEECH_RATE_HZ, Spans, Word

FFT_SAMPLES, HOP_SAMPLES = 400, 160  # 25 ms, 10 ms
WINDOW_HOPS = 3000  # 30 s, as the network was trained: on less it says everything twice
WINDOW_S = WINDOW_HOPS * HOP_SAMPLES / SPEECH_RATE_HZ
AROUND_S = 0.3  # of the pauses around what is said: soft beginnings and ends of words
POSITION_S = 2 * HOP_SAMPLES / SPEECH_RATE_HZ  # of the encoder, which sees every second hop
LATE_S = 0.1  # the attention follows the sound by that: the median, against a forced alignment (docs/speech.md)
QUIETEST = 8.0  # below the spectrogram's loudest value, in decades
BEAM = 5
LOOP_TOKENS = 10  # so many are not said again in a window: a loop is left after its second round
TOKENS_PER_S, TOKENS_SPARE, MAX_TOKENS = 10, 8, 224  # the fastest speakers need 8 a second; half the decoder's context
WINDOWS_ON_GPU = 16  # that pass the network together
UNFINISHED = "\ufffd"  # what some of a character's bytes decode to
UNSPACED = frozenset(("zh", "ja", "th", "lo", "my", "yue"))  # written without spaces: every piece is a word


class CTranslate2Whisper:
    """A model's folder (model.bin, config.json, tokenizer.json, vocabulary) on a device: ``"cpu"`` or ``"cuda"``."""

    def __init__(self, folder: Path, device: str, threads: int) -> None:
        with hidden("transformers"):  # its converters would load it, and torchvision with it
            from ctranslate2.models import Whisper
        from tokenizers import Tokenizer

        kind = "float16" if device == "cuda" else "int8_float32"
        self._model = Whisper(str(folder), device=device, compute_type=kind, inter_threads=1, intra_threads=threads)
        self._tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._filters = mel_filters(self._model.n_mels, SPEECH_RATE_HZ, FFT_SAMPLES)  # (band, frequency)

    def hear(self, samples: NDArray[np.float32], spans: Spans, language: str) -> tuple[list[list[Word]], str]:
        """The words of each window of a clip, float32 (sample,) at 16 kHz, and the language of the first.

        The language is an ISO 639-1 code, or empty to have it detected by a model of many.
        """
        heard = []
        for sound, start_s in _cut(samples, spans):
            encoded = self._encoded([sound])
            language = language or self._languages(encoded, 1)[0]
            heard += self._words(encoded, [(len(sound), start_s)], language)
        return heard, language

    def hear_together(
        self, clips: Sequence[tuple[NDArray[np.float32], Spans]], language: str, at_once: int = WINDOWS_ON_GPU
    ) -> list[tuple[list[list[Word]], str]]:
        """What `hear` gives for each of several clips, windows of all of them in batches; each has a span at least."""
        cut = [_cut(samples, spans) for samples, spans in clips]
        spoken = [language] * len(clips)
        if not language:
            firsts = (windows_of_clip[0][0] for windows_of_clip in cut)
            spoken = [said for some in _batches(firsts, at_once) for said in self._spoken(some)]
        heard: list[list[list[Word]]] = [[] for _ in clips]
        for one in dict.fromkeys(spoken):
            of_it = ((clip, *window) for clip, said in enumerate(spoken) if said == one for window in cut[clip])
            for some in _batches(of_it, at_once):
                encoded = self._encoded([sound for _, sound, _ in some])
                words = self._words(encoded, [(len(sound), start_s) for _, sound, start_s in some], one)
                for (clip, *_), of_window in zip(some, words, strict=True):
                    heard[clip].append(of_window)
        return list(zip(heard, spoken, strict=True))

    def _spoken(self, sounds: list[NDArray[np.float32]]) -> list[str]:
        return self._languages(self._encoded(sounds) if self._model.is_multilingual else None, len(sounds))

    def _encoded(self, sounds: list[NDArray[np.float32]]) -> Any:
        from ctranslate2 import StorageView

        return self._model.encode(StorageView.from_array(np.stack([log_mel(sound, self._filters) for sound in sounds])))

    def _languages(self, encoded: Any, count: int) -> list[str]:
        if not self._model.is_multilingual:
            return ["en"] * count
        return [str(likely).strip("<|>") for (likely, _), *_ in self._model.detect_language(encoded)]

    def _words(self, encoded: Any, sounds: list[tuple[int, float]], language: str) -> list[list[Word]]:
        """The words of windows of so many samples that begin at so many seconds of their clips."""
        task = (f"<|{language}|>", "<|transcribe|>") if self._model.is_multilingual else ()
        prompt = [self._tokens.token_to_id(token) for token in ("<|startoftranscript|>", *task)]
        untimed = [*prompt, self._tokens.token_to_id("<|notimestamps|>")]
        limits = [min(TOKENS_SPARE + TOKENS_PER_S * count // SPEECH_RATE_HZ, MAX_TOKENS) for count, _ in sounds]
        said = self._model.generate(
            encoded,
            [untimed] * len(sounds),
            beam_size=BEAM,
            no_repeat_ngram_size=LOOP_TOKENS,
            max_length=len(untimed) + max(limits),
        )
        ids = [one.sequences_ids[0][:limit] for one, limit in zip(said, limits, strict=True)]
        if not any(ids):
            return [[] for _ in sounds]
        hops = [min(count // HOP_SAMPLES, WINDOW_HOPS) for count, _ in sounds]
        aligned = self._model.align(encoded, prompt, [some or untimed[-1:] for some in ids], hops)
        starts_s = (start_s for _, start_s in sounds)
        return [
            [*self._placed(some, path, start_s, language)] if some else []
            for some, path, start_s in zip(ids, aligned, starts_s, strict=True)
        ]

    def _placed(self, ids: list[int], aligned: Any, start_s: float, language: str) -> Iterator[Word]:
        """The words of a window that begins at ``start_s`` of the clip, from its tokens and their way through it."""
        token, position = np.array(aligned.alignments).T  # a path: neither ever falls
        times_s = start_s - LATE_S + position[np.searchsorted(token, np.arange(len(ids) + 1))] * POSITION_S
        first = 0
        for text, count in self._in_words(ids, language in UNSPACED):
            last = first + count
            sure = np.mean(aligned.text_token_probs[first:last])
            yield Word(text, float(times_s[first]), float(times_s[last]), float(sure))
            first = last

    def _in_words(self, ids: list[int], unspaced: bool) -> list[tuple[str, int]]:
        """Words with the number of their tokens; signs go with the word before them."""
        words: list[tuple[str, int]] = []
        begun: list[int] = []
        for one in ids:
            begun.append(one)
            text = self._tokens.decode(begun)
            if UNFINISHED in text:
                continue
            is_new = text.startswith(" ") or (unspaced and any(map(str.isalnum, text)))
            before, count = ("", 0) if is_new or not words else words.pop()
            words.append((before + text, count + len(begun)))
            begun = []
        return [(text.strip(), count) for text, count in words]


def _cut(samples: NDArray[np.float32], spans: Spans) -> list[tuple[NDArray[np.float32], float]]:
    """The sound of each window of a clip, and where it begins in s."""
    bounds = windows(spans, len(samples) / SPEECH_RATE_HZ)
    ends = ((start_s, round(start_s * SPEECH_RATE_HZ), round(end_s * SPEECH_RATE_HZ)) for start_s, end_s in bounds)
    return [(samples[first:last], start_s) for start_s, first, last in ends]


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    left = iter(items)
    return iter(lambda: list(islice(left, size)), [])  # itertools.batched, from Python 3.12 on


def windows(spans: Spans, duration_s: float) -> list[tuple[float, float]]:
    """As few windows, in s, as hold the spans: from pause to pause, unless somebody speaks on for half a minute."""
    longest_s = WINDOW_S - 2 * AROUND_S
    found: list[tuple[float, float]] = []
    for first_s, last_s in spans:
        if found and last_s - found[-1][0] <= longest_s:
            first_s, _ = found.pop()
        while last_s - first_s > longest_s:
            found.append((first_s, first_s + longest_s))
            first_s += longest_s
        found.append((first_s, last_s))
    return [(max(first_s - AROUND_S, 0.0), min(last_s + AROUND_S, duration_s)) for first_s, last_s in found]


def log_mel(sound: NDArray[np.float32], filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """What Whisper sees of float32 (sample,), full scale +-1, at most 30 s: float32 (band, 3000), silence behind it."""
    padded = np.zeros(WINDOW_HOPS * HOP_SAMPLES, np.float32)
    padded[: len(sound)] = sound
    around = np.pad(padded, FFT_SAMPLES // 2, "reflect")
    pieces = np.lib.stride_tricks.sliding_window_view(around, FFT_SAMPLES)[:-1:HOP_SAMPLES]
    waves = np.fft.rfft(pieces * np.hanning(FFT_SAMPLES + 1)[:-1])  # (3000, 201)
    levels = np.log10(np.maximum(filters @ np.square(np.abs(waves)).T.astype(np.float32), 1e-10))
    found: NDArray[np.float32] = (np.maximum(levels, levels.max() - QUIETEST) + 4) / 4
    return found
