"""ArcFace's ResNet-100: 512 numbers that tell people apart, as the ViCo challenge takes CSIM from.

Deng et al., "ArcFace", CVPR 2019; Duta et al., ICPR 2020, for the residual block. Weights: ``backbone.pth`` of
``ms1mv3_arcface_r100_fp16`` (deepinsight/insightface, non-commercial research), whose names the parameters carry. The
challenge feeds whole frames, not aligned faces.
"""

from __future__ import annotations

from torch import Tensor, nn

from stages.evaluate.metrics.networks.convolution import resized

SIDE_PX = 112
DEPTHS, WIDTHS = (3, 13, 30, 3), (64, 128, 256, 512)
EMBEDDING, LAST_SIDE_PX = 512, 7


class _Block(nn.Module):
    """Two 3x3 convolutions between norms, with a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(y)) + (x if self.downsample is None else self.downsample(x))


class ArcFace(nn.Module):
    """Embeddings (picture, 512) of pictures (picture, 3, 112, 112) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        inputs = WIDTHS[0]
        self.conv1 = nn.Conv2d(3, inputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.prelu = nn.PReLU(inputs)
        for number, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True), start=1):
            blocks = [_Block(inputs, width, stride=2), *(_Block(width, width, stride=1) for _ in range(depth - 1))]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            inputs = width
        self.bn2 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs * LAST_SIDE_PX**2, EMBEDDING)
        self.features = nn.BatchNorm1d(EMBEDDING)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for number in range(1, len(DEPTHS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


UNUSED, NETWORK = (), ArcFace


def prepare(frames: Tensor) -> Tensor:
    return resized(frames, SIDE_PX) / 127.5 - 1
