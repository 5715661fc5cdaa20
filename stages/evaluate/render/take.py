"""What a renderer is given: one picture of a person, and how that person is to move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Motion:
    """Coefficients of one face: identity (80,) or (frame, 80), exp (frame, 64), angle, trans and crop (frame, 3).

    Columns of the stage ``threedmm`` without their role; ``crop`` is in pixels of the picture, y up.
    """

    identity: np.ndarray
    exp: np.ndarray
    angle: np.ndarray
    trans: np.ndarray
    crop: np.ndarray


@dataclass(frozen=True)
class Take:
    """One clip to render.

    Attributes
    ----------
    picture : uint8 RGB (side, side, 3), the reference.
    pose : the coefficients of that picture, one frame.
    motion : those to render, all finite.
    closed : (frame,), how far a blink closes the eyes beyond what the expression says, 0 to 1.
    """

    picture: np.ndarray
    pose: Motion
    motion: Motion
    closed: np.ndarray

    @property
    def side_px(self) -> int:
        return len(self.picture)


class Renderer(Protocol):
    """Renders takes, one after the other."""

    def render(self, take: Take) -> Iterator[np.ndarray]:
        """The frames of a take: uint8 RGB (side, side, 3) each."""
        ...
