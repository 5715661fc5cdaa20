"""From a posed face to the picture: the camera of Deep3DFaceRecon, and its scaled-orthographic neighbour.

Deng et al., "Accurate 3D Face Reconstruction with Weakly-Supervised Learning", CVPRW 2019. A picture is first brought
to a window of 224x224 px by its *crop* (s, tx, ty): scaled by s around (tx, ty), which becomes the window's centre.
In front of that window stands a camera of focal length 1015 px, 10 dm from the origin; *trans* moves the face before
it. Coordinates in pictures have y up: ``y_up = height - 1 - y``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.morphable.rotation import rotation_matrix

FOCAL_PX = 1015.0
CENTRE_PX = 112.0
WINDOW_PX = 224
DISTANCE_DM = 10.0
PX_PER_DM = 102.0  # of the window: the size to which the alignment by five points brings a face


def to_camera(points: Tensor, angle: Tensor, trans: Tensor) -> Tensor:
    """Points (..., point, 3) in dm, turned and moved, seen from the camera: x right, y up, z away from it."""
    posed = points @ rotation_matrix(angle).mT + trans[..., None, :]
    return torch.cat([posed[..., :2], DISTANCE_DM - posed[..., 2:]], -1)


def to_window(points: Tensor, angle: Tensor, trans: Tensor) -> Tensor:
    """Where points (..., point, 3) in dm appear in the window: (..., point, 2) in px, y up."""
    camera = to_camera(points, angle, trans)
    return FOCAL_PX * camera[..., :2] / camera[..., 2:] + CENTRE_PX


@dataclass(frozen=True)
class Placement:
    """Where a face lies in its picture, scaled-orthographic: picture = scale_px * (M v)_xy + origin_px."""

    scale_px: Tensor  # (frame,) px of the picture for a dm
    origin_px: Tensor  # (frame, 2) where the model's origin lies, y up


def crop_and_trans(placement: Placement, seen: Tensor) -> tuple[Tensor, Tensor]:
    """A crop that is fixed for the clip and the translation before the camera, both (frame, 3).

    The crop brings the clip's median placement, over the frames seen (frame,), to the window's usual size and centre;
    all motion is in trans, so that a model which reads the papers' 70 numbers (expression, angle, trans) misses
    nothing. `placement_of` is the inverse.
    """
    scale, origin = placement.scale_px[seen].median(), placement.origin_px[seen].median(0).values
    crop = torch.cat([(PX_PER_DM / scale)[None], origin]).expand(len(placement.scale_px), 3)
    depth = DISTANCE_DM - FOCAL_PX / (crop[:, 0] * placement.scale_px)
    moved = (placement.origin_px - crop[:, 1:]) / placement.scale_px[:, None]
    return crop, torch.cat([moved, depth[:, None]], 1)


def placement_of(crop: Tensor, trans: Tensor) -> Placement:
    """The placement behind a crop and a translation (frame, 3)."""
    scale = FOCAL_PX / ((DISTANCE_DM - trans[:, 2]) * crop[:, 0])
    return Placement(scale, crop[:, 1:] + scale[:, None] * trans[:, :2])
