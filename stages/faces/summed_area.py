"""Summed-area tables: the mean of any rectangle of a picture in four look-ups, so that many crops are made at once.

Crow: "Summed-Area Tables for Texture Mapping", SIGGRAPH 1984. Rectangles are cut into the bins of adaptive average
pooling (torch's ``interpolate(mode="area")``), which is how facenet-pytorch resizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class SummedAreas:
    """Frames of one size on a device.

    Parameters
    ----------
    frames : (frame, height, width, 3) uint8.
    device : ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, frames: NDArray[np.uint8], device: str) -> None:
        import cv2
        import torch

        self.height, self.width = frames.shape[1:3]
        tables = np.stack([cv2.integral(frame) for frame in frames])  # (frame, height + 1, width + 1, 3) int32
        self._tables = torch.from_numpy(tables).to(device)
        self._device = device

    def resized(self, height: int, width: int) -> Tensor:
        """All frames, area-averaged, as float32 (frame, 3, height, width)."""
        top, bottom = self._bins(np.array([0]), np.array([self.height]), height)
        left, right = self._bins(np.array([0]), np.array([self.width]), width)
        rows = self._tables.index_select(1, bottom[0]) - self._tables.index_select(1, top[0])
        sums = rows.index_select(2, right[0]) - rows.index_select(2, left[0])  # (frame, height, width, 3)
        return _means(sums, (bottom - top)[0, :, None] * (right - left)[0])

    def crops(self, frames: NDArray[np.int64], boxes: NDArray[np.int64], size_px: int) -> Tensor:
        """Area-averaged crops, float32 (box, 3, size_px, size_px).

        Parameters
        ----------
        frames : (box,) index of the frame that each box lies in.
        boxes : (box, 4) first and last-plus-one pixel x1, y1, x2, y2, inside the frame.
        """
        import torch

        left, right = (bins[:, None, :] for bins in self._bins(boxes[:, 0], boxes[:, 2], size_px))
        top, bottom = (bins[:, :, None] for bins in self._bins(boxes[:, 1], boxes[:, 3], size_px))
        frame, table = torch.from_numpy(frames).to(self._device)[:, None, None], self._tables
        sums = table[frame, bottom, right] - table[frame, top, right]  # (box, size_px, size_px, 3)
        sums += table[frame, top, left] - table[frame, bottom, left]
        return _means(sums, (bottom - top) * (right - left))

    def _bins(self, low: NDArray[np.int64], high: NDArray[np.int64], count: int) -> tuple[Tensor, Tensor]:
        """First and last-plus-one pixel (box, count) of each bin between two edges (box,)."""
        import torch

        length, steps = (high - low)[:, None], np.arange(count)
        first = low[:, None] + steps * length // count
        last = low[:, None] - -(steps + 1) * length // count
        return torch.from_numpy(first).to(self._device), torch.from_numpy(last).to(self._device)


def _means(sums: Tensor, counts: Tensor) -> Tensor:
    return (sums / counts[..., None]).permute(0, 3, 1, 2)  # channels_last in memory
