"""What a number means: the definition that every metric carries, and how clips become one score.

The papers reuse names for different formulas, scales and poolings ("FD" has five meanings), so a score without its
definition says nothing. A definition names the variant by its id and binds a function to its inputs.

An input is ``whose.what``: ``predicted.exp``, ``reference.frames``, ``speaker.pose``; `QUANTITIES` lists the second
half. A clip is a mapping from input to array. Functions of a clip take one array an input; functions of a data set take
one list of arrays an input, an array a clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

Clip = Mapping[str, np.ndarray]

PREDICTED, REFERENCE, SPEAKER = "predicted", "reference", "speaker"

QUANTITIES = {
    "exp": "expression coefficients (frame, dimension)",
    "angle": "head angles (frame, 3) in rad",
    "trans": "head translation (frame, 3)",
    "pose": "angle and translation side by side (frame, 6)",
    "exp_samples": "exp of every sample of a prediction (frame, sample, dimension)",
    "pose_samples": "pose of every sample (frame, sample, 6)",
    "identity": "identity coefficients (frame, dimension)",
    "blink": "whether the eyes are closed, bool (frame,)",
    "landmarks": "MediaPipe's points (frame, 478, 2 or 3) in px",
    "frames": "RGB pictures, uint8 (frame, height, width, 3)",
    "inception": "embedding of every frame (frame, 2048), see stages.evaluate.metrics.embeddings",
    "arcface": "embedding of every frame (frame, 512)",
    "vggface2": "embedding of every frame (frame, 512)",
    "hopenet": "embedding of every frame (frame, 2048)",
}


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


@dataclass(frozen=True)
class Definition:
    """One metric, to the last detail that changes its value.

    Attributes
    ----------
    id : names the variant; never reused for another formula.
    name : as a table prints it.
    published_as : the name and place under which others print this very number; empty for our own metrics.
    formula : in words.
    source : paper with table or equation, and the code that was read.
    unit : of the scaled value; empty where it has none.
    scale : the factor that the source prints its numbers with.
    pooling, direction : see `Pooling` and `Direction`.
    inputs : names of the arrays, in the order of the function's arguments.
    min_frames : a clip with fewer does not count; for `Pooling.DATA_SET`, all clips together.
    function : arrays in, float out; NaN where the metric is not defined (no blink has no duration).
    perfect : value of a data set scored against itself; None where it is the reference's own value.
    weights : name in ``manifests/weights.toml`` of the network that makes the inputs; empty where none is needed.
    warning : what a reader has to know before comparing numbers.
    unpaired : what a bootstrap calls where only the first input is drawn and the rest stay whole, as clusters of the
        reference do; None where all inputs are drawn together.
    """

    id: str
    name: str
    published_as: str
    formula: str
    source: str
    unit: str
    scale: float
    pooling: Pooling
    direction: Direction
    inputs: tuple[str, ...]
    min_frames: int
    function: Callable[..., float]
    perfect: float | None
    weights: str = ""
    warning: str = ""
    unpaired: Callable[..., float] | None = None

    def clip_score(self, clip: Clip) -> float:
        """Value of one clip; NaN where it does not count."""
        if self.pooling is Pooling.DATA_SET:
            raise ValueError(f"{self.id}: {self.pooling.value}; score the data set")
        if self.num_frames(clip) < self.min_frames:
            return math.nan
        return self.scale * self.function(*(clip[name] for name in self.inputs))

    def score(self, clips: Sequence[Clip]) -> float:
        """Value of a data set; NaN where no clip counts."""
        frames = [self.num_frames(clip) for clip in clips]
        if self.pooling is not Pooling.DATA_SET:
            return self.pool([self.clip_score(clip) for clip in clips], frames)
        if sum(frames) < self.min_frames:
            return math.nan
        return self.scale * self.function(*([clip[name] for clip in clips] for name in self.inputs))

    def score_drawn(self, clips: Sequence[Clip], drawn: Sequence[int]) -> float:
        """Value of the clips at some positions, one of which may come several times, for `Pooling.DATA_SET`."""
        chosen = [clips[position] for position in drawn]
        if self.unpaired is None:
            return self.score(chosen)
        first, *rest = self.inputs
        whole = ([clip[name] for clip in clips] for name in rest)
        return self.scale * self.unpaired([clip[first] for clip in chosen], *whole)

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
        return replace(self, inputs=tuple(name.replace(f"{PREDICTED}.", f"{REFERENCE}.") for name in self.inputs))


def pair(quantity: str) -> tuple[str, str]:
    """The inputs of a metric that compares prediction and reference."""
    return f"{PREDICTED}.{quantity}", f"{REFERENCE}.{quantity}"
