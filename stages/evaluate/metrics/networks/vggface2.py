"""Inception-ResNet v1 trained on VGGFace2: 512 numbers that tell people apart.

Szegedy et al., AAAI 2017, in the shape of facenet-pytorch (MIT), whose checkpoint ``20180402-114759-vggface2.pt`` loads
as it is; Cao et al., "VGGFace2", FG 2018, for the data. MFR-Net names the data and no network; this is the usual one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.evaluate.metrics.networks.convolution import NORM_EPS, NormedConvolution, resized

SIDE_PX = 160
GREY, GREY_RANGE = 127.5, 128.0
EMBEDDING, FEATURES = 512, 1792


def _chain(*shapes: tuple) -> nn.Sequential:
    """Convolutions one after the other, each (inputs, outputs, kernel) or (inputs, outputs, kernel, stride)."""
    return nn.Sequential(*(NormedConvolution(*shape) for shape in shapes))


class _Branches(nn.Module):
    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.count = len(branches)
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)

    def parts(self, x: Tensor) -> list[Tensor]:
        return [self.get_submodule(f"branch{number}")(x) for number in range(self.count)]


class _Residual(_Branches):
    """Two or three branches, joined by a 1x1 convolution, scaled and added to the input."""

    def __init__(self, width: int, scale: float, *branches: nn.Module, joined: int, last: bool = False) -> None:
        super().__init__(*branches)
        self.scale, self.last = scale, last
        self.conv2d = nn.Conv2d(joined, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.scale * self.conv2d(torch.cat(self.parts(x), 1))
        return y if self.last else functional.relu(y)


def _fine() -> _Residual:
    double = _chain((256, 32, 1), (32, 32, 3))
    triple = _chain((256, 32, 1), (32, 32, 3), (32, 32, 3))
    return _Residual(256, 0.17, NormedConvolution(256, 32, 1), double, triple, joined=96)


def _middle() -> _Residual:
    cross = _chain((896, 128, 1), (128, 128, (1, 7)), (128, 128, (7, 1)))
    return _Residual(896, 0.10, NormedConvolution(896, 128, 1), cross, joined=256)


def _coarse(scale: float = 0.20, last: bool = False) -> _Residual:
    cross = _chain((FEATURES, 192, 1), (192, 192, (1, 3)), (192, 192, (3, 1)))
    return _Residual(FEATURES, scale, NormedConvolution(FEATURES, 192, 1), cross, joined=384, last=last)


class _Shrinking(_Branches):
    """Branches that halve height and width, beside a maximum."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*self.parts(x), functional.max_pool2d(x, 3, stride=2)], 1)


class InceptionResnet(nn.Module):
    """Embeddings of length 1 (picture, 512) of pictures (picture, 3, 160, 160) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2d_1a = NormedConvolution(3, 32, 3, stride=2)
        self.conv2d_2a = NormedConvolution(32, 32, 3, padded=False)
        self.conv2d_2b = NormedConvolution(32, 64, 3)
        self.conv2d_3b = NormedConvolution(64, 80, 1)
        self.conv2d_4a = NormedConvolution(80, 192, 3, padded=False)
        self.conv2d_4b = NormedConvolution(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_fine() for _ in range(5)))
        self.mixed_6a = _Shrinking(
            NormedConvolution(256, 384, 3, 2), _chain((256, 192, 1), (192, 192, 3), (192, 256, 3, 2))
        )
        self.repeat_2 = nn.Sequential(*(_middle() for _ in range(10)))
        self.mixed_7a = _Shrinking(
            _chain((896, 256, 1), (256, 384, 3, 2)),
            _chain((896, 256, 1), (256, 256, 3, 2)),
            _chain((896, 256, 1), (256, 256, 3), (256, 256, 3, 2)),
        )
        self.repeat_3 = nn.Sequential(*(_coarse() for _ in range(5)))
        self.block8 = _coarse(scale=1.0, last=True)
        self.last_linear = nn.Linear(FEATURES, EMBEDDING, bias=False)
        self.last_bn = nn.BatchNorm1d(EMBEDDING, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_3b(functional.max_pool2d(x, 3, stride=2))
        x = self.repeat_1(self.conv2d_4b(self.conv2d_4a(x)))
        x = self.repeat_2(self.mixed_6a(x))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        return functional.normalize(self.last_bn(self.last_linear(x.mean((2, 3)))))


UNUSED, NETWORK = ("logits.",), InceptionResnet  # the classifier that it was trained with


def prepare(frames: Tensor) -> Tensor:
    return (resized(frames, SIDE_PX) - GREY) / GREY_RANGE
