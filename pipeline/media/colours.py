"""Planes of foreign films in the colours of our own files: BT.601 in limited range, as decoders take what is not said.

Exact sums of whole numbers, so the same on every processor, in a sixth of the time that libswscale takes by way of RGB.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

_BT601 = (0.299, 0.114)  # shares of red and blue in luma
_SHARES = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
"""Of matrices of ITU-T H.273 (table 4), as libav numbers them; all others are taken for BT.601."""
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_LIMITED, _FULL = (219, 224), (255, 255)  # steps of luma and of chroma from end to end
_ONE = 1 << 14  # products with bytes stay below 2**24


def in_our_colours(frame: VideoFrame) -> NDArray[np.uint8]:
    """The planes of a yuv420p or yuvj420p frame of even size as (1.5 height, width), see `VideoWriter`."""
    planes = np.asarray(frame.to_ndarray())
    is_full = frame.format.name == "yuvj420p" or frame.color_range == _FULL_RANGE
    shares = _SHARES.get(frame.colorspace, _BT601)
    if shares == _BT601 and not is_full:
        return planes
    by_luma, by_chroma = _weights(shares, is_full)
    height, width = frame.height, frame.width
    ours = np.empty_like(planes)
    blue, red = planes[height:].reshape(2, height // 2, width // 2).astype(np.float32) - np.float32(128)
    added, *differences = (to_blue * blue + to_red * red for to_blue, to_red in by_chroma)
    luma = planes[:height].astype(np.float32).reshape(height // 2, 2, width) * by_luma
    luma += added.repeat(2, axis=1)[:, None]  # a sample of chroma stands for four pixels
    ours[:height] = _whole(luma, 16 if is_full else 0).reshape(height, width)
    ours[height:] = np.concatenate([_whole(each, 128) for each in differences]).reshape(-1, width)
    return ours


def _whole(scaled: NDArray[np.float32], offset: float) -> NDArray[np.float32]:
    """Values between 0 and 255 whose whole parts are those of the planes, from what is `_ONE` times as large."""
    scaled += np.float32(offset * _ONE + _ONE / 2)
    scaled *= np.float32(1 / _ONE)
    return scaled.clip(0, 255, out=scaled)


@cache
def _weights(shares: tuple[float, float], is_full: bool) -> tuple[np.float32, NDArray[np.float32]]:
    """What a step of luma adds to our luma; what one of each difference of colours adds to luma and differences (3, 2).

    In whole parts of `_ONE`, so that sums of their products with bytes are exact in single precision.
    """
    red, blue = shares
    our_red, our_blue = _BT601
    green = 1 - red - blue
    # Red, green and blue of a difference of blue, and of one of red, where luma is 0 and all go from end to end of 1
    of_blue = (0.0, -2 * (1 - blue) * blue / green, 2 * (1 - blue))
    of_red = (2 * (1 - red), -2 * (1 - red) * red / green, 0.0)
    rows = []
    for r, g, b in (of_blue, of_red):
        luma = our_red * r + (1 - our_red - our_blue) * g + our_blue * b
        rows.append((luma, (b - luma) / (2 * (1 - our_blue)), (r - luma) / (2 * (1 - our_red))))
    steps = _FULL if is_full else _LIMITED
    scale = np.array([_LIMITED[0], _LIMITED[1], _LIMITED[1]]) / steps[1] * _ONE
    by_luma = np.float32(round(_LIMITED[0] / steps[0] * _ONE))
    return by_luma, np.rint(np.array(rows) * scale).T.astype(np.float32)
