"""A portrait that blinks and speaks: eyelids and lips drawn by moving the photograph's own pixels.

Both are occlusions: an upper lid of the surrounding skin slides over the eye; the lower lip and the jaw slide away
from the upper teeth and bare the dark of the mouth. Everything is drawn at rest; `jobs.demo.head` moves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from jobs.demo.portrait import CHIN, LIP_BOTTOM, LOWER_LIDS, LOWER_LIP, UPPER_LIDS, UPPER_LIP, Portrait

LASHES = 0.17  # height of the upper lashes above the mesh's line of the lid, in eye widths
LASH_LINE = 0.045  # thickness of the lashes of a lowered lid, in eye widths
LASH_DARKNESS = 0.6
MOUTH_DARK = np.array((46, 18, 20), np.float32)  # RGB behind the teeth
DROP = 0.24  # how far the lower lip falls when the mouth is wide open, in mouth widths
JAW_SHARE = 0.6  # of the lip's way that the chin goes along
CORNER_SAG = 0.16  # how far the corners of an unhappy mouth sink, in mouth widths

Box = tuple[slice, slice]  # rows and columns of the panel


@dataclass(frozen=True)
class Expression:
    """What a face does: closure of the lids, opening of the mouth (0: lips meet), sagging of its corners, all 0..1."""

    lids: float = 0.0
    mouth: float = 0.0
    sag: float = 0.0


class Face:
    """A portrait with movable lids and lips. Drawn parts are kept, since expressions come from a small set."""

    def __init__(self, portrait: Portrait) -> None:
        self.portrait = portrait
        self._draw_eyes = lru_cache(maxsize=8)(self._draw_eyes_afresh)
        self._draw_mouth = lru_cache(maxsize=64)(self._draw_mouth_afresh)

    def draw(self, expression: Expression) -> np.ndarray:
        """The panel's picture at rest, uint8 (720, 640, 3)."""
        picture = self.portrait.picture.copy()
        for box, patch in (*self._draw_eyes(expression.lids), self._draw_mouth(expression.mouth, expression.sag)):
            picture[box] = patch
        return picture

    def _draw_eyes_afresh(self, closure: float) -> list[tuple[Box, np.ndarray]]:
        lids = zip(UPPER_LIDS, LOWER_LIDS, strict=True)
        return [_eye(self.portrait, upper, lower, closure) for upper, lower in lids] if closure else []

    def _draw_mouth_afresh(self, opening: float, sag: float) -> tuple[Box, np.ndarray]:
        mouth = _Mouth(self.portrait, sag)
        return mouth.box, mouth.draw(opening)


def _eye(
    portrait: Portrait, upper_lid: tuple[int, ...], lower_lid: tuple[int, ...], closure: float
) -> tuple[Box, np.ndarray]:
    """One eye with its upper lid lowered: skin down to the lid's edge, lashes along it."""
    upper, lower = portrait.line(upper_lid), portrait.line(lower_lid)
    width = np.ptp(upper[:, 0])
    box, x, y = _grid(upper.min(axis=0) - 0.5 * width, lower.max(axis=0) + 0.5 * width)
    top, bottom = _height(upper, x) - LASHES * width, _height(lower, x) + 0.1 * LASHES * width
    along = np.clip(1 - (2 * (x - upper[:, 0].mean()) / (1.2 * width)) ** 4, 0, 1)  # 0 beyond the corners
    open_edge = top + LASHES * width
    edge = top + (LASHES * width + closure * (bottom - open_edge)) * along
    lid = np.clip((y - top) / 4 + 0.5, 0, 1) * np.clip(edge - y + 0.5, 0, 1) * (along > 0)  # a fold above, sharp below
    lashes = LASH_DARKNESS * along * np.exp(-(((y - edge) / (LASH_LINE * width)) ** 2))
    skin = _skin_across(portrait.picture[box], (y > top - 1) & (y < bottom + 2) & (along > 0))
    drawn = _mix(portrait.picture[box], skin, lid) * (1 - lashes[..., None])
    return box, drawn.astype(np.uint8)


