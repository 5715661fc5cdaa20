"""The convolution of the Inception family: without bias, with batch norm and ReLU; and bilinear resizing."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

Kernel = int | tuple[int, int]
NORM_EPS = 1e-3  # TensorFlow's, where the weights were learnt


class NormedConvolution(nn.Module):
    """Convolution, norm and ReLU; with stride 1 it keeps height and width unless ``padded`` is False."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if padded and stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)))


def resized(frames: Tensor, side_px: int) -> Tensor:
    """Frames (frame, 3, height, width) at (frame, 3, side, side): bilinear, without smoothing before shrinking."""
    return functional.interpolate(frames, (side_px, side_px), mode="bilinear", align_corners=False)
