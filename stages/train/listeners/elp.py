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
* Convolutions and LSTMs have a way past them (``bypass``): without it nothing of the speaker reached codes and blinks,
  and no blink was learned.
* The attitude that opens a code space in training is the label's; in prediction too, or what the encoder hears in
  the whole clip (``emotion="heard"``), since section 3.1 has three inputs: portrait, video and speech of the speaker.
* The listener's portrait reaches only its renderer. Data sets of many people need their resting faces: the first frame
  is added to the motion, each coefficient with a learned weight that starts at 1.
* **Sampling.** Eq. 3 alone teaches the codes to be ignored: whatever a draw adds to the mean raises the loss, and all
  samples become one. We draw twice, and in the place of eq. 3 stands the energy score (Gneiting and Raftery, JASA
  2007): the distance to the truth less half that between the draws, least when samples are distributed as the truth.
  It is taken of every coefficient for itself: of the norm of all it would be least for samples too wide in what the
  codes can say, because these would make up for the trembling of 64 coefficients, which they cannot. With
  ``diverse=False`` it is the paper's letter, with one draw.
* The "initial" learning rate falls to a hundredth on a cosine.
* Noise drawn anew in every frame makes a listener tremble: it lasts ``memory_s``, Gumbel distributed all the same.
* U holds the number of a code among N V. Such a number has no gradient: the decoders read it one-hot.

Preset ``paper`` is the text; `Elp.deviations` lists where the defaults differ. Its 25 frames a second are a matter of
the networks alone (``network_fps``): windows of 60 frames are interpolated to 50, and what is said back to 30 a second.

Ablations: ``space=shared`` is V of Table 2, in which no attitude is known: its encoder and eq. 6 are gone, and the rows
DLS-Random are the listener ``dls_random`` with either space. ``heads`` is H of Table 3, from 1 to 256.

All networks take time as the second axis, (batch, frame, ...), and a mask (batch, frame) of the frames that count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.clock import FPS, frames_in
from pipeline.stage import setting
from schemas.errors import UserError
from stages.train.listener import (
    TRAINS_ON_ALL,
    Batch,
    Deviation,
    Listener,
    Prediction,
    Sizes,
    TrainingSettings,
    masked_mean,
    published,
)
from stages.train.sequence import MaskedConv, both_frames, changes, distance, inside, moving_deviation

SPACES = ("emotion", "shared")
HALVED = 8  # heads that the blink decoder makes one of
Parts = tuple[slice, list[int]]  # where beta and p stand


@dataclass(frozen=True)
class Settings(TrainingSettings):
    epochs: int = setting(112, "passes over the training windows; of ViCo's, 10 000 steps as in the paper")
    weight_decay: float = setting(0.01, "of AdamW; the paper gives none, this is PyTorch's")
    window_frames: int = setting(60, "frames of a training window: 2 s", least=1)
    stride_frames: int = setting(60, "frames from the start of a window to that of the next", least=1)
    heads: int = setting(128, "H, categorical codes a frame", least=1)
    codes: int = setting(64, "V, values of a code", least=1)
    space: str = setting("emotion", "of codes: the attitude opens its own (U), or all share one (V)", choices=SPACES)
    width: int = setting(256, "of convolutions and LSTMs", least=1)
    audio_width: int = setting(64, "of the first blocks of the audio encoder; ResNet-50 has 64", least=1)
    audio_outputs: int = setting(128, "length of a(t)", least=1)
    channels: int = setting(16, "of the decoders' 2-d convolutions", least=1)
    dropout: float = setting(0.5, "after the audio encoder")
    style_frames: int = setting(15, "frames over which sigma of eq. 1 is taken, odd", least=1)
    temperature: float = setting(1.0, "of the Gumbel-softmax")
    memory_s: float = setting(0.5, "how long the noise of a code lasts; 0 draws it anew in every frame")
    diverse: bool = setting(True, "the energy score of two draws in the place of eq. 3")
    bypass: bool = setting(True, "ways past the encoder's convolutions and the LSTMs")
    first_frame: bool = setting(True, "the listener's first frame is added, each coefficient with a learned weight")
    network_fps: int = setting(
        FPS, "frames a second of the networks, to which data are interpolated, and back", least=1
    )
    sampling: float = setting(1.0, "scale of the noise in prediction; 0 takes the most probable code")
    blink_weight: float = setting(5.0, "lambda 1 of eq. 7")
    emotion_weight: float = setting(5.0, "lambda 2 of eq. 7")
    emotion_sum: bool = setting(False, "eq. 6 is the sum over attitudes, once a clip, instead of a mean in every frame")
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

    def __init__(self, features: int, settings: Settings) -> None:
        super().__init__()
        width, self.bypass = settings.width, settings.bypass
        self.shape = (settings.heads, settings.codes)
        self.first = MaskedConv(features, width)
        self.convolutions = nn.ModuleList(MaskedConv(width, width) for _ in range(7))
        self.lstm = DeepLstm(width, width, self.bypass)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, math.prod(self.shape)))

    def forward(self, style: Tensor, mask: Tensor) -> Tensor:
        values = self.first(style.transpose(1, 2), mask)
        for convolution in self.convolutions:
            values = convolution(values, mask) + (values if self.bypass else 0)
        return self.head(self.lstm(values.transpose(1, 2))).unflatten(-1, self.shape)


