"""Stage ``quality``: how good the pictures of both faces are, in numbers that a manifest can ask something of.

Looked at twice a second, inside the outline of FaceMesh in the head's video; of all looks the median counts.

* ``face_px``: height of the face in the source; the head's video may show it enlarged.
* ``sharpness``: variance of the Laplacian, by the variance of the grey levels so that light and contrast do not count:
  Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000, of OpenCV's 3 x 3 Laplacian. Blur,
  a small face and strong coding take it away.
* ``compression``: share of the face that is flat, where a pixel and its 8 neighbours differ by at most 2 grey levels.
  Coding sets faint texture to nothing, and skin becomes wax. A blurred face is flatter too: read it beside sharpness.
* ``exposure`` and ``clipped``: mean grey level, from 0 to 1, and share of the face that is all black or all white.
* ``cpbd``: the no-reference score of Narvekar and Karam (2011), of the whole picture: that of
  `stages.evaluate.metrics.sharpness` for generated heads, so that data and predictions compare.
* ``hand_over_face``: share of looks at which a hand, by MediaPipe Hands (in the wheel, Apache-2.0), covers a twentieth
  of the face or more. Of other things before a face, such as microphones, it says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import frames_in
from pipeline.media.encode import read_video
from pipeline.stage import Reject, Stage, setting
from pipeline.stderr import stderr_muted
from schemas.column import ROLES, Column, both, per_role
from stages.faces.mesh import MESH_POINTS, outline

FLAT_LEVELS = 2  # grey levels among nine pixels
BLACK, WHITE = 5, 250  # grey levels up to and from which nothing is told apart
COVERED = 0.05  # of the face's area
MIN_PALM, MIN_HAND = 0.05, 0.8  # probabilities: so close to the camera palms get little; a mesh of a hand tells then
BLANK = np.zeros((192, 192, 3), np.uint8)  # nothing to see
HAND_MARGIN = 0.25  # of the picture's side, in black all around: palms are looked for that are small in the picture

MEASURES = {
    "face_px": ("px", "height of the {role}'s face in the source"),
    "sharpness": ("1", "variance of the Laplacian in the {role}'s face, by the variance of its grey levels"),
    "compression": ("1", "share of the {role}'s face that is flat, as coding, and blur, leave it"),
    "exposure": ("1", "mean grey level of the {role}'s face: 0 black, 1 white"),
    "clipped": ("1", "share of the {role}'s face that is all black or all white"),
    "cpbd": ("1", "CPBD of the {role}'s pictures (Narvekar and Karam 2011): share of edges that are not blurred"),
    "hand_over_face": ("1", "share of looks at which a hand covers a twentieth of the {role}'s face"),
}


class Quality(Stage):
    """Size, sharpness, compression and exposure of both faces, hands before them, and CPBD."""

    @dataclass(frozen=True)
    class Settings:
        every_s: float = setting(0.5, "time from one look to the next", least=0.01)
        min_face_px: float = setting(0.0, "least face_px of either role")
        min_sharpness: float = setting(0.0, "least sharpness of either role")
        max_compression: float = setting(1.0, "largest compression of either role")
        min_exposure: float = setting(0.0, "least exposure of either role")
        max_exposure: float = setting(1.0, "largest exposure of either role")
        max_clipped: float = setting(1.0, "largest clipped of either role")
        min_cpbd: float = setting(0.0, "least cpbd of either role")
        max_hand_over_face: float = setting(1.0, "largest hand_over_face of either role")

    opt_in = True
    reads = both("{role}_video", "{role}_landmarks", "{role}_landmarks_valid", "{role}_crop_track")
    writes = per_role(
        *(Column(f"{{role}}_{name}", "float32", (), unit, meaning) for name, (unit, meaning) in MEASURES.items())
    )
    rejects = {
        "no_face": "a role has no frame with valid landmarks",
        "poor_picture": "a measure of a role lies below its min_ or above its max_",
    }

    def setup(self, device: str) -> None:
        with stderr_muted():
            from mediapipe.python.solutions.hands import Hands

            Hands(static_image_mode=True, model_complexity=0, min_detection_confidence=0).process(BLANK)  # speaks once
            self._hands = Hands(
                static_image_mode=True,
                model_complexity=0,
                min_detection_confidence=MIN_PALM,
                min_tracking_confidence=MIN_HAND,
            )
            self._hands.process(BLANK)

    def process(self, clip: Clip) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for role in ROLES:
            for name, value in self._measured(clip, role).items():
                self._check(role, name, value)
                found[f"{role}_{name}"] = value
        return found

    def _measured(self, clip: Clip, role: str) -> dict[str, float]:
        seen = np.flatnonzero(clip[f"{role}_landmarks_valid"])
        if not len(seen):
            raise Reject("no_face", f"{role}: no frame has valid landmarks")
        looks = seen[:: max(round(frames_in(self.settings.every_s)), 1)]
        pictures = read_video(clip.path(f"{role}_video"), set(looks.tolist()))
        landmarks, track = clip[f"{role}_landmarks"], clip[f"{role}_crop_track"]
        rows = []
        for frame, rgb in zip(looks, pictures, strict=True):
            points = landmarks[frame, :MESH_POINTS, :2]
            source_px = (track[frame, 2] - track[frame, 0]) / rgb.shape[1]  # of the source in a px of the video
            face = outline(points, rgb.shape[:2])
            size = {"face_px": float(np.ptp(points[:, 1])) * float(source_px)}
            hand = {"hand_over_face": float(self._covered(rgb, face) >= COVERED)}
            rows.append(size | picture_measures(rgb, face) | hand)
        typical: dict[str, Callable[[list[float]], Any]] = {"hand_over_face": np.mean}
        return {name: float(typical.get(name, np.median)([row[name] for row in rows])) for name in MEASURES}

    def _covered(self, rgb: NDArray[np.uint8], face: NDArray[np.bool_]) -> float:
        """Share of the face that lies behind hands."""
        import cv2

        covered = np.zeros_like(face)
        margin_px = round(HAND_MARGIN * rgb.shape[0])
        framed = cv2.copyMakeBorder(rgb, *[margin_px] * 4, cv2.BORDER_CONSTANT)
        for hand in self._hands.process(framed).multi_hand_landmarks or ():
            points = np.array([(point.x, point.y) for point in hand.landmark]) * framed.shape[1::-1] - margin_px
            covered |= outline(points, rgb.shape[:2])
        return float((covered & face).sum() / max(face.sum(), 1))

    def _check(self, role: str, name: str, value: float) -> None:
        low, high = (getattr(self.settings, f"{side}_{name}", None) for side in ("min", "max"))
        if low is not None and value < low:
            raise Reject("poor_picture", f"{role}: {name} {value:.3g}, expected {low:g} or more")
        if high is not None and value > high:
            raise Reject("poor_picture", f"{role}: {name} {value:.3g}, expected {high:g} or less")


def picture_measures(rgb: NDArray[np.uint8], face: NDArray[np.bool_]) -> dict[str, float]:
    """What one picture (height, width, 3) says by itself: sharpness, compression, exposure, clipped and cpbd.

    ``face`` (height, width) is where the face is.
    """
    import cv2

    from stages.evaluate.metrics.sharpness import cpbd_of_picture

    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    skin = grey[face].astype(np.float64)
    if not len(skin):
        return dict.fromkeys(("sharpness", "compression", "exposure", "clipped", "cpbd"), 0.0)
    square = np.ones((3, 3), np.uint8)
    flat = cv2.dilate(grey, square) - cv2.erode(grey, square) <= FLAT_LEVELS
    return {
        "sharpness": float(cv2.Laplacian(grey, cv2.CV_64F)[face].var() / max(skin.var(), 1.0)),
        "compression": float(flat[face].mean()),
        "exposure": float(skin.mean() / 255),
        "clipped": float(((skin <= BLACK) | (skin >= WHITE)).mean()),
        "cpbd": cpbd_of_picture(grey),
    }
