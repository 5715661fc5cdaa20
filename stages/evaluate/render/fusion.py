"""Foreground-background fusion: a still background under the moving person.

Huang et al., "Perceptual Conversational Head Generation with Regularized Driver and Enhanced Renderer" (PCHG), ACM MM
2022, equations 4 to 7. MediaPipe's selfie segmentation (Apache-2.0, in the mediapipe wheel) stands in for U2Net.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from pipeline.stderr import stderr_muted

MEDIAN_FRAMES = 5
SEAM_PX = 7  # of the Gaussian
FILL_SHRINK = 4  # what lies behind a person is guessed at this fraction of the picture's size
PERSON_REACH_PX = 6  # around the segmented person, where hair still tints the background


class Segmenter:
    """MediaPipe's selfie segmentation."""

    def __init__(self) -> None:
        from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

        with stderr_muted():
            self._network = SelfieSegmentation(model_selection=0)
            self.background(np.zeros((256, 256, 3), np.uint8))  # says what it says once, at the first picture

    def background(self, rgb: np.ndarray) -> np.ndarray:
        """Whether each pixel of a picture (height, width, 3) is background, bool (height, width): equation 4."""
        return self._network.process(np.ascontiguousarray(rgb)).segmentation_mask < 0.5


class Fusion:
    """Pastes a still background into generated pictures, one after the other.

    ``still`` uint8 RGB (height, width, 3) is the reference picture, or `without_person` of it, and ``known`` bool
    (height, width) where it is background: equation 4 of the reference. ``paper`` is the equations and no more.
    """

    def __init__(self, still: np.ndarray, known: np.ndarray, *, paper: bool = False) -> None:
        self._still, self._known, self._paper = still, known, paper
        self._recent: deque[np.ndarray] = deque()
        self._seen = np.zeros(known.shape, np.uint8)  # in how many of the recent frames a pixel was background

    def fuse(self, generated: np.ndarray, background: np.ndarray) -> np.ndarray:
        """The next generated picture, uint8 RGB (height, width, 3), with the still background.

        ``background`` bool (height, width) is where it is background. The median of equation 5 comes two frames late;
        pixels that the person has just reached stay the person's, which the paper does not say: there the background
        lies over an edge of a head that moves, for two frames.
        """
        self._recent.append(background)
        self._seen += background
        if len(self._recent) > MEDIAN_FRAMES:
            self._seen -= self._recent.popleft()
        median = self._seen > len(self._recent) // 2  # eq. 5
        common = (median & self._known if self._paper else median & background & self._known).astype(np.float32)
        mask = cv2.GaussianBlur(common, (SEAM_PX, SEAM_PX), 0)  # eq. 6
        return cv2.blendLinear(generated, self._still, 1 - mask, mask)  # eq. 7


def without_person(picture: np.ndarray, background: np.ndarray) -> np.ndarray:
    """The picture, uint8 RGB (height, width, 3), with its background continued where the person was."""
    size = 2 * PERSON_REACH_PX + 1
    person = cv2.dilate((~background).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    if person.all():
        return picture
    height, width = person.shape
    small = (width // FILL_SHRINK, height // FILL_SHRINK)
    hole = (cv2.resize(person, small, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    filled = cv2.inpaint(cv2.resize(picture, small, interpolation=cv2.INTER_AREA), hole, 3, cv2.INPAINT_TELEA)
    filled = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    blend = cv2.GaussianBlur(person.astype(np.float32), (SEAM_PX, SEAM_PX), 0)[..., None]
    return np.rint((1 - blend) * picture + blend * filled).astype(np.uint8)
