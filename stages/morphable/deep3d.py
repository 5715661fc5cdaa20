"""Deep3DFaceRecon: 257 coefficients of a face from an aligned 224x224 picture, by a ResNet-50 with seven heads.

Deng et al., "Accurate 3D Face Reconstruction with Weakly-Supervised Learning", CVPRW 2019, in the PyTorch version
whose checkpoint the ViCo baseline uses. The published checkpoint (``epoch_20.pth``, a dict with ``net_recon``) loads
as it is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.morphable.basis import FIVE_POINTS, FIVE_POINTS_DM
from stages.morphable.camera import PX_PER_DM, WINDOW_PX
from stages.morphable.checkpoint import filled, read_checkpoint
from stages.morphable.resnet50 import FEATURES, ResNet50

HEADS = (80, 64, 80, 3, 27, 2, 1)  # the last two, (tx, ty) and tz, are one column
COLUMNS = {"identity": 80, "exp": 64, "tex": 80, "angle": 3, "gamma": 27, "trans": 3}


class ReconNet(nn.Module):
    """The network: coefficients (picture, 257) of RGB pictures (picture, 3, 224, 224) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet50()
        self.final_layers = nn.ModuleList(nn.Conv2d(FEATURES, width, 1) for width in HEADS)

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)[..., None, None]  # (picture, 2048, 1, 1)
        return torch.cat([head(features) for head in self.final_layers], 1).flatten(1)


class Deep3D:
    """The network with the weights of a published checkpoint, the user's ``epoch_20.pth``, of it ``net_recon`` alone.

    None leaves the network untrained, for measuring its speed. On a GPU the convolutions may run in half precision.
    """

    def __init__(self, checkpoint: Path | None, device: str = "cpu", half: bool = True) -> None:
        self.network = ReconNet().eval()
        if checkpoint is not None:
            filled(self.network, read_checkpoint(checkpoint, "net_recon"), checkpoint)
        self.device = torch.device(device)
        self.half = half and self.device.type == "cuda"
        self.network.to(self.device, memory_format=torch.channels_last if self.half else torch.contiguous_format)

    @torch.inference_mode()
    def coefficients(self, windows: Tensor) -> Tensor:
        """Coefficients (picture, 257), float32 on the CPU, of RGB windows uint8 (picture, 3, 224, 224)."""
        pictures = windows.to(self.device).float() / 255
        with torch.autocast(self.device.type, torch.float16, enabled=self.half):
            return self.network(pictures).float().cpu()


def five_points(landmarks: Tensor) -> Tensor:
    """The five points (frame, 5, 2) that alignment needs, from MediaPipe's (frame, 478, 2 or 3)."""
    return torch.stack([landmarks[:, list(points), :2].mean(1) for points in FIVE_POINTS], 1)


def crop_of(points: Tensor) -> Tensor:
    """The crop (frame, 3) = (s, tx, ty) that brings five points (frame, 5, 2), y up, to their standard place.

    Scaled-orthographic least squares (POS; Dementhon and Davis, IJCV 1995): two rows of a projection and a translation
    for each frame. In float64, as the published code.
    """
    standard = torch.from_numpy(FIVE_POINTS_DM).to(points.device)
    equations = torch.cat([standard, torch.ones_like(standard[:, :1])], 1)  # (5, 4)
    rows = torch.linalg.pinv(equations) @ points.double()  # (frame, 4, 2)
    scale = rows[:, :3].norm(dim=1).mean(1)
    return torch.cat([(PX_PER_DM / scale)[:, None], rows[:, 3]], 1)


def window(frame: Tensor, crop: Tensor) -> Tensor:
    """The window, uint8 (3, 224, 224), of a frame uint8 (3, height, width): resized by s, then cut at whole pixels.

    Bicubic with a kernel that widens when it shrinks, as Pillow's; black outside of the frame.
    """
    height, width = frame.shape[-2:]
    scale, x, y = crop.tolist()
    size = int(height * scale), int(width * scale)
    resized = functional.interpolate(frame[None].float(), size, mode="bicubic", antialias=True, align_corners=False)[0]
    left = int(size[1] / 2 - WINDOW_PX / 2 + (x - width / 2) * scale)
    top = int(size[0] / 2 - WINDOW_PX / 2 + (height / 2 - y) * scale)
    padding = (-left, left + WINDOW_PX - size[1], -top, top + WINDOW_PX - size[0])  # negative ones cut
    return functional.pad(resized.round().clamp(0, 255).to(torch.uint8), padding)


def columns_of(coefficients: Tensor) -> dict[str, Tensor]:
    """The 257 coefficients by name."""
    return dict(zip(COLUMNS, coefficients.split(list(COLUMNS.values()), 1), strict=True))
