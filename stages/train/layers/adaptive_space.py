"""The networks of the Adaptive Space Encoder (Song et al., ICCV 2023), see `stages.train.listeners.elp`.

All take and return time as the second axis, (batch, frame, ...), and a mask (batch, frame) of the frames that count.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.clock import frames_in
from schemas.errors import UserError
from stages.train.layers.sequence import MaskedConv


class AudioEncoder(nn.Module):
    """a(t) of eq. 1: the first 16 convolutions of ResNet-50 along time, without strides, then dropout.

    One of the stem, three blocks of three (``width`` and four times that), two blocks of the next stage (twice that).
    """

    def __init__(self, features: int, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.stem = MaskedConv(features, width, kernel=7)
        widths = [width, width, width, 2 * width, 2 * width]
        before = [width, *(4 * inner for inner in widths[:-1])]
        self.blocks = nn.ModuleList(Bottleneck(*pair) for pair in zip(before, widths, strict=True))
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(4 * widths[-1], outputs)

    def forward(self, audio: Tensor, mask: Tensor) -> Tensor:
        values = self.stem(audio.transpose(1, 2), mask)
        for block in self.blocks:
            values = block(values, mask)
        return self.last(self.dropout(values.transpose(1, 2)))


class Bottleneck(nn.Module):
    """ResNet-50's block of three convolutions, along time: ``width`` inside, four times that outside."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.first = MaskedConv(features, width, kernel=1)
        self.second = MaskedConv(width, width, kernel=3)
        self.third = MaskedConv(width, 4 * width, kernel=1, activate=False)
        same = features == 4 * width
        self.shortcut = None if same else MaskedConv(features, 4 * width, kernel=1, activate=False)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        inner = self.third(self.second(self.first(values, mask), mask), mask)
        return (inner + (values if self.shortcut is None else self.shortcut(values, mask))).relu()


class EmotionEncoder(nn.Module):
    """TDNN of five layers (time contexts of x-vectors, Snyder et al. 2018), mean and deviation over time, an MLP."""

    CONTEXTS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))  # kernel, dilation

    def __init__(self, features: int, width: int, emotions: int) -> None:
        super().__init__()
        inputs = [features, *[width] * 4]
        self.layers = nn.ModuleList(
            MaskedConv(size, width, *context) for size, context in zip(inputs, self.CONTEXTS, strict=True)
        )
        self.head = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, emotions)
        )

    def forward(self, style: Tensor, mask: Tensor) -> Tensor:
        """Logits (batch, emotion)."""
        values = style.transpose(1, 2)
        for layer in self.layers:
            values = layer(values, mask)
        count = mask.sum(dim=1, keepdim=True).clamp(min=1)
        mean = values.sum(dim=2) / count  # the layers leave zeros in the padding
        variance = (values.square().sum(dim=2) / count - mean.square()).clamp(min=1e-8)
        return self.head(torch.cat([mean, variance.sqrt()], dim=1))


class HeadEncoder(nn.Module):
    """Eight convolutions along time, three LSTM layers, an MLP: logits (batch, frame, head, code)."""

    def __init__(self, features: int, width: int, heads: int, codes: int) -> None:
        super().__init__()
        self.shape = (heads, codes)
        self.first = MaskedConv(features, width)
        self.convolutions = nn.ModuleList(MaskedConv(width, width) for _ in range(7))
        self.lstm = SkippedLstm(width, width)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, heads * codes))

    def forward(self, style: Tensor, mask: Tensor) -> Tensor:
        values = self.first(style.transpose(1, 2), mask)
        for convolution in self.convolutions:
            values = values + convolution(values, mask)
        return self.head(self.lstm(values.transpose(1, 2))).unflatten(-1, self.shape)


