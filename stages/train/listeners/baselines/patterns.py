"""Motion patterns of the training clips, for the baselines that repeat them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.train.listener import Batch


@dataclass(frozen=True)
class Pattern:
    """A listener's motion (frame, coefficients) relative to the first frame, z-scored, and the attitude's index."""

    motion: Tensor
    attitude: int


def patterns_of(clips: Sequence[Batch]) -> list[Pattern]:
    """The patterns of clips, each a batch of one; frames without valid coefficients are left out."""
    return [Pattern(_moves(clip), int(clip.attitude)) for clip in clips if clip.mask.any()]


def repeated(motion: Tensor, frames: int) -> Tensor:
    """Motion (frame, coefficients) forth and back until it has as many frames as wanted."""
    there_and_back = torch.cat([motion, motion[1:-1].flip(0)])
    return there_and_back[torch.arange(frames, device=motion.device) % len(there_and_back)]


def held(values: Tensor, known: Tensor) -> Tensor:
    """Values (frame, ...) in which an unknown frame repeats the last known one, the first known one at the start."""
    places = torch.arange(len(known), device=known.device).where(known, torch.full_like(known, -1, dtype=torch.int64))
    return values[places.cummax(0).values.clamp(min=int(known.int().argmax()))]


def _moves(clip: Batch) -> Tensor:
    motion = clip.listener[0][clip.mask[0]]
    return motion - motion[0]
