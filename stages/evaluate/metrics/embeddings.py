"""Networks that turn frames into the embeddings that metrics compare, a network a quantity."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.weights import find_weights
from stages.evaluate.metrics.definition import Quantity
from stages.evaluate.metrics.validation import check_pictures

BATCH_FRAMES = 32
NETWORKS = tuple(quantity for quantity in Quantity if quantity.value.network and not quantity.value.heard)


@dataclass(frozen=True)
class Embedding:
    """A network with its weights, on a device."""

    quantity: Quantity
    network: Any  # torch's nn.Module
    device: str

    @classmethod
    def load(cls, quantity: Quantity, device: str) -> Embedding:
        """The network of one of `NETWORKS`; `WeightsError` where its weights are missing."""
        from stages.morphable.checkpoint import filled, read_checkpoint

        (checkpoint,) = find_weights(quantity.value.network).paths()
        module = _module(quantity)
        stored = {key: value for key, value in read_checkpoint(checkpoint).items() if not key.startswith(module.UNUSED)}
        return cls(quantity, filled(module.NETWORK(), stored, checkpoint).eval().to(device), device)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Embeddings float32 (frame, dimension) of RGB frames, uint8 (frame, height, width, 3)."""
        import torch

        check_pictures(frames)
        prepare, parts = _module(self.quantity).prepare, [np.empty((0, self.quantity.value.width), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(frames), BATCH_FRAMES):
                batch = torch.from_numpy(frames[start : start + BATCH_FRAMES]).to(self.device)
                parts.append(self.network(prepare(batch.permute(0, 3, 1, 2).float())).cpu().numpy())
        return np.concatenate(parts)


def _module(quantity: Quantity) -> Any:
    """The file of ``networks/`` that bears the quantity's name."""
    return importlib.import_module(f"stages.evaluate.metrics.networks.{quantity}")
