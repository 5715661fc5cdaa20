"""3DDFA_V2: 62 coefficients of a face from a 120x120 picture, by a MobileNet of half width.

Guo et al., "Towards Fast, Accurate and Stable 3D Dense Face Alignment", ECCV 2020; weights of the authors' repository
(MIT). 62 = pose (3x4, scaled orthographic, row by row), 40 of shape, 10 of expression, after `Tddfa.std` and
`Tddfa.mean`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.morphable.checkpoint import filled, read_checkpoint
from stages.morphable.rotation import angles_of

SIDE_PX = 120
BOX_ENLARGED = 1.58  # side of the crop over the mean side of the face's box
BOX_LOWERED = 0.14  # of the mean side of the face's box
GREY, GREY_RANGE = 127.5, 128.0
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)  # of the 13 separable convolutions of MobileNet (Howard et al., 2017)
BLOCKS = ("dw2_1", "dw2_2", "dw3_1", "dw3_2", "dw4_1", "dw4_2", *(f"dw5_{k}" for k in range(1, 7)), "dw6")
WIDTHS = (16, 32, 64, 64, 128, 128, 256, 256, 256, 256, 256, 256, 512, 512)
OUTPUTS = 62


class _Separable(nn.Module):
    """A depthwise and a pointwise convolution, each with norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
        self.bn_dw = nn.BatchNorm2d(inputs)
        self.conv_sep = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn_dw(self.conv_dw(x)))
        return functional.relu(self.bn_sep(self.conv_sep(x)))


class MobileNet(nn.Module):
    """The network; its parameters carry the names of the published checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        for name, stride, inputs, outputs in zip(BLOCKS, STRIDES, WIDTHS[:-1], WIDTHS[1:], strict=True):
            self.add_module(name, _Separable(inputs, outputs, stride))
        self.fc_param = nn.Linear(WIDTHS[-1], OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        """Whitened coefficients (picture, 62) of BGR pictures (picture, 3, 120, 120), (value - 127.5) / 128."""
        x = functional.relu(self.bn1(self.conv1(x)))
        for name in BLOCKS:
            x = self.get_submodule(name)(x)
        return self.fc_param(x.mean((2, 3)))


class Tddfa:
    """The network with its weights, ``mb05_120x120.pth``, and statistics, ``param_mean_std_62d_120x120.npz``."""

    def __init__(self, checkpoint: Path, statistics: Path, device: str = "cpu") -> None:
        stored = _our_names(read_checkpoint(checkpoint, "state_dict"))
        self.network = filled(MobileNet(), stored, checkpoint).eval().to(device)
        self.device = device
        with np.load(statistics) as arrays:
            self.mean, self.std = (torch.from_numpy(arrays[key]).to(device) for key in ("mean", "std"))

    @torch.inference_mode()
    def whitened(self, rgb: Tensor) -> Tensor:
        """Network outputs (picture, 62) of RGB pictures, uint8 or float 0 to 255, (picture, 3, 120, 120)."""
        bgr = rgb.to(self.device).flip(1).float()
        return self.network((bgr - GREY) / GREY_RANGE)

    def coefficients(self, rgb: Tensor) -> Tensor:
        """Coefficients (picture, 62): 12 of pose, 40 of shape, 10 of expression."""
        return self.whitened(rgb) * self.std + self.mean


def _our_names(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries that the network uses: without ``module.`` and without the head for sparse landmarks."""
    names = {key.removeprefix("module."): value for key, value in stored.items()}
    return {key: value for key, value in names.items() if not key.startswith("fc_lm.")}


def pose_of(coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """The 12 pose coefficients (frame, 12 or more): angle (frame, 3) in radians, trans (frame, 3) in px, y up.

    Pixels are those of the 120x120 crop.
    """
    affine = coefficients[:, :12].unflatten(1, (3, 4))
    first, second = (functional.normalize(affine[:, k, :3], dim=1) for k in (0, 1))
    matrix = torch.stack([first, second, torch.linalg.cross(first, second)], 1)
    return angles_of(matrix), affine[:, :, 3]


def face_boxes(points: Tensor) -> Tensor:
    """Crops (frame, 3) = left, top, side in whole px, from points in the picture (frame, point, 2) around the face.

    The box around the points takes the place of a face detector's.
    """
    low, high = points.amin(1), points.amax(1)
    side = (high - low).mean(1)
    centre = (low + high) / 2 + torch.stack([torch.zeros_like(side), BOX_LOWERED * side], 1)
    crop_side = (BOX_ENLARGED * side).to(torch.int64).to(points.dtype)
    corner = (centre - crop_side[:, None] / 2).round()
    return torch.cat([corner, crop_side[:, None]], 1)


def cut(frame: Tensor, box: Tensor) -> Tensor:
    """The crop, float (3, 120, 120), of a frame uint8 (3, height, width): bilinear, black outside."""
    height, width = frame.shape[-2:]
    left, top, side = box.to(frame.device)
    steps = (torch.arange(SIDE_PX, device=frame.device) + 0.5) / SIDE_PX
    inside = (steps * side - 0.5).clamp(min=0).minimum(side - 1)  # as a resize repeats its border
    grid_x, grid_y = (2 * (left + inside) + 1) / width - 1, (2 * (top + inside) + 1) / height - 1
    grid = torch.stack(torch.meshgrid(grid_x, grid_y, indexing="xy"), -1)
    return functional.grid_sample(frame[None].float(), grid[None].float(), align_corners=False)[0]
