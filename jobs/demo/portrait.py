"""Four people out of one public-domain face: the photograph, cut into parts and graded anew.

The photograph is ``skimage.data.astronaut()``: NASA's portrait of Eileen Collins (public domain), part of the
scikit-image wheel. MediaPipe FaceMesh says where its eyes, lips and chin are, MediaPipe's selfie segmentation and
GrabCut (Rother et al., SIGGRAPH 2004) what is person and what is wall.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from pipeline.stderr import stderr_muted

PANEL_W_PX, PANEL_H_PX = 640, 720  # one half of a 1280x720 split screen

# Indices into FaceMesh's 468 points, in order along each line.
OVAL: tuple[int, ...] = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152)
OVAL += (148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
BROWS = ((70, 63, 105, 66, 107), (336, 296, 334, 293, 300))
UPPER_LIDS = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (362, 398, 384, 385, 386, 387, 388, 466, 263))
LOWER_LIDS = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (362, 382, 381, 380, 374, 373, 390, 249, 263))
UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)  # its inner edge, corner to corner
LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
EYE_CORNERS = (33, 263)  # the outer ones
CHEEKS, CHIN, LIP_BOTTOM, MOUTH_CORNER = (50, 280), 152, 17, 61

Colours = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Look:
    """How one person differs from the photograph; colours are matrices that mix the photograph's RGB."""

    mirrored: bool
    zoom: float  # panel pixels per photograph pixel
    width: float  # of the head, relative to the photograph
    hair: Colours
    skin: Colours
    clothes: Colours
    wall: tuple[int, int, int]
    head_px: tuple[float, float]  # where the point between the eyes rests in the panel


@dataclass(frozen=True)
class Portrait:
    """A person at rest: the panel's picture, uint8 (720, 640, 3) RGB, and FaceMesh's points on it in px (468, 2)."""

    picture: np.ndarray
    points: np.ndarray

    def line(self, indices: tuple[int, ...]) -> np.ndarray:
        """Points along a line of the mesh, left to right: (point, 2)."""
        points = self.points[list(indices)]
        return points[np.argsort(points[:, 0], kind="stable")]


@dataclass(frozen=True)
class _Photograph:
    """The photograph, its mesh and soft masks (0..1) of its parts."""

    picture: np.ndarray
    points: np.ndarray
    person: np.ndarray
    hair: np.ndarray
    skin: np.ndarray


