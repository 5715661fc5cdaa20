"""Stage ``text``: what is said as vectors, one a token and, through ``frame_token``, one a video frame.

HSP (the ViCo@2023 winner) feeds its listener with BERT's token semantics; which BERT, and how tokens map to frames, the
paper leaves open. Here: last hidden layer of a BERT encoder (Devlin et al., NAACL 2019); the tokens of a word share its
time in proportion to their letters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import grid_times_s
from pipeline.stage import Stage, setting
from pipeline.weights import find_weights
from schemas.column import FRAME_AXIS, Column
from stages.transcribers.bert import BertEncoder

DIMENSIONS = {"all-MiniLM-L6-v2": 384, "bert-base-uncased": 768}
WINDOW_TOKENS = 510  # BERT has 512 positions, two of which frame the text
WINDOWS_ON_GPU = 32  # that pass the network together
PAUSE = -1  # in frame_token


class Text(Stage):
    """Contextual embeddings of the transcript by a BERT encoder (Devlin et al., NAACL 2019), with the tokens' times."""

    @dataclass(frozen=True)
    class Settings:
        model: str = setting(
            "all-MiniLM-L6-v2",
            "BERT encoder: all-MiniLM-L6-v2 (in a package, 384 dimensions), bert-base-uncased (a download, 768), or "
            "the path, with a /, of a folder with config.json, vocab.txt and model.safetensors",
        )

    reads = ("transcript", "words")
    gpus = 0.25  # small networks: four fit beside each other
    batches_on = ("cuda",)

    def weights(self) -> tuple[str, ...]:
        model = self.settings.model
        return (model if "/" in model else model.lower().replace("-", "_"),)

    def writes(self) -> tuple[Column, ...]:  # the width depends on the model
        return (
            Column("token_embedding", "float32", ("token", self._dimensions()), meaning="contextual vector of a token"),
            Column("token_text", "string", ("token",), meaning="the token; ## marks one that goes on with a word"),
            Column("token_start_s", "float32", ("token",), "s", "when its part of the word begins"),
            Column("token_end_s", "float32", ("token",), "s", "when its part of the word ends"),
            Column("frame_token", "int32", (FRAME_AXIS,), "1", "index of the token being spoken, -1 in pauses"),
        )

    def _dimensions(self) -> int:
        model = self.settings.model
        if "/" not in model:
            return DIMENSIONS.get(model, 0)
        config = Path(model) / "config.json"
        return int(json.loads(config.read_text(encoding="utf-8"))["hidden_size"]) if config.is_file() else 0

    def setup(self, device: str) -> None:
        from tokenizers.implementations import BertWordPieceTokenizer

        folder = find_weights(self.weights()[0]).paths()[0].parent
        # From the vocabulary alone: a tokenizer.json may ask for truncation and padding, which would lose words.
        self._tokenizer = BertWordPieceTokenizer(str(folder / "vocab.txt"))
        self._encoder = BertEncoder(folder, device)
        self._encode([[]])  # a file whose weights do not fit each other fails here
        self._together = device != "cpu"

    def process_part(self, clips: list[Clip]) -> list[dict[str, Any] | Exception]:
        """On a GPU windows of all clips pass the network in batches."""
        if not self._together:
            return super().process_part(clips)
        said = [self._tokens(clip) for clip in clips]
        vectors = self._embed_together([tokens for tokens, _ in said], WINDOWS_ON_GPU)
        return [_columns(clip, *of_clip, some) for clip, of_clip, some in zip(clips, said, vectors, strict=True)]

    def process(self, clip: Clip) -> dict[str, Any]:
        tokens, spans = self._tokens(clip)
        return _columns(clip, tokens, spans, self._embed(tokens))

    def _tokens(self, clip: Clip) -> tuple[list[str], NDArray[np.float32]]:
        """The tokens of what is said and their spans (token, 2) in s."""
        words = clip["words"] or []
        split = [self._tokenizer.encode(word["text"], add_special_tokens=False).tokens for word in words]
        tokens = [token for pieces in split for token in pieces]
        times = [span for word, pieces in zip(words, split, strict=True) for span in shared_time(word, pieces)]
        return tokens, np.array(times, np.float32).reshape(-1, 2)

    def _embed(self, tokens: list[str]) -> NDArray[np.float32]:
        """Vectors (token, D). A text longer than a window is read in windows that overlap by half."""
        return self._embed_together([tokens], 1)[0]

    def _embed_together(self, texts: Sequence[list[str]], at_once: int) -> list[NDArray[np.float32]]:
        """Vectors (token, D) of each text; so many windows, of texts of like length, pass the network together."""
        ids = [[self._tokenizer.token_to_id(token) for token in tokens] for tokens in texts]
        vectors = [np.empty((len(some), self._encoder.size), np.float32) for some in ids]
        margin = WINDOW_TOKENS // 4  # of the overlap, each window keeps the half that it sees in more context
        places = [(text, start) for text, some in enumerate(ids) if some for start in _starts(len(some))]
        windows = [ids[text][start : start + WINDOW_TOKENS] for text, start in places]
        order = sorted(range(len(windows)), key=lambda row: len(windows[row]))
        found: dict[int, NDArray[np.float32]] = {}
        for number in range(0, len(order), at_once):
            some = order[number : number + at_once]
            found |= zip(some, self._encode([windows[row] for row in some]), strict=True)
        for row, (text, start) in enumerate(places):  # in a text's order: a window overwrites the end of the one before
            first = start + margin if start else 0
            vectors[text][first : start + WINDOW_TOKENS] = found[row][first - start :]
        return vectors

    def _encode(self, windows: Sequence[list[int]]) -> list[NDArray[np.float32]]:
        """Vectors (token, D) of the tokens of each window."""
        begin, end = map(self._tokenizer.token_to_id, ("[CLS]", "[SEP]"))
        hidden = self._encoder.hidden([[begin, *ids, end] for ids in windows]).cpu().numpy()
        return [vectors[1 : 1 + len(ids)] for vectors, ids in zip(hidden, windows, strict=True)]


