"""Eyes and mouth: what shows through the three holes of the mesh.

Eyeballs and teeth do not stretch with the lids and lips before them. They come from a second picture, `inside`, in
which the reference's eyeballs and mouth are continued behind lids and lips, and which moves with the head: eyeballs
also with the gaze, teeth as part of the skull. Where the reference's mouth is shut, teeth and darkness are painted.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from stages.evaluate.render.face_mesh import EYES, LEFT_EYE, MOUTH, RIGHT_EYE, Eye, Rigid, Slit
from stages.evaluate.render.lids import aspect, down, width_px

BEHIND_SHARE = 0.35  # of an eye's width, by which `inside` reaches beyond its opening
TEETH_FORWARD = 0.4  # of the mouth's width, from its corners to the teeth: 2 cm
NUM_SKIN = 468  # points before those of the irises
FRACTION_BITS = 4  # of a pixel, in which OpenCV takes polygons

# A painted mouth, in shares of its width from the line where the lips meet, and RGB in full light
TEETH_REACH, TEETH_SOFT = 0.12, 0.03  # down to the upper teeth's edge, and how soft it is
TOOTH_WIDTH, GAP_DARKNESS = 0.13, 0.15
CAVITY = np.array([70, 24, 24], np.float32)
TEETH = np.array([255, 246, 240], np.float32)  # those that people of our footage show are as light as their bright skin
SHOWN_ASPECT = 0.12  # of a mouth whose inside is all the reference's; at half of that it is all painted
LIP_SHADOW, LIP_SHADOW_REACH = 0.3, 0.06  # light that the lips keep from what lies behind, near them


class _Box(NamedTuple):
    """Whole pixels of a picture around an opening."""

    left: int
    top: int
    right: int
    bottom: int

    @staticmethod
    def around(polygon: np.ndarray, margin_px: float, side_px: int) -> _Box:
        low, high = np.floor(polygon.min(0) - margin_px), np.ceil(polygon.max(0) + margin_px) + 1
        return _Box(*np.concatenate([low, high]).clip(0, side_px).astype(int).tolist())

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), 0 where it lies outside of the picture."""
        return max(self.right - self.left, 0), max(self.bottom - self.top, 0)

    @property
    def pixels(self) -> tuple[slice, slice]:
        return np.s_[self.top : self.bottom, self.left : self.right]


class Openings:
    """The holes of one reference picture: uint8 RGB (side, side, 3) and its mesh (478, 3)."""

    def __init__(self, picture: np.ndarray, points: np.ndarray) -> None:
        self._points, self._teeth = points, _teeth_plane(points)
        self._inside = picture.copy()
        for eye in EYES:
            _continue_eyeball(self._inside, points, eye)
        _fill_mouth(self._inside, points)

    def draw(self, face: np.ndarray, points: np.ndarray, moved: Rigid) -> np.ndarray:
        """A face (side, side, 3), warped by the mesh, with the holes of the mesh at (478, 3) filled.

        ``moved`` is how the skull got here from the reference.
        """
        drawn = face.copy()
        for slit in (*EYES, MOUTH):
            polygon = _polygon(points, slit)
            box = _Box.around(polygon, 2, len(face))
            if min(box.size) == 0:
                continue
            mask = _mask(polygon, box)
            behind = self._behind(slit, points, moved, box)
            if slit is MOUTH:
                light = cv2.GaussianBlur(mask, (0, 0), LIP_SHADOW_REACH * width_px(points, slit))
                behind *= 1 - LIP_SHADOW * (1 - light[..., None])
            front = drawn[box.pixels]
            front[...] = np.clip(np.rint(front + mask[..., None] * (behind - front)), 0, 255).astype(np.uint8)
        return drawn

    def _behind(self, slit: Slit, points: np.ndarray, moved: Rigid, box: _Box) -> np.ndarray:
        """The part of `inside` that lies behind an opening, float32 (height, width, 3)."""
        back = self._eyeball(slit, points) if isinstance(slit, Eye) else self._skull(moved)
        back[:, 2] += back[:, :2] @ np.array([box.left, box.top], float)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        behind = cv2.warpAffine(self._inside, back, box.size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return behind.astype(np.float32)

    def _eyeball(self, eye: Eye, points: np.ndarray) -> np.ndarray:
        """The way back (2, 3) to the reference for an eye's inside: as its corners moved, shifted by the gaze."""
        corners = [eye.upper[0], eye.upper[-1]]
        back = _similarity(points[corners, :2], self._points[corners, :2])
        back[:, 2] = self._points[eye.iris, :2] - back[:, :2] @ points[eye.iris, :2]
        return back

    def _skull(self, moved: Rigid) -> np.ndarray:
        """The way back (2, 3) to the reference for the mouth's inside: the plane of the teeth goes with the skull."""
        here, there = (plane[:, :2].astype(np.float32) for plane in (moved(self._teeth), self._teeth))
        return cv2.getAffineTransform(here, there)


def _teeth_plane(points: np.ndarray) -> np.ndarray:
    """Three points (3, 3) of the plane through the front teeth, upright as the face of the mesh (478, 3) is."""
    right, left = points[MOUTH.upper[0]], points[MOUTH.upper[-1]]
    eyes = (points[RIGHT_EYE.upper[0]] + points[LEFT_EYE.upper[0]]) / 2
    out = np.cross(left - right, eyes - (left + right) / 2)
    out *= np.sign(out[2]) / np.linalg.norm(out)
    return np.stack([right, left, eyes]) + TEETH_FORWARD * width_px(points, MOUTH) * out


def _continue_eyeball(inside: np.ndarray, points: np.ndarray, eye: Eye) -> None:
    reach_px = BEHIND_SHARE * width_px(points, eye)
    polygon = _polygon(points, eye)
    box = _Box.around(polygon, 2 * reach_px, len(inside))
    if min(box.size) == 0:
        return
    shown = (_mask(polygon, box) > 0.9).astype(np.uint8)
    size = 2 * int(reach_px) + 1
    around = cv2.dilate(shown, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))) - shown
    part = np.ascontiguousarray(inside[box.pixels])
    inside[box.pixels] = cv2.inpaint(part, around, 2, cv2.INPAINT_TELEA)


