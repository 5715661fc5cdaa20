"""Networks that turn frames into the embeddings that metrics compare: by quantity, with the weights they need."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Embedding(Protocol):
    """A network with its weights: RGB frames, uint8 (frame, height, width, 3), to float32 (frame, dimension)."""

    def __call__(self, frames: np.ndarray) -> np.ndarray: ...


def load_embedding(quantity: str, device: str) -> Embedding:
    """The network of ``inception``, ``arcface``, ``vggface2`` or ``hopenet``; `WeightsError` where weights are missing."""
    raise NotImplementedError
