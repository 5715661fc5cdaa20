"""What a number means: the definition that every metric carries, and how clips become one score.

The papers reuse names for different formulas, scales and poolings ("FD" has five meanings), so a score without its
definition says nothing. A definition names the variant by its id and binds a function to its inputs.

An `Input` is a `Quantity` of one of three people, such as ``Quantity.EXP.predicted``. A clip is a mapping from input to
array. Functions of a clip take one array an input; functions of a data set take one list of arrays an input, an array a
clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, unique
from functools import partial

import numpy as np

from schemas.coefficients import STAGE as FITTING
from schemas.column import other_role


class Whose(Enum):
    """The person, and where his numbers come from."""

    PREDICTED = "predicted"  # the listener of a prediction, or the speaker where that is whom it predicts
    REFERENCE = "reference"  # the same of the data set
    SPEAKER = "speaker"  # of the data set; where speakers are predicted, the one who listens

    def role(self, predicted: str) -> str:
        """In the names of columns, where a role is predicted."""
        return other_role(predicted) if self is Whose.SPEAKER else predicted


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a quantity is and where it comes from: columns of a data set, or else pictures."""

    meaning: str  # in words, with shape and unit
    columns: tuple[str, ...] = ()  # without the role, side by side; none for what is seen in pictures
    stage: str = ""  # that writes them
    of_samples: bool = False  # stacked over all samples of a run, (frame, sample, ...)
    network: str = ""  # that sees it in the pictures: its weights' name in ``manifests/weights.toml``
    width: int = 0  # numbers a frame that the network makes
    heard: bool = False  # the network also hears the clip's sound


_fitted = partial(Origin, stage=FITTING)


@unique
class Quantity(Enum):
    """What can be measured of a person."""

    EXP = _fitted(meaning="expression coefficients (frame, dimension)", columns=("exp",))
    ANGLE = _fitted(meaning="head angles (frame, 3) in rad", columns=("angle",))
    TRANS = _fitted(meaning="head translation (frame, 3)", columns=("trans",))
    POSE = _fitted(meaning="angle and translation side by side (frame, 6)", columns=("angle", "trans"))
    EXP_SAMPLES = _fitted(meaning="exp of every sample (frame, sample, dimension)", columns=("exp",), of_samples=True)
    POSE_SAMPLES = _fitted(meaning="pose of every sample (frame, sample, 6)", columns=POSE.columns, of_samples=True)
    IDENTITY = _fitted(meaning="identity coefficients (frame or 1, dimension)", columns=("identity",))
    BLINK = Origin(meaning="whether the eyes are closed, bool (frame,)", columns=("blink",), stage="blink")
    LANDMARKS = Origin(meaning="points in px (frame, 478, 2 or 3)", columns=("landmarks",), stage="landmarks")
    FRAMES = Origin(meaning="RGB pictures, uint8 (frame, height, width, 3)")
    INCEPTION = Origin(meaning="what FID compares (frame, 2048)", network="inception_2015_12_05", width=2048)
    ARCFACE = Origin(meaning="who it is (frame, 512)", network="arcface_r100_ms1mv3", width=512)
    VGGFACE2 = Origin(meaning="who it is (frame, 512)", network="facenet_vggface2", width=512)
    SYNCNET = Origin(
        meaning="lips and voice (place, 2048), a place a frame at 25 fps", network="syncnet_v2", width=2048, heard=True
    )
    HOPENET = Origin(meaning="how the head is turned (frame, 2048)", network="hopenet_robust_alpha1", width=2048)

    def __str__(self) -> str:
        return self.name.lower()

    @property
    def is_seen(self) -> bool:
        """Whether it needs pictures."""
        return not self.value.columns

    @property
    def predicted(self) -> Input:
        return Input(Whose.PREDICTED, self)

    @property
    def reference(self) -> Input:
        return Input(Whose.REFERENCE, self)

    @property
    def speaker(self) -> Input:
        return Input(Whose.SPEAKER, self)

    @property
    def pair(self) -> tuple[Input, Input]:
        """The inputs of a metric that compares prediction and reference."""
        return self.predicted, self.reference


@dataclass(frozen=True)
class Input:
    """One quantity of one person."""

    whose: Whose
    quantity: Quantity

    def __str__(self) -> str:
        return f"{self.whose.value}.{self.quantity}"

    def columns(self, predicted: str) -> list[str]:
        """The columns of a data set that make it up, where a role is predicted."""
        return [f"{self.whose.role(predicted)}_{name}" for name in self.quantity.value.columns]

    def of_reference(self) -> Input:
        """The same of the reference, where it is the prediction's."""
        return self.quantity.reference if self.whose is Whose.PREDICTED else self


