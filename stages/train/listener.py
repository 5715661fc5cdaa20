"""The contract of a listener model: what it is given, what it returns, what it declares about itself.

A listener is one file in ``listeners/``: its paper, the equations used, and what the paper leaves open with our choice
for it; the file's name is the listener's. The baselines share a file. The loop, the windows, the z-scores and the
checkpoints belong to none of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pipeline.stage import setting
from schemas.coefficients import Layout

STARTS = ("first_frame", "neutral")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Sizes:
    """Widths of the data a model is made for.

    Attributes
    ----------
    motion : where the parts of a frame of motion stand.
    audio : of a frame of acoustic features (45).
    attitudes : how many the run knows: the data set's vocabulary and, where a training clip has no label, one more.
    extra : column of `Listener.reads` -> its last axis (1 where a frame has one number).
    """

    motion: Layout
    audio: int
    attitudes: int
    extra: Mapping[str, int] = field(default_factory=dict)

    @property
    def coefficients(self) -> int:
        return self.motion.width


@dataclass(frozen=True)
class Batch:
    """Windows of one length. Motion and audio are z-scored; a padded frame holds zeros and is False in ``mask``.

    Attributes
    ----------
    speaker, listener : motion (batch, frame, coefficients) in the model's order.
    audio : acoustic features (batch, frame, audio).
    reference : (batch, coefficients), the listener's motion in the first frame, or the neutral start (zeros).
    attitude : (batch,), int64, the index in the data set's vocabulary.
    mask : (batch, frame), True where the clip has a frame whose coefficients are valid for both people.
    extra : columns that the model asked for in `Listener.reads`, as they are: (batch, frame, ...) or (batch, ...);
        a column of tokens is spread over the frames in which each is spoken, (batch, frame, ...), zeros in pauses;
        NaN and padding are 0. In `Listener.predict` the listener's own per-frame columns hold zeros.
    """

    speaker: Tensor
    listener: Tensor
    audio: Tensor
    reference: Tensor
    attitude: Tensor
    mask: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def with_attitude(self, values: Tensor, attitudes: int) -> Tensor:
        """Values (batch, feature) and after them the attitude, one-hot; the values alone where ``attitudes`` is 0."""
        labels = nn.functional.one_hot(self.attitude, attitudes) if attitudes else values[:, :0]
        return torch.cat([values, labels.to(values.dtype)], dim=1)


@dataclass(frozen=True)
class Prediction:
    """What a listener does: motion (batch, frame, coefficients), z-scored, and blinks if the model decides on them.

    ``blink`` (batch, frame) is the probability that the eyes are closed.
    """

    motion: Tensor
    blink: Tensor | None = None


@dataclass(frozen=True)
class TrainingSettings:
    """What every learned listener has a value for; each model's ``Settings`` extends it and sets its paper's values."""

    epochs: int = setting(100, "passes over the training windows")
    batch_size: int = setting(32, "windows a step, over all workers together")
    learning_rate: float = setting(1e-3, "of AdamW at the start")
    weight_decay: float = setting(0.05, "of AdamW")
    window_frames: int = setting(90, "frames of a training window, at 30 fps")
    stride_frames: int = setting(30, "frames from the start of a window to that of the next")
    min_frames: int = setting(30, "shortest tail of a clip that is still a window")
    start: str = setting("first_frame", "the reference: the listener's first frame, or zeros", choices=STARTS)
    clip_norm: float = setting(0.0, "norm to which gradients are clipped; 0: they are not")
    validation_share: float = setting(0.1, "of the training clips, held out by listener, where there is no split val")
    patience: int = setting(0, "epochs without a better validation loss after which training stops; 0: never")
    precision: str = setting("auto", "auto: bfloat16 on a GPU that has it, else float32", choices=PRECISIONS)
    seed: int = setting(0, "of weights, order of windows, dropout and the models' own draws")


class Listener(nn.Module):
    """Base class of learned listeners.

    Class attributes

    paper : author, title, venue; a class without it is a base of listeners.
    name : needed only where a file holds several listeners.
    order : layout of motion, a key of `schemas.coefficients.ORDERS`.
    reads : further columns of the shards that it wants in ``Batch.extra``.
    causal : the motion of frame t does not depend on input after frame t (a streaming model; a test holds it to that).
    stochastic : the same input gives other motion for another seed.
    final_rate : share of the learning rate to which it falls on a cosine over the epochs; 1: it stays.
    learned : it has weights; one that has none is given the training clips in `remember` instead.
    Settings : a frozen dataclass that extends `TrainingSettings`.
    presets : name -> settings that differ from the defaults.
    """

    paper: ClassVar[str]
    name: ClassVar[str]
    order: ClassVar[str] = "paper70"
    reads: ClassVar[tuple[str, ...]] = ()
    causal: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False
    learned: ClassVar[bool] = True
    final_rate: ClassVar[float] = 1.0
    Settings: ClassVar[type[TrainingSettings]] = TrainingSettings
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, settings: TrainingSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, self.sizes = settings, sizes

    @classmethod
    def layout(cls, settings: TrainingSettings) -> str:
        """The order of motion; override it where a setting decides."""
        return cls.order

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted terms of the loss by name, each a scalar over unmasked frames; their sum is minimised.

        All randomness but dropout is drawn from ``generator``, which lives on the model's device.
        """
        raise NotImplementedError

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        """The listener's motion over whole clips; ``batch.listener`` is not looked at."""
        raise NotImplementedError

    def remember(self, clips: Sequence[Batch]) -> None:
        """Take in the training clips, each a batch of one; called before `predict` where ``learned`` is False."""

    def end_epoch(self) -> None:
        """Called after the last step of every epoch, before validation: what is kept must be part of the state dict."""

    def learning_rate_factor(self, epoch: float) -> float:
        """What the learning rate is multiplied with at an epoch, which may be a fraction."""
        return cosine(epoch, self.settings.epochs, self.final_rate)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (batch, frame) over frames where mask (batch, frame) is True: padding does not count."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def cosine(epoch: float, epochs: int, last: float) -> float:
    """Learning rate: from 1 to ``last`` on half a cosine, then ``last`` (Loshchilov and Hutter, ICLR 2017)."""
    return last + (1 - last) * (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2
