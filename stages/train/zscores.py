"""z-scores: every coefficient and acoustic feature relative to its mean and spread in the training clips.

As in the ViCo baseline, motion has one mean and deviation for speakers and listeners together; unlike there, only the
training clips count, and a deviation has a floor: 26 of the 45 features of the preset ``vico45-code`` are rounding
noise, which division by their own deviation would blow up to the size of a signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from schemas.column import ROLES
from stages.train.corpus import ClipFrames, Corpus

STD_FLOOR = 1e-4  # in the feature's own unit; rounding noise lies below 1e-6, the smallest signal at about 1e-3


@dataclass(frozen=True)
class Scale:
    """Mean and deviation (not under `STD_FLOOR`) of the features of a frame, as plain numbers for JSON."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_z(self, values: Tensor) -> Tensor:
        """Values (..., feature) as z-scores."""
        return (values - values.new_tensor(self.mean)) / values.new_tensor(self.std)

    def from_z(self, z: Tensor) -> Tensor:
        """The inverse of `to_z`."""
        return z * z.new_tensor(self.std) + z.new_tensor(self.mean)


@dataclass(frozen=True)
class ZScores:
    """The scales of motion and audio."""

    motion: Scale
    audio: Scale


def scores_of(corpus: Corpus, clips: Sequence[ClipFrames]) -> ZScores:
    """The z-scores of some clips; frames without valid coefficients do not count."""
    rows = np.concatenate([np.arange(clip.first, clip.first + clip.num_frames) for clip in clips])
    return ZScores(_scale([corpus.arrays[role][rows] for role in ROLES]), _scale([corpus.arrays["audio"][rows]]))


def _scale(parts: Sequence[np.ndarray]) -> Scale:
    finite = [part[np.isfinite(part).all(axis=1)].astype(np.float64) for part in parts]
    count = max(1, sum(map(len, finite)))
    mean = sum(part.sum(axis=0) for part in finite) / count
    variance = sum(((part - mean) ** 2).sum(axis=0) for part in finite) / max(1, count - 1)
    return Scale(tuple(mean.tolist()), tuple(np.maximum(np.sqrt(variance), STD_FLOOR).tolist()))
