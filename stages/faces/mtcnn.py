"""The networks of MTCNN: P-, R- and O-Net, in the shape and with the weights of facenet-pytorch 2.6 (MIT).

The weights lie in that package, which is not imported: it needs a torchvision that was compiled for the very torch
that is here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.weights import find_weights


@dataclass(frozen=True)
class Shape:
    """Convolutions (channels, kernel, pooling or 0) with PReLU, perhaps a dense layer, and the widths of the heads."""

    convolutions: tuple[tuple[int, int, int], ...]
    dense: tuple[int, int] | None
    heads: tuple[int, ...]  # face or not, four shifts, ten coordinates of points


SHAPES = (
    Shape(((10, 3, 2), (16, 3, 0), (32, 3, 0)), None, (2, 4)),
    Shape(((28, 3, 3), (48, 3, 3), (64, 2, 0)), (576, 128), (2, 4)),
    Shape(((32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, 0)), (1152, 256), (2, 4, 10)),
)


class Network(nn.Module):
    """One of the three; its layers carry the names of the published weights."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        inputs = 3
        for number, (channels, kernel, _) in enumerate(shape.convolutions, 1):
            self.add_module(f"conv{number}", nn.Conv2d(inputs, channels, kernel))
            self.add_module(f"prelu{number}", nn.PReLU(channels))
            inputs = channels
        self.last = len(shape.convolutions) + 1
        if shape.dense:
            self.add_module(f"dense{self.last}", nn.Linear(*shape.dense))
            self.add_module(f"prelu{self.last}", nn.PReLU(shape.dense[1]))
        for number, width in enumerate(shape.heads, 1):
            head = nn.Linear(shape.dense[1], width) if shape.dense else nn.Conv2d(inputs, width, 1)
            self.add_module(self._head(number), head)

    def _head(self, number: int) -> str:
        return f"dense{self.last + 1}_{number}" if self.shape.dense else f"conv{self.last}_{number}"

    def _layer(self, name: str, x: Tensor) -> Tensor:
        return self.get_submodule(name)(x)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Probabilities (picture, 2, ...) of no face and of a face, shifts (picture, 4, ...) and O-Net's points."""
        for number, (_, _, pooling) in enumerate(self.shape.convolutions, 1):
            x = self._layer(f"prelu{number}", self._layer(f"conv{number}", x))
            if pooling:
                x = functional.max_pool2d(x, pooling, 2, ceil_mode=True)
        if self.shape.dense:
            x = x.permute(0, 3, 2, 1).flatten(1)  # column by column, as the weights were trained in Matlab
            x = self._layer(f"prelu{self.last}", self._layer(f"dense{self.last}", x))
        probabilities, *rest = (self._layer(self._head(number), x) for number in range(1, len(self.shape.heads) + 1))
        return probabilities.softmax(1), *rest


def networks(device: str) -> list[Network]:
    """P-, R- and O-Net on a device; channels last, because convolutions with few channels run 3.5 times as fast so."""
    made = []
    for shape, path in zip(SHAPES, find_weights("mtcnn").paths(), strict=True):
        network = Network(shape).eval()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        made.append(network.to(device=device, memory_format=torch.channels_last))
    return made
