"""Stage ``text``: what is said as vectors, one a token and, through ``frame_token``, one a video frame.

HSP (the ViCo@2023 winner) feeds its listener with BERT's token semantics; which BERT, and how tokens map to frames, the
paper leaves open. Here: last hidden layer of a BERT encoder (Devlin et al., NAACL 2019); the tokens of a word share its
time in proportion to their letters.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import grid_times_s
from pipeline.stage import Stage, setting
from pipeline.weights import WeightsError, find_weights
from schemas.column import FRAME_AXIS, Column

DIMENSIONS = {"all-MiniLM-L6-v2": 384, "bert-base-uncased": 768}
WINDOW_TOKENS = 510  # BERT has 512 positions, two of which frame the text
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
        with _without_torchvision():
            from transformers import BertTokenizerFast

        folder = find_weights(self.weights()[0]).paths()[0].parent
        # From the vocabulary alone: a tokenizer.json may ask for truncation and padding, which would lose words.
        self._tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True)
        self._encoder = load_encoder(folder).to(device).eval()

    def process(self, clip: Clip) -> dict[str, Any]:
        words = clip["words"] or []
        split = [self._tokenizer.tokenize(word["text"]) for word in words]
        tokens = [token for pieces in split for token in pieces]
        times = [span for word, pieces in zip(words, split, strict=True) for span in shared_time(word, pieces)]
        spans = np.array(times, np.float32).reshape(-1, 2)
        return {
            "token_embedding": self._embed(tokens),
            "token_text": tokens,
            "token_start_s": spans[:, 0],
            "token_end_s": spans[:, 1],
            "frame_token": frame_tokens(spans, clip.num_frames),
        }

    def _embed(self, tokens: list[str]) -> NDArray[np.float32]:
        """Vectors (token, D). A text longer than a window is read in windows that overlap by half."""
        ids = self._tokenizer.convert_tokens_to_ids(tokens)
        vectors = np.empty((len(ids), self._encoder.config.hidden_size), np.float32)
        margin = WINDOW_TOKENS // 4  # of the overlap, each window keeps the half that it sees in more context
        for start in range(0, max(len(ids) - WINDOW_TOKENS // 2, 1) if ids else 0, WINDOW_TOKENS // 2):
            first = start + margin if start else 0
            vectors[first : start + WINDOW_TOKENS] = self._encode(ids[start : start + WINDOW_TOKENS])[first - start :]
        return vectors

    def _encode(self, ids: list[int]) -> NDArray[np.float32]:
        import torch

        framed = [self._tokenizer.cls_token_id, *ids, self._tokenizer.sep_token_id]
        with torch.inference_mode():
            hidden = self._encoder(torch.tensor([framed], device=self._encoder.device)).last_hidden_state
        found: NDArray[np.float32] = hidden[0, 1:-1].float().cpu().numpy()
        return found


def load_encoder(folder: Path) -> Any:
    """The BERT encoder of a folder with config.json and model.safetensors, whatever heads it was trained with.

    Raises
    ------
    WeightsError : the file lacks weights of the encoder, which would otherwise be drawn at random.
    """
    with _without_torchvision():
        from transformers import BertModel
        from transformers.utils import logging

    logging.set_verbosity_error()  # a report of every head that is left out; what matters is checked here
    logging.disable_progress_bar()
    encoder, report = BertModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, add_pooling_layer=False, output_loading_info=True
    )
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise WeightsError(f"{folder / 'model.safetensors'}: no BERT encoder: {missing} ... are not in it")
    return encoder


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Hide torchvision from an import unless it is loaded already.

    transformers imports it, where it is installed, for models of pictures; next to another build of torch than its own
    (the registry's CUDA wheel beside a CPU torch) that import fails.
    """
    hidden = "torchvision" not in sys.modules
    if hidden:
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # Python's own sign for "there is none"
    try:
        yield
    finally:
        if hidden:
            del sys.modules["torchvision"]


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