def _skin_across(picture: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """The skin around an eye, drawn on across it (Telea's inpainting, smoothed)."""
    mask = cv2.dilate(eye.astype(np.uint8), np.ones((3, 5)))
    return cv2.GaussianBlur(cv2.inpaint(picture, mask, 5, cv2.INPAINT_TELEA), (0, 0), 2.5)


class _Mouth:
    """Mouth, jaw and chin at rest, measured on the pixels of a box around them."""

    def __init__(self, portrait: Portrait, sag: float) -> None:
        upper, lower = portrait.line(UPPER_LIP), portrait.line(LOWER_LIP)
        width = np.ptp(upper[:, 0])
        chin = portrait.points[CHIN]
        self.box, x, y = _grid(upper.min(axis=0) - (0.6 * width, 0.4 * width), upper[-1] + (0.6 * width, 1.4 * width))
        corners = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (width / 3) ** 2) for cx, cy in upper[[0, -1]])
        self._x, self._y = x + 0 * y, y - sag * CORNER_SAG * width * corners
        self._picture, self._width = portrait.picture, width
        self._across = (x - upper[:, 0].mean()) / width  # -0.5 and 0.5 at the corners
        self._upper_y, self._lower_y = _height(upper, x), _height(lower, x)  # inner edges of the lips
        self._lip_bottom_y, self._chin_y = portrait.points[LIP_BOTTOM, 1], chin[1]

    def draw(self, opening: float) -> np.ndarray:
        """The box's pixels with the lower lip fallen, or raised to meet the upper one."""
        drop = opening * DROP * self._width
        fall = drop * np.clip(1 - (2 * self._across) ** 4, 0, None)
        edge = self._upper_y + opening * (self._lower_y - self._upper_y) + fall
        return _mix(self._lower_face(edge, drop), self._inside(), np.clip(edge - self._y + 0.5, 0, 1)).astype(np.uint8)

    def _lower_face(self, edge: np.ndarray, drop: float) -> np.ndarray:
        """Lower lip, jaw and chin moved down: the lip to its new edge, the chin part of the way, the collar not."""
        y, chin_y = self._y - drop, self._chin_y
        chin_way = JAW_SHARE * drop * np.exp(-3 * self._across**2)
        below_lip = smooth_step(y, self._lip_bottom_y, chin_y)
        below_chin = smooth_step(y, chin_y, chin_y + 0.55 * self._width)
        way = (edge - self._lower_y) * (1 - below_lip) + chin_way * below_lip
        return self._pick(self._y - way * (1 - below_chin))

    def _inside(self) -> np.ndarray:
        """Upper face, upper teeth and the dark below them."""
        teeth = self._lower_y - self._upper_y
        dark = smooth_step(self._y, self._upper_y + 0.7 * teeth, self._lower_y + 1)
        return _mix(self._pick(self._y), MOUTH_DARK, dark)

    def _pick(self, y: np.ndarray) -> np.ndarray:
        return cv2.remap(self._picture, self._x, y.astype(np.float32), cv2.INTER_LINEAR)


def _grid(top_left: np.ndarray, bottom_right: np.ndarray) -> tuple[Box, np.ndarray, np.ndarray]:
    """A box of whole pixels with its x (1, width) and y (height, 1)."""
    (x0, y0), (x1, y1) = top_left.astype(int).tolist(), bottom_right.astype(int).tolist()
    x, y = np.arange(x0, x1, dtype=np.float32)[None], np.arange(y0, y1, dtype=np.float32)[:, None]
    return (slice(y0, y1), slice(x0, x1)), x, y


def _height(line: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The y of a line of points at every x; beyond its ends that of the end."""
    return np.interp(x, line[:, 0], line[:, 1]).astype(np.float32)


def smooth_step(value: np.ndarray, start: np.ndarray | float, end: np.ndarray | float) -> np.ndarray:
    """From 0 at start to 1 at end, smooth at both."""
    t = np.clip((value - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def _mix(below: np.ndarray, above: np.ndarray, share: np.ndarray) -> np.ndarray:
    """A colour over another: float32 (y, x, 3)."""
    alpha = share[..., None].astype(np.float32)
    return below * (1 - alpha) + above * alpha