def _fill_mouth(inside: np.ndarray, points: np.ndarray) -> None:
    """Teeth and darkness behind the lips, around what the reference shows of them."""
    wide_px, polygon = width_px(points, MOUTH), _polygon(points, MOUTH)
    box = _Box.around(polygon, wide_px / 2, len(inside))
    if min(box.size) == 0:
        return
    y, x = np.mgrid[box.pixels].astype(np.float32)
    below_x, below_y = down(points, MOUTH)
    middle_x, middle_y = points[list(MOUTH.upper), :2].mean(0)
    along = np.abs((x - middle_x) * below_y - (y - middle_y) * below_x) / wide_px
    below = ((x - middle_x) * below_x + (y - middle_y) * below_y) / wide_px
    tooth = np.clip((TEETH_REACH - below) / TEETH_SOFT, 0, 1) * np.clip(1.6 - 2 * along, 0, 1)
    tooth *= 1 - GAP_DARKNESS * np.abs(np.cos(np.pi * along / TOOTH_WIDTH)) ** 16
    light = _light(inside, points)
    painted = light * (CAVITY + tooth[..., None] * (TEETH - CAVITY))
    shown = cv2.GaussianBlur(cv2.erode(_mask(polygon, box), np.ones((3, 3))), (3, 3), 0)[..., None]
    shown = shown * np.clip(2 * aspect(points, MOUTH) / SHOWN_ASPECT - 1, 0, 1)
    inside[box.pixels] = np.clip(painted + shown * (inside[box.pixels] - painted), 0, 255).astype(np.uint8)


def _light(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The light on the face, RGB (3,), 1 = full: as bright as bright skin, and half as coloured as skin is."""
    x, y = points[:NUM_SKIN, :2].round().astype(int).clip(0, len(picture) - 1).T
    skin = np.quantile(picture[y, x], 0.9, axis=0)
    return skin.max() / 255 * np.sqrt(skin / skin.max(initial=1))


def _polygon(points: np.ndarray, slit: Slit) -> np.ndarray:
    """The opening's contour (corner, 2); where its edges have passed each other they meet half-way."""
    upper, lower = points[list(slit.upper), :2], points[list(slit.lower), :2]
    passed = ((lower - upper) @ down(points, slit) <= 0)[:, None]
    middle = (upper + lower) / 2
    upper, lower = np.where(passed, middle, upper), np.where(passed, middle, lower)
    return np.concatenate([upper, lower[-2:0:-1]])


def _mask(polygon: np.ndarray, box: _Box) -> np.ndarray:
    """How much of each pixel of a box lies in a polygon, float32 (height, width), 0 to 1."""
    mask = np.zeros(box.size[::-1], np.uint8)
    if np.ptp(polygon, axis=0).min() > 0 and cv2.contourArea(polygon.astype(np.float32)) > 1:
        corners = (polygon - [box.left, box.top]) * 2**FRACTION_BITS
        cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 255, cv2.LINE_AA, FRACTION_BITS)
    return cv2.GaussianBlur(mask, (3, 3), 0).astype(np.float32) / 255


def _similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Turn, scale and shift (2, 3) that take two points (2, 2) to two others."""
    (ax, ay), (bx, by) = source[1] - source[0], target[1] - target[0]
    length = ax**2 + ay**2
    cosine, sine = (ax * bx + ay * by) / length, (ax * by - ay * bx) / length
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.concatenate([turn, (target.mean(0) - turn @ source.mean(0))[:, None]], 1)
