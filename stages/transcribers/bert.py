"""BERT's encoder (Devlin et al., NAACL 2019): the network alone, with the names of the published files.

The tests hold it against transformers, to the last bit where nothing is padded; transformers' import would cost every
worker 2.5 s of processor time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.weights import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

TABLES = ("word_embeddings", "token_type_embeddings", "position_embeddings")
LAYER = (
    *(f"attention.{part}" for part in ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm")),
    *("intermediate.dense", "output.dense", "output.LayerNorm"),
)  # what every layer has


class BertEncoder:
    """The encoder of a folder with config.json and model.safetensors, whatever heads it was trained with.

    Raises
    ------
    WeightsError : the file lacks weights of the encoder, or the encoder is of another kind.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from safetensors.torch import load_file

        file = load_file(folder / "model.safetensors", device=device)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if (config["hidden_act"], config.get("position_embedding_type", "absolute")) != ("gelu", "absolute"):
            raise WeightsError(f"{folder / 'config.json'}: expected a BERT with gelu and absolute positions")
        self.size, self._heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._layers = [f"encoder.layer.{number}" for number in range(config["num_hidden_layers"])]
        self._weights = {_today(name): tensor.float() for name, tensor in file.items()}
        parts = ("embeddings.LayerNorm", *(f"{layer}.{part}" for layer in self._layers for part in LAYER))
        needed = {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}
        needed |= {f"embeddings.{table}.weight" for table in TABLES}
        if missing := sorted(needed - self._weights.keys()):
            lacking = ", ".join(missing[:3])
            raise WeightsError(f"{folder / 'model.safetensors'}: no BERT encoder: {lacking} ... are not in it")
        self._device = device

    def hidden(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The last hidden layer (text, token, D) of texts' tokens, those that frame them included.

        Shorter texts are padded; what stands there has no meaning.
        """
        import torch

        with torch.inference_mode():
            rows = [torch.tensor(ids, device=self._device) for ids in texts]
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # (text, token)
            lengths = torch.tensor([len(row) for row in rows], device=self._device)
            real = torch.arange(ids.shape[1], device=self._device) < lengths[:, None]
            seen = None if bool(real.all()) else real[:, None, None]  # by every head of every token
            words, kinds, places = (self._weights[f"embeddings.{table}.weight"] for table in TABLES)
            x = self._normal(words[ids] + kinds[0] + places[: ids.shape[1]], "embeddings.LayerNorm")
            for layer in self._layers:
                x = self._layer(x, layer, seen)
        return x

    def _layer(self, x: Tensor, name: str, seen: Tensor | None) -> Tensor:
        from torch.nn.functional import gelu, scaled_dot_product_attention

        looks = [self._linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        query, key, value = (look.unflatten(-1, (self._heads, -1)).transpose(1, 2) for look in looks)
        heads = scaled_dot_product_attention(query, key, value, seen)  # (text, head, token, D / heads)
        mixed = self._linear(heads.transpose(1, 2).flatten(2), f"{name}.attention.output.dense")
        x = self._normal(mixed + x, f"{name}.attention.output.LayerNorm")
        wide = gelu(self._linear(x, f"{name}.intermediate.dense"))
        return self._normal(self._linear(wide, f"{name}.output.dense") + x, f"{name}.output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        from torch.nn.functional import linear

        return linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _normal(self, x: Tensor, name: str) -> Tensor:
        from torch.nn.functional import layer_norm

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return layer_norm(x, (self.size,), weight, bias, self._epsilon)


def _today(name: str) -> str:
    """A weight's name in older files, or in those of an encoder with heads, as an encoder's files name it today."""
    name = name.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight")
    return name.replace("LayerNorm.beta", "LayerNorm.bias")