class SkippedLstm(nn.Module):
    """Three LSTM layers over (batch, frame, feature), and a way past them: (batch, frame, width).

    Without it the layers pass on next to nothing of what they read when training begins, and nothing is learned.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width))
        self.layers = nn.LSTM(width, width, num_layers=3, batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        values = self.read(values)
        return values + self.layers(values)[0]


class OpenedConv(nn.Conv2d):
    """Convolution along time over N code spaces, all of zeros but the one that the attitude opens (e x v of eq. 2).

    The sums of an `nn.Conv2d` over (batch, N V, frame, head) of which the closed spaces are left out.
    """

    def __init__(self, attitudes: int, codes: int, channels: int, taps: int) -> None:
        super().__init__(attitudes * codes, channels, (taps, 1))
        self.codes = codes
        nn.init.normal_(self.weight, std=taps**-0.5)  # of all codes of a head one is 1: these are embeddings

    def forward(self, codes: Tensor, attitude: Tensor) -> Tensor:
        """(batch, frame, head, V) and (batch,) to (batch, frame, head, channel)."""
        of_clips = self.weight.squeeze(3).unflatten(1, (-1, self.codes))[:, attitude]  # (channel, batch, V, tap)
        of_clips = of_clips.permute(1, 2, 3, 0)
        products = torch.bmm(codes.flatten(1, 2), of_clips.flatten(2))
        products = products.view(*codes.shape[:3], *of_clips.shape[2:])
        return add_along_time(products.movedim(3, 2)) + self.bias


def add_along_time(products: Tensor) -> Tensor:
    """What taps (batch, frame, tap, ...) make of each frame add up to, as in a convolution: (batch, frame, ...)."""
    still, middle = (0, 0) * (products.dim() - 3), products.shape[2] // 2
    moved = (functional.pad(part, (*still, middle - tap, tap - middle)) for tap, part in enumerate(products.unbind(2)))
    return sum(moved)


class MotionDecoder(nn.Module):
    """Two 2-d convolutions over (frame, head): the first reads the code of a head, the second joins all heads."""

    def __init__(self, attitudes: int, heads: int, codes: int, channels: int, outputs: int) -> None:
        super().__init__()
        self.first = OpenedConv(attitudes, codes, channels, taps=5)
        self.second = nn.Conv2d(channels, outputs, (5, heads))
        nn.init.zeros_(self.second.weight)  # a listener that keeps still is a better start than one that trembles
        nn.init.zeros_(self.second.bias)

    def forward(self, codes: Tensor, attitude: Tensor, mask: Tensor) -> Tensor:
        inner = self.first(codes, attitude).relu() * mask[..., None, None]
        taps = self.second.weight.permute(3, 1, 2, 0)  # (head, channel, tap, output): one product for all heads
        products = inner.flatten(2) @ taps.flatten(0, 1).flatten(1)
        return add_along_time(products.unflatten(2, taps.shape[2:])) + self.second.bias  # (batch, frame, output)


class BlinkDecoder(nn.Module):
    """Four 2-d convolutions, three of which halve the heads, and three LSTM layers: logits (batch, frame)."""

    def __init__(self, attitudes: int, heads: int, codes: int, channels: int, width: int) -> None:
        super().__init__()
        if heads % 8:
            raise UserError(f"elp: heads must be a multiple of 8, found {heads}; --set heads=128")
        self.read = OpenedConv(attitudes, codes, channels, taps=1)
        self.halve = nn.ModuleList(
            nn.Conv2d(channels, channels, (3, 4), stride=(1, 2), padding=(1, 1)) for _ in range(3)
        )
        for convolution in self.halve:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        self.lstm = SkippedLstm(channels * heads // 8, width)
        self.last = nn.Linear(width, 1)

    def forward(self, codes: Tensor, attitude: Tensor, mask: Tensor) -> Tensor:
        values = self.read(codes, attitude).movedim(3, 1).relu()
        for convolution in self.halve:
            values = convolution(values * mask[:, None, :, None]).relu()
        return self.last(self.lstm(values.transpose(1, 2).flatten(2))).squeeze(-1)


def lasting_gumbel_noise(shape: torch.Size, memory_s: float, generator: torch.Generator) -> Tensor:
    """Gumbel noise (batch, frame, ...) that lasts: in every frame Gumbel distributed, from frame to frame correlated.

    The normal numbers behind it form an autoregressive process with correlation exp(-t / ``memory_s``).
    """
    keep = math.exp(-1 / frames_in(memory_s)) if memory_s > 0 else 0.0
    white = torch.randn(shape, generator=generator, device=generator.device)
    frames = [white[:, 0]]
    for frame in range(1, shape[1]):
        frames.append(keep * frames[-1] + math.sqrt(1 - keep**2) * white[:, frame])
    uniform = torch.special.ndtr(torch.stack(frames, dim=1)).clamp(1e-6, 1 - 1e-6)
    return -torch.log(-torch.log(uniform))


def gumbel_softmax(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Eq. 2 (Jang et al., ICLR 2017): one-hot codes forward, the gradient of the softmax backward."""
    soft = ((logits + noise) / temperature).softmax(dim=-1)
    hard = torch.zeros_like(soft).scatter(-1, soft.argmax(dim=-1, keepdim=True), 1.0)
    return hard + soft - soft.detach()
