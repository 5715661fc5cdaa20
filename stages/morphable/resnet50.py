"""ResNet-50 without its classifier: the trunk of Deep3DFaceRecon and of Hopenet.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, in torchvision's variant: the stride of a
bottleneck is in its 3x3 convolution. Parameters carry torchvision's names, which published checkpoints use.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

DEPTHS, PLANES, EXPANSION = (3, 4, 6, 3), (64, 128, 256, 512), 4
FEATURES = PLANES[-1] * EXPANSION


class ResNet50(nn.Module):
    """Features (picture, 2048) of pictures (picture, 3, height, width)."""

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
