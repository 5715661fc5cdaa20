"""Layers and distances for padded sequences: what stands in the padding changes nothing outside it.

A mask (batch, frame) is True where a frame counts. It may have holes, frames whose coefficients are not valid; a clip
reaches to its last frame that counts (`inside`), and layers that look along time see it up to there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.train.listener import masked_mean


def lengths(mask: Tensor) -> Tensor:
    """Frames up to the last one that counts (batch,), at least 1."""
    numbers = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return (mask * numbers).amax(dim=1).clamp(min=1)


def inside(mask: Tensor) -> Tensor:
    """(batch, frame), True up to the last frame that counts: the mask with its holes closed."""
    return torch.arange(mask.shape[1], device=mask.device) < lengths(mask)[:, None]


class BidirectionalGru(nn.Module):
    """A GRU in both directions over (batch, frame, width), of which the backward one starts at the clip's end.

    What a packed `nn.GRU` computes; that one's gradient takes time with the square of the frames on a CPU.
    """

    def __init__(self, inputs: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        sizes = [inputs, *[2 * hidden] * (layers - 1)]
        self.onward = nn.ModuleList(nn.GRU(size, hidden, batch_first=True) for size in sizes)
        self.homeward = nn.ModuleList(nn.GRU(size, hidden, batch_first=True) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor, state: Tensor) -> Tensor:
        """``state`` (2 layers, batch, hidden): of every layer that of its first frame, then that of its last."""
        rows, order = torch.arange(len(mask), device=mask.device)[:, None], backwards(mask)
        for layer, (onward, backward) in enumerate(zip(self.onward, self.homeward, strict=True)):
            values = self.dropout(values) if layer else values
            before, after = state[2 * layer : 2 * layer + 2].split(1)
            answers = backward(values[rows, order], after.contiguous())[0][rows, order]
            values = torch.cat([onward(values, before.contiguous())[0], answers], dim=-1)
        return values


def backwards(mask: Tensor) -> Tensor:
    """Frame numbers (batch, frame) from the last that counts to the first; those behind it stay in their places."""
    numbers = torch.arange(mask.shape[1], device=mask.device)
    turned = lengths(mask)[:, None] - 1 - numbers
    return torch.where(turned >= 0, turned, numbers)


class MaskedBatchNorm(nn.Module):
    """Batch normalisation of (batch, feature, ..., frame) whose statistics are those of the frames in the mask."""

    def __init__(self, features: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.epsilon = momentum, epsilon
        self.scale = nn.Parameter(torch.ones(features))
        self.shift = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_variance", torch.ones(features))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Normalised values, in single precision; zeros outside the mask."""
        values = values.float()
        shape = (1, -1) + (1,) * (values.dim() - 2)
        weights = mask.view(mask.shape[0], *(1,) * (values.dim() - 2), mask.shape[1]).to(values.dtype)
        running = self.running_mean, self.running_variance
        mean, variance = self._statistics(values, weights) if self.training else running
        scale = self.scale * (variance + self.epsilon).rsqrt()
        return ((values - mean.view(shape)) * scale.view(shape) + self.shift.view(shape)) * weights

    def _statistics(self, values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        others = [0, *range(2, values.dim())]
        count = (weights.expand(values.shape[0], 1, *values.shape[2:])).sum().clamp(min=1)
        mean = (values * weights).sum(others) / count
        centred = values - mean.view(1, -1, *(1,) * (values.dim() - 2))
        variance = (centred.square() * weights).sum(others) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean.float(), self.momentum)
            self.running_variance.lerp_(variance.float() * count / (count - 1).clamp(min=1), self.momentum)
        return mean, variance


class MaskedConv(nn.Module):
    """Convolution along time, batch normalisation and ReLU of (batch, feature, frame); as many frames out as in."""

    def __init__(self, features: int, width: int, kernel: int = 3, dilation: int = 1, activate: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(features, width, kernel, padding="same", dilation=dilation, bias=False)
        self.norm = MaskedBatchNorm(width)
        self.activate = activate

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        values = self.norm(self.convolution(values), mask)
        return values.relu() if self.activate else values


def moving_deviation(values: Tensor, mask: Tensor, frames: int) -> Tensor:
    """Standard deviation (batch, frame, feature) over the ``frames`` (odd) around each frame, of those in the mask."""

    def box(part: Tensor) -> Tensor:
        pooled = functional.avg_pool1d((part * weights).transpose(1, 2), frames, stride=1, padding=frames // 2)
        return pooled.transpose(1, 2) * frames

    weights = mask[..., None].to(values.dtype)
    sums = [box(part) for part in (torch.ones_like(values[..., :1]), values, values.square())]
    count = sums[0].clamp(min=1)
    mean = sums[1] / count
    return (sums[2] / count - mean.square()).clamp(min=1e-8).sqrt() * weights


def changes(values: Tensor) -> Tensor:
    """Difference to the frame before (batch, frame, ...), zero in the first frame: mu of the papers."""
    return torch.cat([torch.zeros_like(values[:, :1]), values.diff(dim=1)], dim=1)


def both_frames(mask: Tensor) -> Tensor:
    """Where a difference to the frame before counts: both frames do, and there is one before."""
    return torch.cat([torch.zeros_like(mask[:, :1]), mask[:, 1:] & mask[:, :-1]], dim=1)


def distance(found: Tensor, expected: Tensor, mask: Tensor) -> Tensor:
    """Mean over frames of the Euclidean distance (batch, frame, coefficient)."""
    return masked_mean((found - expected).norm(dim=-1), mask)


def motion_distance(found: Tensor, expected: Tensor, mask: Tensor) -> Tensor:
    """Mean over frames of the Euclidean distance between the changes from frame to frame."""
    return distance(changes(found), changes(expected), both_frames(mask))
