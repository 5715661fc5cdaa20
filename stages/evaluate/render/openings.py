"""Eyes and mouth: what shows through the three holes of the mesh, and lids that close.

Eyeballs and teeth do not stretch with the lids and lips before them. They come from a second picture, `inside`, in
which the reference's eyeballs and mouth are continued behind lids and lips, and which moves with the head: eyeballs
also with the gaze, teeth as part of the skull. Where the reference's mouth is shut, teeth and darkness are painted.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.evaluate.render.face_mesh import EYES, LEFT_EYE, MOUTH, RIGHT_EYE, Eye, Slit

SHUT_ASPECT, OPEN_ASPECT = 0.025, 0.055  # height by width: shut up to the one, as fitted from the other on
BEHIND_SHARE = 0.35  # of an opening's width, by which `inside` reaches beyond it
TEETH_SHARE = 0.12  # of the mouth's width, from the meeting lips down to the upper teeth's edge
TOOTH_SHARE = 0.13  # of the mouth's width
CAVITY = np.array([70, 24, 24], np.float32)  # RGB of an open mouth's dark on a face of full brightness
TEETH = np.array([240, 218, 202], np.float32)
SHOWN_ASPECT = 0.2  # of a mouth whose inside is taken from the reference alone; none of it at half of that
LIP_SHADOW, LIP_SHADOW_SHARE = 0.5, 0.06  # of the light that lips keep from what is behind them, reach in mouth widths
SKULL = (33, 263, 2)  # outer corners of the eyes and the foot of the nose: they move with the upper teeth
FRACTION_BITS = 4  # of a pixel, in which OpenCV takes polygons


def shut(points: np.ndarray, closed: float) -> np.ndarray:
    """The mesh (478, 3) with openings shut that are all but shut: upper lids meet the lower ones, lips one another.

    Parameters
    ----------
    closed : 0 leaves the eyes as the expression has them, 1 closes both.
    """
    moved = points.copy()
    for slit, share in ((RIGHT_EYE, 1 - closed), (LEFT_EYE, 1 - closed), (MOUTH, 1.0)):
        upper, lower = list(slit.upper), list(slit.lower)
        open_share = share * np.clip((aspect(points, slit) - SHUT_ASPECT) / (OPEN_ASPECT - SHUT_ASPECT), 0, 1)
        meeting = (points[upper] + points[lower]) / 2 if slit is MOUTH else points[lower]
        moved[upper] = meeting + open_share * (points[upper] - meeting)
        moved[lower] = meeting + open_share * (points[lower] - meeting)
    return moved


def aspect(points: np.ndarray, slit: Slit) -> float:
    """Height by width of an opening in the picture plane; negative where its edges have passed each other."""
    down = _down(points, slit)
    height = ((points[list(slit.lower), :2] - points[list(slit.upper), :2]) @ down)[1:-1].mean()
    return float(height / _width_px(points, slit))


class Openings:
    """The holes of one reference picture: uint8 RGB (side, side, 3) and its mesh (478, 3)."""

    def __init__(self, picture: np.ndarray, points: np.ndarray) -> None:
        self._points = points
        self._inside = picture.copy()
        for eye in EYES:
            self._continue(picture, eye)
        self._paint_mouth(picture)

    def draw(self, face: np.ndarray, points: np.ndarray) -> np.ndarray:
        """A face (side, side, 3), warped by the mesh, with the holes of the mesh at (478, 3) filled."""
        side_px = len(face)
        drawn = face.astype(np.float32)
        for slit in (*EYES, MOUTH):
            (left, top), (right, bottom) = _box(points, slit, side_px)
            if right - left < 2 or bottom - top < 2:
                continue
            cut = np.s_[top:bottom, left:right]
            mask = _mask(points, slit, (left, top, right, bottom))[..., None]
            behind = self._behind(slit, points, (left, top, right, bottom))
            if slit is MOUTH:
                behind *= _lip_shadow(mask, LIP_SHADOW_SHARE * _width_px(points, slit))
            drawn[cut] += mask * (behind - drawn[cut])
        return np.clip(np.rint(drawn), 0, 255).astype(np.uint8)

    def _behind(self, slit: Slit, points: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        """The part of `inside` that lies behind an opening, float32 (height, width, 3)."""
        left, top, right, bottom = box
        if isinstance(slit, Eye):
            anchors = [slit.upper[0], slit.upper[-1]]
            back = _similarity(points[anchors, :2], self._points[anchors, :2])  # (2, 3), from the new to the old picture
            back[:, 2] += self._points[slit.iris, :2] - (back[:, :2] @ points[slit.iris, :2] + back[:, 2])
        else:
            skull = list(SKULL)
            back = cv2.getAffineTransform(points[skull, :2].astype(np.float32), self._points[skull, :2].astype(np.float32))
        shifted = back.copy()
        shifted[:, 2] += back[:, :2] @ np.array([left, top], float)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (right - left, bottom - top)
        return cv2.warpAffine(self._inside, shifted, size, flags=flags, borderMode=cv2.BORDER_REPLICATE).astype(
            np.float32
        )

    def _continue(self, picture: np.ndarray, slit: Slit) -> None:
        """Continue what shows in an opening behind its edges."""
        reach_px = BEHIND_SHARE * _width_px(self._points, slit)
        (left, top), (right, bottom) = _box(self._points, slit, len(picture), 2 * reach_px)
        shown = (_mask(self._points, slit, (left, top, right, bottom)) > 0.9).astype(np.uint8)
        size = 2 * int(reach_px) + 1
        around = cv2.dilate(shown, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))) - shown
        cut = np.s_[top:bottom, left:right]
        self._inside[cut] = cv2.inpaint(np.ascontiguousarray(picture[cut]), around, 2, cv2.INPAINT_TELEA)

    def _paint_mouth(self, picture: np.ndarray) -> None:
        """Teeth and darkness around what the reference shows of them."""
        points, width_px = self._points, _width_px(self._points, MOUTH)
        box = _box(points, MOUTH, len(picture), width_px / 2)
        (left, top), (right, bottom) = box
        y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
        down = _down(points, MOUTH)
        middle = points[list(MOUTH.upper), :2].mean(0)
        along = np.abs((x - middle[0]) * down[1] - (y - middle[1]) * down[0]) / (width_px / 2)
        below = ((x - middle[0]) * down[0] + (y - middle[1]) * down[1]) / width_px
        light = np.quantile(picture[_skin(points, len(picture))].max(-1), 0.9) / 255
        tooth = np.clip((TEETH_SHARE - below) / 0.03, 0, 1) * np.clip(1.6 - along, 0, 1)
        tooth *= 1 - 0.15 * np.abs(np.cos(np.pi / 2 * along / TOOTH_SHARE)) ** 16  # darker between two of them
        painted = light * (CAVITY + tooth[..., None] * (TEETH - CAVITY))
        cut = np.s_[top:bottom, left:right]
        shown = _mask(points, MOUTH, (left, top, right, bottom))
        shown = cv2.GaussianBlur(cv2.erode(shown, np.ones((3, 3))), (3, 3), 0)[..., None]
        shown *= np.clip(2 * aspect(points, MOUTH) / SHOWN_ASPECT - 1, 0, 1)
        self._inside[cut] = np.clip(painted + shown * (picture[cut] - painted), 0, 255).astype(np.uint8)


def _skin(points: np.ndarray, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels under the mesh's points that lie in the picture, as an index."""
    x, y = points[:468, :2].round().astype(int).T
    inside = (x >= 0) & (x < side_px) & (y >= 0) & (y < side_px)
    return y[inside], x[inside]


