"""Rotations as (pitch, yaw, roll), in the one convention that all fitters of this project write.

Axes: x to the right of the picture, y up, z towards the viewer. Angles in radians about x, y and z, applied in this
order: ``M = Rz Ry Rx`` for column vectors, its transpose for the row vectors of Deep3DFaceRecon (Deng et al., CVPRW
2019), whose ``compute_rotation`` this is. Signs, for a face that looks at the viewer at zero:

* pitch > 0 looks down,
* yaw > 0 turns to the right of the picture (3DDFA_V2 counts the other way),
* roll > 0 lets the line of the eyes rise to the right of the picture.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rotation_matrix(angle: Tensor) -> Tensor:
    """Matrices (..., 3, 3) for column vectors from (pitch, yaw, roll) (..., 3) in radians; row vectors need ``.mT``."""
    (sx, sy, sz), (cx, cy, cz) = angle.sin().unbind(-1), angle.cos().unbind(-1)
    rows = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def angles_of(matrix: Tensor) -> Tensor:
    """(pitch, yaw, roll) (..., 3) in radians of matrices (..., 3, 3) for column vectors; yaw within +-90 degrees."""
    pitch = torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2])
    yaw = torch.asin(-matrix[..., 2, 0].clamp(-1, 1))
    roll = torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0])
    return torch.stack([pitch, yaw, roll], -1)


def small_rotation(axis: Tensor) -> Tensor:
    """Rotations (..., 3, 3) by the vectors ``axis`` (..., 3) in radians, to second order (Cayley's formula)."""
    x, y, z = (axis / 2).unbind(-1)
    zero = torch.zeros_like(x)
    half = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))  # its cross product
    share = 2 / (1 + (axis / 2).square().sum(-1))[..., None, None]
    return torch.eye(3, dtype=axis.dtype, device=axis.device) + share * (half + half @ half)
