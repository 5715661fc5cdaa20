"""Listener ``elp``: Emotional Listener Portrait, Song, Yin, Jin, Dong and Xu, ICCV 2023.

The speaker's style (eq. 1) is encoded into H categorical codes of V values a frame; the attitude opens one of N such
code spaces; two decoders read motion and blinks from the codes, so that another draw of the codes is another listener.

    s(t) = a(t) + sigma(beta(t)) + sigma(d beta/dt) + sigma(dp/dt)      (1)  + joins; a: audio encoder of the MFCC
    v(t, h) = Gumbel-softmax(enc(s)(t, h, 1:V))                         (2)  H x V, then e (one-hot) x v: H x (N V)
    L2 = sum |beta - beta'| + |p - p'|                                  (3)
    CE1: cross-entropy of the blink                                     (4)
    Reg = sum |phi(t) - phi(t-1)|                                       (5)
    CE2: cross-entropy of the emotion, each of the N a binary decision  (6)
    L = L2 + 5 CE1 + 5 CE2 + 0.01 Reg                                   (7)

What the paper leaves open, and our choice:

* It has 25 frames a second and 100 expression coefficients: 2 s are 60 frames here, s(t) has 128 + 64 + 64 + 6 numbers.
* The a(t) of "29T" MFCC: all 45 acoustic features. The span of sigma: ``style_frames`` around the frame.
* Which decoder has two and which four convolutions: motion two, blinks four and the LSTM. All widths: ``width``.
* LSTMs have a way past them: without it nothing of the speaker reached codes and blinks, and no blink was learned.
* The attitude that opens a code space in training is the label's; in prediction too, or what the encoder hears
  (``emotion="heard"``).
* The listener's portrait reaches only its renderer. Data sets of many people need their resting faces: the first frame
  is added to the motion, each coefficient with a learned weight that starts at 1.
* **Sampling.** Eq. 3 alone teaches the codes to be ignored: whatever a draw adds to the mean raises the loss, and all
  samples become one. We draw twice, and in the place of eq. 3 stands the energy score (Gneiting and Raftery, JASA
  2007): the distance to the truth less half that between the draws, least when samples are distributed as the truth.
  It is taken of every coefficient for itself: of the norm of all it would be least for samples too wide in what the
  codes can say, because these would make up for the trembling of 64 coefficients, which they cannot. With
  ``diverse=False`` it is the paper's letter.
* The "initial" learning rate falls to a hundredth on a cosine.
* Noise drawn anew in every frame makes a listener tremble: it lasts ``memory_s``, Gumbel distributed all the same.

All networks take time as the second axis, (batch, frame, ...), and a mask (batch, frame) of the frames that count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.clock import frames_in
from pipeline.stage import setting
from schemas.errors import UserError
from stages.train.listener import Batch, Listener, Prediction, Sizes, TrainingSettings, masked_mean
from stages.train.sequence import MaskedConv, both_frames, changes, distance, inside, moving_deviation


@dataclass(frozen=True)
class Settings(TrainingSettings):
    epochs: int = setting(112, "passes over the training windows; of ViCo's, 10 000 steps as in the paper")
    weight_decay: float = setting(0.01, "of AdamW; the paper gives none, this is PyTorch's")
    window_frames: int = setting(60, "frames of a training window: 2 s")
    stride_frames: int = setting(60, "frames from the start of a window to that of the next")
    heads: int = setting(128, "H, categorical codes a frame; a multiple of 8")
    codes: int = setting(64, "V, values of a code")
    width: int = setting(256, "of convolutions and LSTMs")
    audio_width: int = setting(64, "of the first blocks of the audio encoder; ResNet-50 has 64")
    audio_outputs: int = setting(128, "length of a(t)")
    channels: int = setting(16, "of the decoders' 2-d convolutions")
    dropout: float = setting(0.5, "after the audio encoder")
    style_frames: int = setting(15, "frames over which sigma of eq. 1 is taken, odd")
    temperature: float = setting(1.0, "of the Gumbel-softmax")
    memory_s: float = setting(0.5, "how long the noise of a code lasts; 0 draws it anew in every frame")
    diverse: bool = setting(True, "the energy score of two draws in the place of eq. 3")
    sampling: float = setting(1.0, "scale of the noise in prediction; 0 takes the most probable code")
    blink_weight: float = setting(5.0, "lambda 1 of eq. 7")
    emotion_weight: float = setting(5.0, "lambda 2 of eq. 7")
    steadiness_weight: float = setting(0.01, "lambda 3 of eq. 7")
    emotion: str = setting("label", "attitude that opens a code space in prediction", choices=("label", "heard"))


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
        inputs = zip([features, *[width] * 4], self.CONTEXTS, strict=True)
        self.layers = nn.ModuleList(MaskedConv(size, width, *context) for size, context in inputs)
        hidden = (nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Sequential(*hidden, nn.Linear(width, emotions))

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
        products = torch.bmm(codes.flatten(1, 2), of_clips.flatten(2)).view(*codes.shape[:3], *of_clips.shape[2:])
        return add_along_time(products.movedim(3, 2)) + self.bias


def add_along_time(products: Tensor) -> Tensor:
    """What taps (batch, frame, tap, ...) make of each frame add up to, as in a convolution: (batch, frame, ...)."""
    still, middle = (0, 0) * (products.dim() - 3), products.shape[2] // 2
    parts = enumerate(products.unbind(2))
    return sum(functional.pad(part, (*still, middle - tap, tap - middle)) for tap, part in parts)


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
        halves = {"kernel_size": (3, 4), "stride": (1, 2), "padding": (1, 1)}
        self.halve = nn.ModuleList(nn.Conv2d(channels, channels, **halves) for _ in range(3))
        for convolution in self.halve:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        self.lstm = SkippedLstm(channels * heads // 8, width)
        self.last = nn.Linear(width, 1)

    def forward(self, codes: Tensor, attitude: Tensor, mask: Tensor) -> Tensor:
        values = self.read(codes, attitude).movedim(3, 1).relu()
        for convolution in self.halve:
            values = convolution(values * mask[:, None, :, None]).relu()
        return self.last(self.lstm(values.transpose(1, 2).flatten(2))).squeeze(-1)


class Elp(Listener):
    """Codes drawn from a categorical distribution given the speaker; motion and blinks decoded from them."""

    paper = "Song et al., Emotional Listener Portrait: Neural Listener Head Generation with Emotion, ICCV 2023"
    reads = ("listener_blink",)
    causal = False
    final_rate = 0.01
    stochastic = True
    Settings = Settings
    settings: Settings

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        style = settings.audio_outputs + sizes.motion.widths["exp"] + sizes.coefficients
        space = (sizes.attitudes, settings.heads, settings.codes, settings.channels)
        self.parts = sizes.motion.expression_and_pose
        self.audio = AudioEncoder(sizes.audio, settings.audio_width, settings.audio_outputs, settings.dropout)
        self.emotion = EmotionEncoder(style, settings.width, sizes.attitudes)
        self.encoder = HeadEncoder(style, settings.width, settings.heads, settings.codes)
        self.motion = MotionDecoder(*space, outputs=sizes.coefficients)
        self.blink = BlinkDecoder(*space, width=settings.width)
        self.keep = nn.Parameter(torch.ones(sizes.coefficients))  # how much of the first frame stays

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        logits, heard = self._encode(batch)
        motions, shut = zip(*(self._decode(logits, batch, batch.attitude, generator) for _ in range(2)), strict=True)
        closed = batch.extra["listener_blink"].to(shut[0].dtype)
        crossed = functional.binary_cross_entropy_with_logits
        blink = sum(masked_mean(crossed(p, closed, reduction="none"), batch.mask) for p in shut) / 2
        steps = sum(masked_mean(changes(p.sigmoid()).abs(), both_frames(batch.mask)) for p in shut) / 2
        emotion = crossed(heard, functional.one_hot(batch.attitude, self.sizes.attitudes).to(heard.dtype))
        terms = {
            "motion": (energy_score if self.settings.diverse else mean_error)(*motions, batch, self.parts),
            "blink": self.settings.blink_weight * blink,
            "steadiness": self.settings.steadiness_weight * steps,
        }
        if self.training or self.settings.emotion == "heard":  # else no prediction depends on it: not validated
            terms["emotion"] = self.settings.emotion_weight * emotion
        return terms

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        logits, heard = self._encode(batch)
        attitude = batch.attitude if self.settings.emotion == "label" else heard.argmax(dim=1)
        motion, blink = self._decode(logits, batch, attitude, generator, self.settings.sampling)
        return Prediction(motion, blink.sigmoid())

    def _encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of the codes (batch, frame, H, V) and of the emotion (batch, N)."""
        frames = inside(batch.mask)
        speaker, moved = batch.speaker, changes(batch.speaker)
        still = moving_deviation(speaker[..., self.parts[0]], frames, self.settings.style_frames)
        moving = moving_deviation(moved, frames, self.settings.style_frames)
        style = torch.cat([self.audio(batch.audio, frames), still, moving], dim=-1) * frames[..., None]
        return self.encoder(style, frames), self.emotion(style, frames)

    def _decode(
        self, logits: Tensor, batch: Batch, attitude: Tensor, generator: torch.Generator, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """One draw: motion (batch, frame, coefficient) and logits of closed eyes (batch, frame)."""
        frames = inside(batch.mask)
        noise = scale * lasting_gumbel_noise(logits.shape, self.settings.memory_s, generator)
        codes = gumbel_softmax(logits, noise, self.settings.temperature)
        codes = codes * frames[..., None, None]
        motion = self.keep * batch.reference[:, None] + self.motion(codes, attitude, frames)
        return motion * frames[..., None], self.blink(codes, attitude, frames)


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


def mean_error(one: Tensor, two: Tensor, batch: Batch, parts: tuple[slice, slice]) -> Tensor:
    """Eq. 3, mean over frames, of two draws; ``parts`` are beta and p."""
    wanted = batch.listener
    return sum(distance(said[..., p], wanted[..., p], batch.mask) for said in (one, two) for p in parts) / 2


def energy_score(one: Tensor, two: Tensor, batch: Batch, parts: tuple[slice, slice]) -> Tensor:
    """The energy score of every coefficient, from two draws; as large as eq. 3 where all coefficients err alike."""
    total = one.new_zeros(())
    for part in parts:
        first, second, truth = (values[..., part] for values in (one, two, batch.listener))
        errors = ((first - truth).abs() + (second - truth).abs() - (first - second).abs()) / 2
        total = total + masked_mean(errors.mean(dim=-1) * first.shape[-1] ** 0.5, batch.mask)
    return total
