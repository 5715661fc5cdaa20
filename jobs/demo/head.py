"""Head motion: the panel at rest warped by a smooth field, so that the motion is known by construction.

Inside the head the field is a similarity (translation, roll, scale) plus a soft bulge that follows nods and turns;
it fades to nothing towards shoulders and wall.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from jobs.demo.faces import smooth_step
from jobs.demo.portrait import CHIN, EYE_CORNERS, OVAL, PANEL_H_PX, PANEL_W_PX, Portrait

GRID_PX = 8  # the field is smooth: computed on a coarse grid, interpolated between
HAIR_IN_OVALS = (1.7, 1.6)  # how far hair reaches from the face's centre, in half widths and half heights of its oval
FADE_IN_HAIRS = 1.6  # where the head's motion has died away, in reaches of the hair
BULGE_STEEPNESS = 1.3  # how fast depth falls off from the nose; at the oval's rim a quarter is left
NOSE_IN_OVALS = 0.9  # how far the nose stands out before the eyes' axis of rotation, in half widths of the oval


@dataclass(frozen=True)
class Pose:
    """Where a head is, relative to rest: px of the panel, radians (roll clockwise on the screen), ratio."""

    right_px: float = 0.0
    down_px: float = 0.0
    roll_rad: float = 0.0
    scale: float = 1.0
    nod_rad: float = 0.0  # chin towards the chest
    turn_rad: float = 0.0  # nose towards the right edge of the screen


@dataclass(frozen=True)
class EyeLine:
    """What can be measured of a head: the line between its outer eye corners, in px and radians of the picture."""

    centre_px: tuple[float, float]
    length_px: float
    angle_rad: float


class Head:
    """The head of a portrait, ready to be moved."""

    def __init__(self, portrait: Portrait) -> None:
        oval = portrait.points[list(OVAL)]
        self._oval_radii = np.ptp(oval, axis=0) / 2
        self._centre = (oval.min(axis=0) + oval.max(axis=0)) / 2
        self._chin_y = portrait.points[CHIN, 1]
        self._eyes = portrait.line(EYE_CORNERS)
        steps = [np.arange(0, size, GRID_PX, dtype=np.float32) + (GRID_PX - 1) / 2 for size in (PANEL_W_PX, PANEL_H_PX)]
        self._grid = np.stack(np.meshgrid(*steps), axis=-1)  # (y, x, 2), centres of 8x8 px
        self._share = self._head_share(self._grid)
        self._pixels = np.stack(np.meshgrid(np.arange(PANEL_W_PX), np.arange(PANEL_H_PX)), axis=-1).astype(np.float32)

    def move(self, picture: np.ndarray, pose: Pose) -> np.ndarray:
        """The panel's picture with the head moved, uint8 (720, 640, 3)."""
        field = ((self._source(self._grid, pose) - self._grid) * self._share).astype(np.float32)
        where = self._pixels + cv2.resize(field, (PANEL_W_PX, PANEL_H_PX), interpolation=cv2.INTER_LINEAR)
        return cv2.remap(picture, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)

    def eye_line(self, pose: Pose) -> EyeLine:
        """Where the outer eye corners are drawn: the field, inverted at two points."""
        drawn = self._eyes.copy()
        for _ in range(30):  # a contraction: bulge and motion change slowly over space
            drawn += self._eyes - self._source(drawn, pose)
        across = drawn[1] - drawn[0]
        centre = drawn.mean(axis=0)
        angle = np.arctan2(across[1], across[0])
        return EyeLine((float(centre[0]), float(centre[1])), float(np.hypot(*across)), float(angle))

    def _source(self, where: np.ndarray, pose: Pose) -> np.ndarray:
        """The point of the picture at rest that a moved head shows at ``where`` (..., 2)."""
        cos, sin = np.cos(pose.roll_rad), np.sin(pose.roll_rad)
        back = np.array([[cos, -sin], [sin, cos]]) / pose.scale  # row vectors times this: turned back by the roll
        rest = (where - self._centre - (pose.right_px, pose.down_px)) @ back + self._centre
        away = (rest - self._centre) / self._oval_radii
        bulge = np.exp(-BULGE_STEEPNESS * (away**2).sum(axis=-1, keepdims=True))
        reach = NOSE_IN_OVALS * self._oval_radii[0]
        return rest - bulge * reach * np.sin((pose.turn_rad, pose.nod_rad))

    def _head_share(self, where: np.ndarray) -> np.ndarray:
        """1 in the head, 0 far from it and below the neck: (..., 1)."""
        away = np.hypot(*np.moveaxis((where - self._centre) / (self._oval_radii * HAIR_IN_OVALS), -1, 0))
        neck = (where[..., 1] - self._chin_y) / self._oval_radii[1]  # the collar is half a face below the chin
        share = (1 - smooth_step(away, 1, FADE_IN_HAIRS)) * (1 - smooth_step(neck, 0, 1))
        return share[..., None]
