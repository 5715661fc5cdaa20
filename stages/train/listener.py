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
from schemas.coefficients import ALL_ORDERS, Layout
from schemas.column import LISTENER
from stages.train.inputs import MIX, OWN

STARTS = ("first_frame", "neutral")
ORDERS_KNOWN = ("auto", *ALL_ORDERS)
HELD_OUT = ("clips", "listeners", "none")
WINDOWS = ("grid", "random")
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
    speaker, listener : motion (batch, frame, coefficients) in the model's order. ``listener`` is who is predicted: a
        run with the role ``speaker`` predicts the speaker, and finds the one who listens under ``speaker``.
    audio : acoustic features (batch, frame, audio).
    reference : (batch, coefficients), ``listener`` in the first frame, or the neutral start (zeros).
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
class Deviation:
    """A difference between a paper's text and what a listener does by default.

    Attributes
    ----------
    where : section, equation or table of the paper.
    paper : what its text says, in our words.
    ours : what the default does, and why; where no setting switches it, why not.
    settings : those with which the listener does what the text says; the preset ``paper`` is made of them.
    """

    where: str
    paper: str
    ours: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def published(deviations: Sequence[Deviation]) -> dict[str, Any]:
    """The settings of a preset ``paper``: all that take deviations back."""
    return {key: value for deviation in deviations for key, value in deviation.settings.items()}


TRAINS_ON_ALL = Deviation(
    "training", "all clips of the training set are learned from",
    "a tenth of them validates, and the best epoch is kept", {"held_out": "none"},
)  # fmt: skip


@dataclass(frozen=True)
class TrainingSettings:
    """What every learned listener has a value for; each model's ``Settings`` extends it and sets its paper's values."""

    epochs: int = setting(100, "passes over the training windows")
    iterations: int = setting(0, "steps of the optimizer after which training ends; 0: the epochs decide")
    batch_size: int = setting(32, "windows a step, over all workers together", least=1)
    learning_rate: float = setting(1e-3, "of AdamW at the start")
    weight_decay: float = setting(0.05, "of AdamW")
    windows: str = setting("grid", "where they begin: on a grid, or drawn at random in every epoch", choices=WINDOWS)
    window_frames: int = setting(90, "frames of a training window, at 30 fps", least=1)
    stride_frames: int = setting(30, "frames from the start of a window to that of the next", least=1)
    min_frames: int = setting(30, "shortest tail of a clip that is still a window", least=1)
    start: str = setting("first_frame", "the reference: the listener's first frame, or zeros", choices=STARTS)
    clip_norm: float = setting(0.0, "norm to which gradients are clipped; 0: they are not")
    held_out: str = setting("clips", "what validates where there is no split val", choices=HELD_OUT)
    validation_share: float = setting(0.1, "of the training clips that is held out")
    patience: int = setting(0, "epochs without a better validation loss after which training stops; 0: never")
    precision: str = setting("auto", "auto: bfloat16 on a GPU that has it, else float32", choices=PRECISIONS)
    order: str = setting(
        "auto", "layout of motion; auto: the one that holds all motion of the data's coefficients", choices=ORDERS_KNOWN
    )
    sound: str = setting(
        MIX, "what is heard: both people, or the one who is not predicted in a sound of its own", choices=(MIX, OWN)
    )
    seed: int = setting(0, "of weights, order of windows, dropout and the models' own draws")


SHARED = (
    Deviation(
        "motion", "expression and pose, 70 numbers; the challenges' baselines add the crop, 73",
        "with the crop where the data's moves from frame to frame (deep3d, tddfa_v2): without it the head would stand "
        "still; the presets keep that", {"order": "paper70"},
    ),
    Deviation(
        "losses", "sums over the frames of a window, of the coefficients",
        "means over frames, of z-scores, as in the released baseline: windows differ in length and coefficients in "
        "unit; padding and frames in which a person was not found do not count",
    ),
    Deviation(
        "inputs", "45 acoustic features: 14 of the cepstrum, their differences, energy, loudness, zero crossings",
        "z-scores of them; the stage `acoustic` says how they are made, the papers do not",
    ),
    Deviation(
        "coefficients", "Deep3DFaceRecon's (ViCo, PCHG, MFR-Net), 3DDFA-V2's (HSP), of a Gauss-Newton fit (ELP)",
        "those that the data set was built with: `landmark_gn`, which needs no weights, or with `threedmm.fitter` "
        "`deep3d`, as in the recipes, and `tddfa_v2`",
    ),
    Deviation(
        "pictures", "the face as MTCNN finds it in every frame, resized to 384 px (ViCo) or 256 (PCHG, MFR-Net)",
        "MTCNN, but one square a clip, in which the head moves; 384 px. `face.policy=per_frame` and `face.size_px` "
        "build the papers'",
    ),
)  # fmt: skip


class Listener(nn.Module):
    """Base class of learned listeners.

    Class attributes

    paper : author, title, venue; a class without it is a base of listeners.
    name : needed only where a file holds several listeners.
    causal : the motion of frame t does not depend on input after frame t (a streaming model; a test holds it to that).
    stochastic : the same input gives other motion for another seed.
    final_rate : share of the learning rate to which it falls on a cosine over the epochs; 1: it stays.
    learned : it has weights; one that has none is given the training clips in `remember` instead.
    Settings : a frozen dataclass that extends `TrainingSettings`.
    roles : whose motion it predicts -> settings that differ from the defaults then.
    deviations : where it differs from its paper; those of this class are of all listeners, and no preset switches them.
    presets : name -> settings that differ from the defaults.
    """

    paper: ClassVar[str]
    name: ClassVar[str]
    causal: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False
    learned: ClassVar[bool] = True
    final_rate: ClassVar[float] = 1.0
    Settings: ClassVar[type[TrainingSettings]] = TrainingSettings
    roles: ClassVar[Mapping[str, Mapping[str, Any]]] = {LISTENER: {}}
    deviations: ClassVar[tuple[Deviation, ...]] = SHARED
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, settings: TrainingSettings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, self.sizes = settings, sizes

    @classmethod
    def reads(cls, settings: Any) -> tuple[str, ...]:
        """Further columns of the shards that it wants in ``Batch.extra``."""
        return ()

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

    def learning_rate_factor(self, epoch: float, epochs: float) -> float:
        """What the learning rate is multiplied with at an epoch, of so many; both may be fractions."""
        return cosine(epoch, epochs, self.final_rate)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (batch, frame) over frames where mask (batch, frame) is True: padding does not count."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def cosine(epoch: float, epochs: float, last: float) -> float:
    """Learning rate: from 1 to ``last`` on half a cosine, then ``last`` (Loshchilov and Hutter, ICLR 2017)."""
    return last + (1 - last) * (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2