Clip = Mapping[Input, np.ndarray]


class Pooling(Enum):
    """How the values of clips become the value of a data set."""

    FRAMES = "mean over all frames: a clip counts by its length"
    CLIPS = "mean over clips: every clip counts the same"
    DATA_SET = "one value of all clips together; a clip alone has none"


class Direction(Enum):
    """What is better."""

    HIGHER = "higher is better"
    LOWER = "lower is better"
    REFERENCE = "closer to the reference's own value is better"

    def badness(self, value: float, goal: float | None) -> float:
        """The smaller, the better a value is; all are alike where the reference's own, ``goal``, is not known."""
        if self is Direction.REFERENCE:
            return 0.0 if goal is None else abs(value - goal)
        return value if self is Direction.LOWER else -value


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One metric, to the last detail that changes its value."""

    id: str  # names the variant; never reused for another formula
    name: str  # as a table prints it
    published_as: str = ""  # where others print this very number, and its name there; empty for our own metrics
    formula: str  # in words
    source: str  # paper with table or equation, and the code that was read
    unit: str = ""  # of the scaled value; empty where it has none
    scale: float  # the factor that the source prints its numbers with
    pooling: Pooling
    direction: Direction
    inputs: tuple[Input, ...]  # in the order of the function's arguments
    min_frames: int  # a clip with fewer does not count; for `Pooling.DATA_SET`, all clips together
    function: Callable[..., float]  # of arrays; NaN where the metric is not defined (no blink has no duration)
    perfect: float | None  # value of a data set scored against itself; None where it is the reference's own value
    warning: str = ""  # what a reader has to know before comparing numbers
    role: str = ""  # of those whom it says something of, if not of both
    unpaired: Callable[..., float] | None = None
    """What a bootstrap calls where only the first input is drawn and the rest stay whole, as clusters of the reference
    do; None where all inputs are drawn together."""

    @property
    def weights(self) -> str:
        """Name in ``manifests/weights.toml`` of the network that makes the inputs; empty where none is needed."""
        return next((i.quantity.value.network for i in self.inputs if i.quantity.value.network), "")

    @property
    def sees_pictures(self) -> bool:
        """Whether the size of pictures and their codec matter."""
        return any(i.quantity.is_seen for i in self.inputs)

    def clip_score(self, clip: Clip) -> float:
        """Value of one clip; NaN where it does not count."""
        if self.pooling is Pooling.DATA_SET:
            raise ValueError(f"{self.id}: {self.pooling.value}; score the data set")
        if self.num_frames(clip) < self.min_frames:
            return math.nan
        return self.scale * self.function(*(clip[i] for i in self.inputs))

    def score(self, clips: Sequence[Clip]) -> float:
        """Value of a data set; NaN where no clip counts."""
        frames = [self.num_frames(clip) for clip in clips]
        if self.pooling is not Pooling.DATA_SET:
            return self.pool([self.clip_score(clip) for clip in clips], frames)
        if sum(frames) < self.min_frames:
            return math.nan
        return self.scale * self.function(*([clip[i] for clip in clips] for i in self.inputs))

    def score_drawn(self, clips: Sequence[Clip], drawn: Sequence[int]) -> float:
        """Value of the clips at some positions, one of which may come several times, for `Pooling.DATA_SET`."""
        chosen = [clips[position] for position in drawn]
        if self.unpaired is None:
            return self.score(chosen)
        first, *rest = self.inputs
        return self.scale * self.unpaired([c[first] for c in chosen], *([c[i] for c in clips] for i in rest))

    def pool(self, values: Sequence[float], frames: Sequence[int]) -> float:
        """Value of a data set from those of its clips and their numbers of frames; NaN does not count."""
        weights = np.ones(len(values)) if self.pooling is Pooling.CLIPS else np.asarray(frames, np.float64)
        counts = np.isfinite(np.asarray(values, np.float64))
        return float(np.average(np.asarray(values)[counts], weights=weights[counts])) if counts.any() else math.nan

    def num_frames(self, clip: Clip) -> int:
        """Frames of a clip, by its first input."""
        return len(clip[self.inputs[0]])

    def of_reference(self) -> Definition:
        """The same metric of the reference in the prediction's place: what `Direction.REFERENCE` compares with."""
        return replace(self, inputs=tuple(i.of_reference() for i in self.inputs))