class DeepLstm(nn.Module):
    """Three LSTM layers over (batch, frame, feature), and with ``bypass`` a way past them: (batch, frame, width).

    Without it the layers pass on next to nothing of what they read when training begins, and nothing is learned.
    """

    def __init__(self, features: int, width: int, bypass: bool) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width)) if bypass else None
        self.layers = nn.LSTM(width if bypass else features, width, num_layers=3, batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        if self.read is None:
            return self.layers(values)[0]
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
    """Four 2-d convolutions, three of which halve the heads, and three LSTM layers: logits (batch, frame).

    Heads that are missing to a multiple of 8 are zeros.
    """

    def __init__(self, attitudes: int, heads: int, codes: int, channels: int, width: int, bypass: bool) -> None:
        super().__init__()
        self.missing = -heads % HALVED
        self.read = OpenedConv(attitudes, codes, channels, taps=1)
        halves = {"kernel_size": (3, 4), "stride": (1, 2), "padding": (1, 1)}
        self.halve = nn.ModuleList(nn.Conv2d(channels, channels, **halves) for _ in range(3))
        for convolution in self.halve:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        self.lstm = DeepLstm(channels * (heads + self.missing) // HALVED, width, bypass)
        self.last = nn.Linear(width, 1)

    def forward(self, codes: Tensor, attitude: Tensor, mask: Tensor) -> Tensor:
        values = functional.pad(self.read(codes, attitude).movedim(3, 1).relu(), (0, self.missing))
        for convolution in self.halve:
            values = convolution(values * mask[:, None, :, None]).relu()
        return self.last(self.lstm(values.transpose(1, 2).flatten(2))).squeeze(-1)


class Elp(Listener):
    """Codes drawn from a categorical distribution given the speaker; motion and blinks decoded from them."""

    paper = "Song et al., Emotional Listener Portrait: Neural Listener Head Generation with Emotion, ICCV 2023"
    causal = False
    final_rate = 0.01
    stochastic = True
    Settings = Settings
    deviations = (
        Deviation(
            "section 3.2, eq. 1", "100 coefficients of expression, so that s(t) has 334 numbers",
            "as many as the data's fitter gives: with 64 they are 262",
        ),
        Deviation(
            "section 4.1", "MFCC features of 29 numbers a frame, which ones is not said",
            "all 45 acoustic features, as the other papers",
        ),
        Deviation(
            "section 4.1", "the first 16 layers of ResNet-50, a network of pictures",
            "16 convolutions of its sizes along time, without strides: 29 T numbers become 128 T",
        ),
        Deviation(
            "section 3.1", "motion comes from the speaker's video and speech: the attitude is the one heard in them",
            "the label opens the space of codes in prediction as it does in training (heard: in the whole clip)",
            {"emotion": "heard"},
        ),
        Deviation(
            "section 3.1, fig. 2", "the listener's portrait goes to the renderer alone",
            "the first frame is added to the motion: data sets of many people need their resting faces",
            {"first_frame": False},
        ),
        Deviation(
            "section 4.1", "convolutions, LSTMs and an MLP, one behind the other",
            "ways past them: without, no blink was learned", {"bypass": False},
        ),
        Deviation(
            "section 3.3, eq. 2", "a code is drawn in every frame",
            "its noise lasts half a second: drawn anew it makes a listener tremble", {"memory_s": 0.0},
        ),
        Deviation(
            "section 3.3", "the decoders read the number of a code, 1 to N V",
            "one-hot codes: such a number has no gradient; the first convolution learns a vector for each",
        ),
        Deviation(
            "eq. 3", "norms of the errors of one draw", "the energy score of two: eq. 3 teaches that codes be ignored",
            {"diverse": False},
        ),
        Deviation(
            "eqs. 6 and 7", "a sum over attitudes, once a window, beside sums over its frames",
            "a mean over attitudes in every frame, 17 times as much for three attitudes and 50 frames",
            {"emotion_sum": True},
        ),
        Deviation(
            "sections 3.3 and 4.1", "25 frames a second, 50 in a window",
            "30 a second, 60 in a window; with 25 the networks see these as 50, and the data keep their clock",
            {"network_fps": 25},
        ),
        Deviation(
            "section 4.1", "windows begin anywhere", "on a grid, one behind the other", {"windows": "random"},
        ),
        Deviation(
            "section 4.1", "10,000 steps of 32 windows on ViCo (50,000 of 128 on Learning2Listen's data)",
            "112 epochs, which are as many on ViCo", {"iterations": 10_000},
        ),
        TRAINS_ON_ALL,
        Deviation(
            "section 3.2", "eyes are closed where the ratio of their landmarks exceeds a threshold, which is not given",
            "the column of stage `blink`, where the ratio falls: it is of height by width",
        ),
        Deviation(
            "section 4.1", "Learning2Listen's attitudes are those that a network hears in the speech",
            "those of the data set; where clips have none, `unlabelled` is one more",
        ),
        Deviation(
            "section 3.4", "eyelids are closed on the way to a closed shape, and a First Order Motion Model draws them",
            "the listener says when eyes are closed; what is drawn is a matter of jobs.render",
        ),
        Deviation(
            "table 2", "NN-motion and NN-audio in the spaces U and V too; how is not said",
            "not made: these two have no codes",
        ),
        Deviation(
            "table 1", "Learning2Listen's own model is compared", "it is no listener here: its rows are those printed",
        ),
    )  # fmt: skip
    presets = {"paper": published(deviations)}
    settings: Settings

    @classmethod
    def reads(cls, settings: Settings) -> tuple[str, ...]:
        return ("listener_blink",)

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        shared = settings.space == "shared"
        if shared and settings.emotion == "heard":
            raise UserError("elp: no attitude is heard in a shared space of codes; --set emotion=label")
        style = settings.audio_outputs + sizes.motion.widths["exp"] + sizes.coefficients
        space = (1 if shared else sizes.attitudes, settings.heads, settings.codes, settings.channels)
        self.parts = sizes.motion.expression_and_pose
        self.audio = AudioEncoder(sizes.audio, settings.audio_width, settings.audio_outputs, settings.dropout)
        self.emotion = None if shared else EmotionEncoder(style, settings.width, sizes.attitudes)
        self.encoder = HeadEncoder(style, settings)
        self.motion = MotionDecoder(*space, outputs=sizes.coefficients)
        self.blink = BlinkDecoder(*space, width=settings.width, bypass=settings.bypass)
        if settings.first_frame:
            self.keep = nn.Parameter(torch.ones(sizes.coefficients))  # how much of the first frame stays
        self.step = frames_in(
            Fraction(1, settings.network_fps)
        )  # the data's frames from one of the networks' to the next

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        batch = at_rate(batch, self.step)
        style = self._style(batch)
        logits, draws = self.encoder(style, inside(batch.mask)), 2 if self.settings.diverse else 1
        said = [self._decode(logits, batch, batch.attitude, generator) for _ in range(draws)]
        motions, shut = zip(*said, strict=True)
        closed = batch.extra["listener_blink"].to(shut[0].dtype)
        crossed = functional.binary_cross_entropy_with_logits
        blink = sum(masked_mean(crossed(p, closed, reduction="none"), batch.mask) for p in shut) / draws
        steps = sum(masked_mean(changes(p.sigmoid()).abs(), both_frames(batch.mask)) for p in shut) / draws
        terms = {
            "motion": (energy_score if self.settings.diverse else mean_error)(motions, batch, self.parts),
            "blink": self.settings.blink_weight * blink,
            "steadiness": self.settings.steadiness_weight * steps,
        }
        # where no prediction depends on the emotion, it is not validated
        if self.emotion is not None and (self.training or self.settings.emotion == "heard"):
            terms["emotion"] = self.settings.emotion_weight * self._emotion_error(style, batch)
        return terms

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        slow = at_rate(batch, self.step)
        logits, attitude = self._codes(slow)
        motion, blink = self._decode(logits, slow, attitude, generator, self.settings.sampling)
        frames, known = batch.mask.shape[1], inside(slow.mask)
        return Prediction(*(interpolated(said, 1 / self.step, frames, known) for said in (motion, blink.sigmoid())))

    def _codes(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is drawn from in prediction: logits of the codes (batch, frame, H, V), and attitudes (batch,)."""
        style, frames = self._style(batch), inside(batch.mask)
        heard = self.settings.emotion == "heard" and self.emotion is not None
        attitude = self.emotion(style, frames).argmax(dim=1) if heard else batch.attitude
        return self.encoder(style, frames), attitude

    def _emotion_error(self, style: Tensor, batch: Batch) -> Tensor:
        """Eq. 6 of logits heard in the style."""
        heard = self.emotion(style, inside(batch.mask))
        told = functional.one_hot(batch.attitude, self.sizes.attitudes).to(heard.dtype)
        if not self.settings.emotion_sum:
            return functional.binary_cross_entropy_with_logits(heard, told)
        # eq. 7 adds this sum to sums over frames; the other terms here are means, so it is divided by the frames too
        summed = functional.binary_cross_entropy_with_logits(heard, told, reduction="sum")
        return summed / batch.mask.sum().clamp(min=1)

    def _style(self, batch: Batch) -> Tensor:
        """s(t) of eq. 1, (batch, frame, feature)."""
        frames = inside(batch.mask)
        speaker, moved = batch.speaker, changes(batch.speaker)
        still = moving_deviation(speaker[..., self.parts[0]], frames, self.settings.style_frames)
        moving = moving_deviation(moved, frames, self.settings.style_frames)
        return torch.cat([self.audio(batch.audio, frames), still, moving], dim=-1) * frames[..., None]

    def _decode(
        self, logits: Tensor, batch: Batch, attitude: Tensor, generator: torch.Generator, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """One draw: motion (batch, frame, coefficient) and logits of closed eyes (batch, frame)."""
        frames = inside(batch.mask)
        memory = frames_in(self.settings.memory_s) / float(self.step)
        noise = scale * lasting_gumbel_noise(logits.shape, memory, generator)
        codes = gumbel_softmax(logits, noise, self.settings.temperature)
        codes = codes * frames[..., None, None]
        attitude = attitude if self.settings.space == "emotion" else torch.zeros_like(attitude)
        motion = self.motion(codes, attitude, frames)
        if self.settings.first_frame:
            motion = self.keep * batch.reference[:, None] + motion
        return motion * frames[..., None], self.blink(codes, attitude, frames)


def at_rate(batch: Batch, step: Fraction) -> Batch:
    """The batch with frames ``step`` of its own apart, linear between neighbours, of which both must count."""
    if step == 1:
        return batch
    frames = int((batch.mask.shape[1] - 1) // step) + 1
    along = {name: interpolated(getattr(batch, name), step, frames) for name in ("speaker", "listener", "audio")}
    blink = batch.extra["listener_blink"]
    extra = {"listener_blink": interpolated(blink.float(), step, frames) >= 0.5}
    mask = interpolated(batch.mask.float(), step, frames) > 1 - 1e-6
    return replace(batch, **along, mask=mask, extra={**batch.extra, **extra})


def interpolated(values: Tensor, step: Fraction, frames: int, known: Tensor | None = None) -> Tensor:
    """Values (batch, frame, ...) at so many instants, ``step`` frames apart, linear between neighbours.

    The last frame, of those that are ``known`` (batch, frame) if only these count, stands for what comes after it.
    """
    if step == 1:
        return values
    numbers = torch.arange(frames, device=values.device) * step.numerator
    before = (numbers // step.denominator).clamp(max=values.shape[1] - 1)
    after = (before + 1).clamp(max=values.shape[1] - 1)
    share = (numbers % step.denominator / step.denominator).to(values.dtype)
    share = share.expand(len(values), -1) if known is None else share * known[:, after]
    return torch.lerp(values[:, before], values[:, after], share.view(*share.shape, *(1,) * (values.dim() - 2)))


def lasting_gumbel_noise(shape: torch.Size, memory: float, generator: torch.Generator) -> Tensor:
    """Gumbel noise (batch, frame, ...) that lasts: in every frame Gumbel distributed, from frame to frame correlated.

    The normal numbers behind it form an autoregressive process with correlation exp(-t / ``memory``), t in frames.
    """
    keep = math.exp(-1 / memory) if memory > 0 else 0.0
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


def mean_error(draws: Sequence[Tensor], batch: Batch, parts: Parts) -> Tensor:
    """Eq. 3, mean over frames and draws; ``parts`` are beta and p."""
    wanted = batch.listener
    errors = [distance(said[..., part], wanted[..., part], batch.mask) for said in draws for part in parts]
    return sum(errors[1:], errors[0]) / len(draws)


def energy_score(draws: Sequence[Tensor], batch: Batch, parts: Parts) -> Tensor:
    """The energy score of every coefficient, from two draws; as large as eq. 3 where all coefficients err alike."""
    one, two = draws
    total = one.new_zeros(())
    for part in parts:
        first, second, truth = (values[..., part] for values in (one, two, batch.listener))
        errors = ((first - truth).abs() + (second - truth).abs() - (first - second).abs()) / 2
        total = total + masked_mean(errors.mean(dim=-1) * first.shape[-1] ** 0.5, batch.mask)
    return total
