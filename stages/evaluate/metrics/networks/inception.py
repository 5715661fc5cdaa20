"""Inception v3 as FID uses it: 2048 features of a picture, by the network of TensorFlow's 2015-12-05 release.

Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016; the weights are the port of mseitzer/pytorch-fid
(Apache-2.0). They want three things that usual ports lack: averages that leave out the padding, a maximum in place of
the average in the last block, and 1008 classes, which no feature depends on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.evaluate.metrics.networks.convolution import Kernel, NormedConvolution, resized

SIDE_PX = 299
CLASSES = 1008
AVERAGE, MAXIMUM, SHRUNK_MAXIMUM = "average", "maximum", "maximum of every other pixel"  # what a branch may begin with

Layer = tuple[str, int, Kernel] | tuple[str, int, Kernel, int]  # name, outputs, kernel, stride
Branch = tuple[str | Layer, ...]


class _Mixed(nn.Module):
    """Branches side by side, each a chain of layers; layers of the same name in two branches are one."""

    def __init__(self, inputs: int, branches: tuple[Branch, ...]) -> None:
        super().__init__()
        self.branches = branches
        for branch in branches:
            width = inputs
            for layer in branch:
                if not isinstance(layer, str):
                    name, outputs, *shape = layer
                    if name not in self._modules:
                        self.add_module(name, NormedConvolution(width, outputs, *shape))
                    width = outputs

    def forward(self, x: Tensor) -> Tensor:
        done: dict[str, Tensor] = {}
        return torch.cat([self._run(branch, x, done) for branch in self.branches], 1)

    def _run(self, branch: Branch, x: Tensor, done: dict[str, Tensor]) -> Tensor:
        for layer in branch:
            name = layer if isinstance(layer, str) else layer[0]
            if name not in done:
                done[name] = _pooled(x, name) if isinstance(layer, str) else self.get_submodule(name)(x)
            x = done[name]
        return x


def _pooled(x: Tensor, how: str) -> Tensor:
    if how == AVERAGE:
        return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return functional.max_pool2d(x, 3, stride=1, padding=1) if how == MAXIMUM else functional.max_pool2d(x, 3, stride=2)


def _chain(name: str, *layers: tuple) -> Branch:
    """Layers ``name_1``, ``name_2`` and so on, each (outputs, kernel) or (outputs, kernel, stride)."""
    return tuple((f"{name}_{number}", *layer) for number, layer in enumerate(layers, start=1))


def _fine(pool: int) -> tuple[Branch, ...]:
    """Branches at 35x35."""
    return (
        (("branch1x1", 64, 1),),
        _chain("branch5x5", (48, 1), (64, 5)),
        _chain("branch3x3dbl", (64, 1), (96, 3), (96, 3)),
        (AVERAGE, ("branch_pool", pool, 1)),
    )


def _middle(width: int) -> tuple[Branch, ...]:
    """Branches at 17x17, whose 7x7 windows are split into rows and columns."""
    row, column = (1, 7), (7, 1)
    return (
        (("branch1x1", 192, 1),),
        _chain("branch7x7", (width, 1), (width, row), (192, column)),
        _chain("branch7x7dbl", (width, 1), (width, column), (width, row), (width, column), (192, row)),
        (AVERAGE, ("branch_pool", 192, 1)),
    )


def _coarse(pooling: str) -> tuple[Branch, ...]:
    """Branches at 8x8; rows and columns stand side by side."""
    row, column = (1, 3), (3, 1)
    single, double = _chain("branch3x3", (384, 1)), _chain("branch3x3dbl", (448, 1), (384, 3))
    return (
        (("branch1x1", 320, 1),),
        (*single, ("branch3x3_2a", 384, row)),
        (*single, ("branch3x3_2b", 384, column)),
        (*double, ("branch3x3dbl_3a", 384, row)),
        (*double, ("branch3x3dbl_3b", 384, column)),
        (pooling, ("branch_pool", 192, 1)),
    )


TO_MIDDLE: tuple[Branch, ...] = (
    (("branch3x3", 384, 3, 2),),
    _chain("branch3x3dbl", (64, 1), (96, 3), (96, 3, 2)),
    (SHRUNK_MAXIMUM,),
)
TO_COARSE: tuple[Branch, ...] = (
    _chain("branch3x3", (192, 1), (320, 3, 2)),
    _chain("branch7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)),
    (SHRUNK_MAXIMUM,),
)
MIXED = {  # name in the checkpoint -> inputs, branches
    "Mixed_5b": (192, _fine(32)),
    "Mixed_5c": (256, _fine(64)),
    "Mixed_5d": (288, _fine(64)),
    "Mixed_6a": (288, TO_MIDDLE),
    "Mixed_6b": (768, _middle(128)),
    "Mixed_6c": (768, _middle(160)),
    "Mixed_6d": (768, _middle(160)),
    "Mixed_6e": (768, _middle(192)),
    "Mixed_7a": (768, TO_COARSE),
    "Mixed_7b": (1280, _coarse(AVERAGE)),
    "Mixed_7c": (2048, _coarse(MAXIMUM)),
}


class Inception(nn.Module):
    """Features (picture, 2048) of pictures (picture, 3, 299, 299) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = NormedConvolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = NormedConvolution(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = NormedConvolution(32, 64, 3)
        self.Conv2d_3b_1x1 = NormedConvolution(64, 80, 1)
        self.Conv2d_4a_3x3 = NormedConvolution(80, 192, 3, padded=False)
        for name, (inputs, branches) in MIXED.items():
            self.add_module(name, _Mixed(inputs, branches))
        self.fc = nn.Linear(2048, CLASSES)  # in the checkpoint, and not used

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_pooled(x, SHRUNK_MAXIMUM)))
        x = _pooled(x, SHRUNK_MAXIMUM)
        for name in MIXED:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))


UNUSED, NETWORK = (), Inception


def prepare(frames: Tensor) -> Tensor:
    return 2 * resized(frames / 255, SIDE_PX) - 1