def _polygon(points: np.ndarray, slit: Slit) -> np.ndarray:
    """The opening's contour (corner, 2); where its edges have passed each other they meet half-way."""
    upper, lower = points[list(slit.upper), :2], points[list(slit.lower), :2]
    passed = ((lower - upper) @ _down(points, slit) <= 0)[:, None]
    middle = (upper + lower) / 2
    upper, lower = np.where(passed, middle, upper), np.where(passed, middle, lower)
    return np.concatenate([upper, lower[-2:0:-1]])


def _mask(points: np.ndarray, slit: Slit, box: tuple[int, int, int, int]) -> np.ndarray:
    """How much of each pixel of a box lies in the opening, float32 (height, width), 0 to 1."""
    left, top, right, bottom = box
    mask = np.zeros((bottom - top, right - left), np.uint8)
    corners = (_polygon(points, slit) - [left, top]) * 2**FRACTION_BITS
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 255, cv2.LINE_AA, FRACTION_BITS)
    return cv2.GaussianBlur(mask, (3, 3), 0).astype(np.float32) / 255


def _box(points: np.ndarray, slit: Slit, side_px: int, margin_px: float = 2) -> np.ndarray:
    """Left, top and right, bottom of an opening in whole px, inside the picture."""
    polygon = _polygon(points, slit)
    low, high = np.floor(polygon.min(0) - margin_px), np.ceil(polygon.max(0) + margin_px) + 1
    return np.stack([low, high]).clip(0, side_px).astype(int)


def _lip_shadow(mask: np.ndarray, reach_px: float) -> np.ndarray:
    """How much light comes past the lips, (height, width, 1), from a mask of the opening."""
    return 1 - LIP_SHADOW * (1 - cv2.GaussianBlur(mask, (0, 0), reach_px)[..., None])


def _down(points: np.ndarray, slit: Slit) -> np.ndarray:
    """The direction (2,) in the picture from the upper towards the lower edge, upright to the line of the corners."""
    along = points[slit.upper[-1], :2] - points[slit.upper[0], :2]
    across = np.array([-along[1], along[0]]) / np.linalg.norm(along)
    return across if across[1] >= 0 else -across


def _width_px(points: np.ndarray, slit: Slit) -> float:
    return float(np.linalg.norm(points[slit.upper[-1], :2] - points[slit.upper[0], :2]))


def _similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Turn, scale and shift (2, 3) that take two points (2, 2) to two others."""
    (ax, ay), (bx, by) = source[1] - source[0], target[1] - target[0]
    length = ax**2 + ay**2
    cosine, sine = (ax * bx + ay * by) / length, (ax * by - ay * bx) / length
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.concatenate([turn, (target.mean(0) - turn @ source.mean(0))[:, None]], 1)
