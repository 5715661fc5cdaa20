"""Lids and lips: openings that shut for good, and the skin that comes with an edge that moves.

FaceMesh leaves a slit where eyes or lips are shut, and a lid that closes is no lid that stretches: skin from above the
crease unrolls and the lashes stay at its edge.
"""

from __future__ import annotations

import numpy as np

from stages.evaluate.render.face_mesh import EYES, LEFT_EYE, MOUTH, RIGHT_EYE, Slit

SHUT_ASPECT, OPEN_ASPECT = 0.025, 0.055  # height by width: shut up to the one, as fitted from the other on
LONGEST_LID = 1.8  # heights of the lid in the reference, up to which skin unrolls: the brow is not far
LIP_EDGE_SHARE = 0.06  # of the mouth's width, by which the mesh's lips reach into the teeth


def shut(points: np.ndarray, closed: float) -> np.ndarray:
    """The mesh (478, 3) with openings shut that are all but shut: upper lids meet the lower ones, lips one another.

    ``closed`` 0 leaves the eyes as the expression has them, 1 closes both.
    """
    moved = points.copy()
    for slit, share in ((RIGHT_EYE, 1 - closed), (LEFT_EYE, 1 - closed), (MOUTH, 1.0)):
        upper, lower = list(slit.upper), list(slit.lower)
        open_share = share * np.clip((aspect(points, slit) - SHUT_ASPECT) / (OPEN_ASPECT - SHUT_ASPECT), 0, 1)
        meeting = (points[upper] + points[lower]) / 2 if slit is MOUTH else points[lower]
        moved[upper] = meeting + open_share * (points[upper] - meeting)
        moved[lower] = meeting + open_share * (points[lower] - meeting)
    return moved


def unrolled(reference: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where the mesh's points take their texture from when it lies at ``points``: (478, 2) in the reference.

    Everywhere their own places, but for two: the creases above lids that have become longer reach up so far that the
    lid is not stretched, and lips that close leave out what the mesh takes for lip and is tooth.
    """
    source = reference[:, :2].copy()
    for eye in EYES:
        edge, crease = list(eye.upper[1:-1]), list(eye.crease)
        was, is_now = (np.linalg.norm(p[crease, :2] - p[edge, :2], axis=1) for p in (reference, points))
        longer = is_now / was * width_px(reference, eye) / width_px(points, eye)
        source[crease] = source[edge] + (source[crease] - source[edge]) * np.clip(longer, 1, LONGEST_LID)[:, None]
    closing = np.clip(1 - aspect(points, MOUTH) / max(aspect(reference, MOUTH), OPEN_ASPECT), 0, 1)
    into_lip = LIP_EDGE_SHARE * closing * width_px(reference, MOUTH) * down(reference, MOUTH)
    source[list(MOUTH.upper[1:-1])] -= into_lip
    source[list(MOUTH.lower[1:-1])] += into_lip
    return source


def aspect(points: np.ndarray, slit: Slit) -> float:
    """Height by width of an opening in the picture plane; negative where its edges have passed each other."""
    height = ((points[list(slit.lower), :2] - points[list(slit.upper), :2]) @ down(points, slit))[1:-1].mean()
    return float(height / width_px(points, slit))


def down(points: np.ndarray, slit: Slit) -> np.ndarray:
    """The direction (2,) in the picture from the upper towards the lower edge, upright to the line of the corners."""
    along = points[slit.upper[-1], :2] - points[slit.upper[0], :2]
    across = np.array([-along[1], along[0]]) / np.linalg.norm(along)
    return across if across[1] >= 0 else -across


def width_px(points: np.ndarray, slit: Slit) -> float:
    """Distance of an opening's corners in the picture."""
    return float(np.linalg.norm(points[slit.upper[-1], :2] - points[slit.upper[0], :2]))
