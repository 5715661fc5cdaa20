"""Hopenet: 2048 features of a head's pose, by a ResNet-50, before the three heads that read angles off them.

Ruiz et al., "Fine-Grained Head Pose Estimation Without Keypoints", CVPRW 2018; weights: ``hopenet_robust_alpha1.pkl``
of natanielruiz/deep-head-pose, whose names the parameters carry. He et al., CVPR 2016, for the trunk, in torchvision's
variant: the stride of a bottleneck is in its 3x3 convolution.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.evaluate.networks.convolution import resized

SIDE_PX = 224
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of R, G and B in [0, 1]
DEPTHS, PLANES, EXPANSION = (3, 4, 6, 3), (64, 128, 256, 512), 4
FEATURES = PLANES[-1] * EXPANSION
HEADS = ("fc_yaw.", "fc_pitch.", "fc_roll.", "fc_finetune.")  # in the checkpoint, and not used


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution with a shortcut."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = planes * EXPANSION
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


class Hopenet(nn.Module):
    """Features (picture, 2048) of pictures (picture, 3, 224, 224), normalised as for ImageNet."""

    def __init__(self) -> None:
        super().__init__()
        inputs = PLANES[0]
        self.conv1 = nn.Conv2d(3, inputs, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        for number, (planes, depth) in enumerate(zip(PLANES, DEPTHS, strict=True), start=1):
            blocks = []
            for block in range(depth):
                blocks.append(_Bottleneck(inputs, planes, stride=2 if number > 1 and block == 0 else 1))
                inputs = planes * EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for number in range(1, len(DEPTHS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x.mean((2, 3))


def load(checkpoint: Path) -> Hopenet:
    """The network with the published weights, less those of the heads."""
    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = Hopenet()
    network.load_state_dict({key: value for key, value in stored.items() if not key.startswith(HEADS)})
    return network


def prepare(frames: Tensor) -> Tensor:
    """The network's input from RGB frames (frame, 3, height, width) in 0 to 255."""
    mean, std = (torch.tensor(values, device=frames.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (resized(frames / 255, SIDE_PX) - mean) / std
