"""The published image metrics as their authors run them: what ``jobs.bench.metrics`` compares ours with.

The ViCo challenge scores a clip at a time with piq on float32 tensors, and CPBD a frame at a time with a Python loop
over pixels. That structure is kept here, after descriptions of ``compute_base_metrics.py`` and ``compute_cpbd.py`` of
dc3ea9f/vico_challenge_baseline, piq 0.8 and python-cpbd 1.0.7. Nothing here is tuned or vectorised further, on purpose.
The evaluator does not use this file.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

BLOCK_PX, LONGEST_RUN_PX = 64, 100
BETA = 3.6


def clip_tensor(frames: np.ndarray) -> Tensor:
    """float32 (frame, 3, height, width) in [0, 1] of RGB frames, uint8 (frame, height, width, 3)."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def psnr(predicted: Tensor, reference: Tensor) -> Tensor:
    """PSNR of every frame of a clip (frame, 3, height, width) in [0, 1]."""
    error = ((predicted - reference) ** 2).mean(dim=(1, 2, 3))
    return -10 * torch.log10(error + 1e-8)


def ssim(predicted: Tensor, reference: Tensor) -> Tensor:
    """SSIM of every frame of a clip (frame, 3, height, width) in [0, 1], pooled towards 256 px."""
    factor = max(1, round(min(predicted.shape[-2:]) / 256))
    if factor > 1:
        predicted, reference = (functional.avg_pool2d(clip, factor) for clip in (predicted, reference))
    mean = (_windowed(predicted), _windowed(reference))
    variance = tuple(_windowed(clip**2) - m**2 for clip, m in zip((predicted, reference), mean, strict=True))
    covariance = _windowed(predicted * reference) - mean[0] * mean[1]
    structure = (2 * covariance + 0.03**2) / (variance[0] + variance[1] + 0.03**2)
    luminance = (2 * mean[0] * mean[1] + 0.01**2) / (mean[0] ** 2 + mean[1] ** 2 + 0.01**2)
    return (luminance * structure).mean(dim=(-1, -2)).mean(dim=1)


def _windowed(clip: Tensor) -> Tensor:
    place = torch.arange(11, dtype=torch.float32) - 5
    line = torch.exp(-(place**2) / (2 * 1.5**2))
    window = torch.outer(line, line)
    window = (window / window.sum()).expand(clip.shape[1], 1, 11, 11)
    return functional.conv2d(clip, window, groups=clip.shape[1])


def cpbd(grey: np.ndarray) -> float:
    """CPBD of a grey picture, uint8 (height, width)."""
    from skimage.feature import canny

    picture = grey.astype(np.float64)
    edges = canny(picture)
    widths = _edge_widths(picture, _sobel_edges(picture))
    histogram = np.zeros(101)
    for top in range(0, grey.shape[0] - BLOCK_PX + 1, BLOCK_PX):
        for left in range(0, grey.shape[1] - BLOCK_PX + 1, BLOCK_PX):
            block = slice(top, top + BLOCK_PX), slice(left, left + BLOCK_PX)
            if edges[block].sum() > 0.002 * BLOCK_PX**2:
                just_noticeable = 5 if int(np.ptp(picture[block])) <= 50 else 3
                for width in widths[block][widths[block] != 0]:
                    histogram[round(100 * (1 - math.exp(-((width / just_noticeable) ** BETA))))] += 1
    return float(histogram[:64].sum() / histogram.sum()) if histogram.any() else 0.0


def _sobel_edges(picture: np.ndarray) -> np.ndarray:
    from scipy.ndimage import convolve

    kernel = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]]) / 8
    strength = np.square(convolve(picture, kernel))
    strength[strength <= 2 * np.sqrt(strength.mean())] = 0
    framed = np.pad(strength, 1)
    highest = [
        (strength > framed[1:-1, :-2]) & (strength > framed[1:-1, 2:]),
        (strength > framed[:-2, 1:-1]) & (strength > framed[2:, 1:-1]),
    ]
    return highest[0] | highest[1]


def _edge_widths(picture: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Widths (height, width) in px, 0 where there is no edge with a horizontal gradient."""
    down, across = np.gradient(picture)
    height, width = picture.shape
    angles = np.zeros(picture.shape)
    for y in range(height):
        for x in range(width):
            if across[y, x] != 0:
                angles[y, x] = math.degrees(math.atan2(down[y, x], across[y, x]))
    widths = np.zeros(picture.shape)
    if not angles.any():
        return widths
    directions = {0: 1, 180: -1, -180: -1}
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if edges[y, x] and (rising := directions.get(45 * round(angles[y, x] / 45))):
                row = rising * picture[y]
                widths[y, x] = _steps(row, x, -1) + _steps(row, x, 1)
    return widths


def _steps(row: np.ndarray, x: int, way: int) -> int:
    """Pixels from x on that fall to the left (way -1) or rise to the right (way 1), the first one in any case."""
    for step in range(LONGEST_RUN_PX + 1):
        inner, outer = x + way * (1 + step), x + way * (2 + step)
        if not 0 <= outer < len(row) or way * (row[outer] - row[inner]) <= 0:
            break
    return step + 1
