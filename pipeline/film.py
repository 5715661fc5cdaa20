"""A film of other people's making as frames on the 30 fps grid: what image metrics compare.

Read by the sandboxed reader. Of a file at 30 fps every frame comes once; of any other the frame nearest in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.clock import FPS, Span, VideoTimes, map_to_grid
from pipeline.media import SourceReader


class Film:
    """All frames of one video. Use as a ``with`` block; every method raises `MediaError` if the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader = SourceReader(path)

    def __enter__(self) -> Film:
        return self

    def __exit__(self, *exception: object) -> None:
        self._reader.close()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in px."""
        info = self._reader.info()
        return info.width, info.height

    @property
    def num_frames(self) -> int:
        """Frames on the grid."""
        return _span(self._reader.frame_times()).num_frames

    def frames(self) -> Iterator[np.ndarray]:
        """Every frame: RGB uint8 (height, width, 3)."""
        times = self._reader.frame_times()
        for _, rgb in self._reader.frames(map_to_grid(_span(times), times).pts):
            yield rgb


def _span(times: VideoTimes) -> Span:
    """From the first frame to the end of the last, which lasts as long as the others on average."""
    first_s, count = times.time_s(0), len(times.pts)
    shown_s = times.time_s(count - 1) - first_s
    return Span(first_s, first_s + (shown_s * Fraction(count, count - 1) if count > 1 else Fraction(1, FPS)))
