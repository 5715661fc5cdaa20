"""ResNetSE34 over acoustic features: the hierarchical audio encoder of `stages.train.listeners.hsp`.

The thin ResNet-34 with squeeze and excitation of Chung et al. (In defence of metric learning for speaker recognition,
Interspeech 2020; SE: Hu, Shen and Sun, CVPR 2018). Strides run along the features alone, so that every frame keeps its
own vector at every stage.
"""

from __future__ import annotations

from torch import Tensor, nn

from stages.train.layers.sequence import MaskedBatchNorm

BLOCKS = (3, 4, 6, 3)  # of the four stages of a ResNet-34
REDUCTION = 8  # of the squeezed vector inside an SE layer


class SqueezeExcite(nn.Module):
    """Weights of features (batch, feature, ..., frame) from their mean over the frames in the mask."""

    def __init__(self, features: int) -> None:
        super().__init__()
        inner = max(features // REDUCTION, 1)
        self.weigh = nn.Sequential(nn.Linear(features, inner), nn.ReLU(), nn.Linear(inner, features), nn.Sigmoid())

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        others = list(range(2, values.dim()))
        places = values[0, 0, ..., 0].numel()
        mean = values.sum(others) / (mask.sum(dim=1, keepdim=True).clamp(min=1) * places)  # zeros in the padding
        return values * self.weigh(mean).view(*values.shape[:2], *(1,) * len(others))


class SEBlock(nn.Module):
    """Two 3x3 convolutions, squeeze and excitation, and a shortcut, on maps (batch, channel, feature, frame)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride=(stride, 1), padding=1, bias=False)
        self.first_norm = MaskedBatchNorm(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = MaskedBatchNorm(width)
        self.weigh = SqueezeExcite(width)
        changes = stride != 1 or channels != width
        self.shortcut = nn.Conv2d(channels, width, 1, stride=(stride, 1), bias=False) if changes else None

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        inner = self.first_norm(self.first(values), mask).relu()
        inner = self.weigh(self.second_norm(self.second(inner), mask), mask)
        return (inner + (values if self.shortcut is None else self.shortcut(values))).relu()


class SEResNet34(nn.Module):
    """Acoustic features (batch, frame, feature) -> outputs of stages 2, 3 and 4, each (batch, frame, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, (7, 7), padding=3, bias=False)
        self.stem_norm = MaskedBatchNorm(width)
        self.widths = tuple(width * 2**stage for stage in range(4))
        self.stages = nn.ModuleList()
        before = width
        for stage, (blocks, after) in enumerate(zip(BLOCKS, self.widths, strict=True)):
            strides = [2 if stage else 1, *[1] * (blocks - 1)]
            self.stages.append(
                nn.ModuleList(SEBlock(before if i == 0 else after, after, stride) for i, stride in enumerate(strides))
            )
            before = after

    def forward(self, audio: Tensor, mask: Tensor) -> list[Tensor]:
        values = self.stem_norm(self.stem(audio.transpose(1, 2)[:, None]), mask).relu()
        levels = []
        for stage in self.stages:
            for block in stage:
                values = block(values, mask)
            levels.append(values.mean(dim=2).transpose(1, 2))  # mean over the features' axis
        return levels[1:]