def _starts(num_tokens: int) -> range:
    """Where the windows of a text begin."""
    return range(0, max(num_tokens - WINDOW_TOKENS // 2, 1), WINDOW_TOKENS // 2)


def _columns(clip: Clip, tokens: list[str], spans: NDArray[np.float32], vectors: NDArray[np.float32]) -> dict[str, Any]:
    return {
        "token_embedding": vectors,
        "token_text": tokens,
        "token_start_s": spans[:, 0],
        "token_end_s": spans[:, 1],
        "frame_token": frame_tokens(spans, clip.num_frames),
    }


def shared_time(word: dict[str, Any], pieces: list[str]) -> list[tuple[float, float]]:
    """Start and end of every token of a word: its time, shared in proportion to the tokens' letters."""
    letters = np.array([len(piece.removeprefix("##")) for piece in pieces])
    edges = np.concatenate([[0], np.cumsum(letters)]) / max(letters.sum(), 1)
    times = word["start_s"] + edges * (word["end_s"] - word["start_s"])
    return [(float(start), float(end)) for start, end in zip(times, times[1:], strict=False)]


def frame_tokens(spans: NDArray[np.float32], num_frames: int) -> NDArray[np.int32]:
    """Index of the token that is being spoken at every frame's instant, -1 where none is.

    The tokens' spans (token, 2) are start and end in s, starts not falling.
    """
    times_s = grid_times_s(num_frames).astype(spans.dtype)
    latest = np.searchsorted(spans[:, 0], times_s, side="right") - 1  # the token that began last
    spoken = (latest >= 0) & (times_s < np.append(spans[:, 1], -np.inf)[latest])
    return np.where(spoken, latest, PAUSE).astype(np.int32)