def make_portrait(look: Look, seed: int) -> Portrait:
    """The photograph as another person before another wall."""
    photo = _photograph()
    parts = ((photo.hair, look.hair), (photo.skin, look.skin), (1 - photo.hair - photo.skin, look.clothes))
    rgb = photo.picture.astype(np.float32)
    graded = np.sum([mask[..., None] * (rgb @ np.asarray(matrix, np.float32).T) for mask, matrix in parts], axis=0)
    affine = _placement(look, photo.points)
    size = (PANEL_W_PX, PANEL_H_PX)
    person = cv2.warpAffine(graded, affine, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(photo.person, affine, size, flags=cv2.INTER_LINEAR)[..., None]
    picture = np.clip(person * alpha + _wall(look.wall, seed) * (1 - alpha), 0, 255).astype(np.uint8)
    return Portrait(picture, photo.points @ affine[:, :2].T + affine[:, 2])


def _placement(look: Look, points: np.ndarray) -> np.ndarray:
    """The affine map from the photograph to the panel, (2, 3)."""
    sx, sy = look.zoom * look.width * (-1 if look.mirrored else 1), look.zoom
    x, y = points[list(EYE_CORNERS)].mean(axis=0)
    return np.array([[sx, 0, look.head_px[0] - sx * x], [0, sy, look.head_px[1] - sy * y]])


def _wall(colour: tuple[int, int, int], seed: int) -> np.ndarray:
    """A room far out of focus: float32 (720, 640, 3)."""
    rng = np.random.default_rng(seed)
    light = np.linspace(1.15, 0.75, PANEL_H_PX, dtype=np.float32)[:, None].repeat(PANEL_W_PX, axis=1)
    for x, y, w, h, gain in rng.uniform((0, 0, 30, 60, 0.7), (PANEL_W_PX, PANEL_H_PX, 150, 300, 1.3), (14, 5)):
        light[int(y) : int(y + h), int(x) : int(x + w)] *= gain
    return cv2.GaussianBlur(light, (0, 0), 18)[..., None] * np.asarray(colour, np.float32)


@cache
def _photograph() -> _Photograph:
    from skimage.data import astronaut

    picture = astronaut()
    points, person = _ask_mediapipe(picture)
    person = _sharpen_mask(picture, person)
    hair = _hair_mask(picture, points, person)
    skin = _skin_mask(points, picture.shape[:2]) * (1 - hair)
    return _Photograph(picture, points, person, hair, skin)


def _ask_mediapipe(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FaceMesh's points in px (468, 2), and a rough mask of the person (height, width)."""
    from mediapipe.python.solutions import face_mesh, selfie_segmentation

    with stderr_muted(), face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1) as mesh:
        marks = mesh.process(picture).multi_face_landmarks[0].landmark
    with stderr_muted(), selfie_segmentation.SelfieSegmentation(model_selection=0) as segmentation:
        mask = segmentation.process(picture).segmentation_mask
    height, width = picture.shape[:2]
    return np.array([(mark.x * width, mark.y * height) for mark in marks]), mask


def _sharpen_mask(picture: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """The person's mask with edges where the picture has them."""
    margin = np.ones((9, 9))
    labels = np.where(rough > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode(rough, margin) > 0.9] = cv2.GC_FGD
    labels[cv2.dilate(rough, margin) < 0.1] = cv2.GC_BGD
    cv2.setRNGSeed(1)  # GrabCut's clustering draws from OpenCV's global generator
    cv2.grabCut(picture, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8) * 255
    soft = cv2.GaussianBlur(cv2.medianBlur(inside, 5), (0, 0), 1).astype(np.float32) / 255
    return np.clip(2 * soft - 1, 0, 1)  # only the inner half of the edge: no rim of the old wall


def _hair_mask(picture: np.ndarray, points: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Where the head has hair: its pixels outside the face that look more like the crown than like a cheek."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    rows = np.arange(len(lab))[:, None]
    brow_y = points[list(sum(BROWS, ())), 1].min()
    head = (person > 0.5) & (rows < points[MOUTH_CORNER, 1]) & (_face_below_brows(points, person.shape) == 0)
    # Between the cheekbones: the bridge of the nose and both cheeks, nothing but skin.
    (left, top), (right, bottom) = points[list(CHEEKS)].mean(axis=0).astype(int) + np.array([[-28, -6], [28, 6]])
    cheek = _strangeness(lab, lab[top:bottom, left:right].reshape(-1, 3))
    crown = _strangeness(lab, lab[head & (rows < brow_y - 12)])
    hair = head / (1 + np.exp(np.clip((crown - cheek) / 2, -30, 30)))
    return cv2.GaussianBlur(hair.astype(np.float32), (0, 0), 1.2)


def _strangeness(lab: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Twice the negative log-likelihood of every pixel under a Gaussian fitted to a sample of colours."""
    centre = np.median(sample, axis=0)
    spread = np.cov((sample - centre).T) + 4 * np.eye(3)
    away = lab - centre
    return np.einsum("yxi,ij,yxj->yx", away, np.linalg.inv(spread), away) + np.log(np.linalg.det(spread))


def _skin_mask(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Face, ears and neck, generously: an ellipse that the collar hides from below."""
    centre, chin = points[list(OVAL)].mean(axis=0), points[CHIN]
    radii = (int(0.62 * np.ptp(points[list(OVAL), 0])), int(chin[1] - centre[1] + 22))
    ellipse = cv2.ellipse(np.zeros(shape, np.uint8), centre.astype(int).tolist(), radii, 0, 0, 360, 255, -1)
    return cv2.GaussianBlur(ellipse, (0, 0), 2).astype(np.float32) / 255


def _face_below_brows(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    oval = points[list(OVAL)].copy()
    oval[:, 1] = np.maximum(oval[:, 1], points[list(sum(BROWS, ())), 1].min() - 2)
    return cv2.erode(cv2.fillPoly(np.zeros(shape, np.uint8), [oval.astype(np.int32)], 1), np.ones((5, 5)))
