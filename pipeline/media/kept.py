"""Pictures as a film stores them, and decoded ones that wait until it is known which crops are to be cut from them.

Where the heads of a clip are is known once faces were looked for in all of it. What was decoded for that look is kept
here meanwhile, so that it need not be decoded again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane

Box = tuple[float, float, float, float]
Cell = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels

BYTE_PLANES = ("yuv420p", "yuvj420p")  # crops are cut from these; other formats are converted first
WHOLE_SHARE = 1 / 3  # 46 frames of 1080p: heads are found within 35
_OUTWARDS = (math.floor, math.floor, math.ceil, math.ceil)


class Stored(NamedTuple):
    """How a film stores its pictures: turned, maybe, and with pixels that need not be square."""

    width: int
    height: int
    turns: int  # counterclockwise quarter turns that bring them upright
    pixel_aspect: Fraction  # width by height of a pixel

    @staticmethod
    def of(frame: VideoFrame, pixel_aspect: Fraction) -> Stored:
        return Stored(frame.width, frame.height, int(round(frame.rotation / 90) % 4), pixel_aspect)

    @property
    def square_size(self) -> tuple[int, int]:
        """Width and height once the pixels are square, not yet upright; the height is kept."""
        return max(round(self.width * self.pixel_aspect), 1), self.height

    def box(self, box: Box) -> Box:
        """A box of the upright picture with square pixels in the coordinates of the stored one."""
        width, height = self.square_size
        x1, y1, x2, y2 = box
        x1, y1, x2, y2 = (
            (x1, y1, x2, y2),
            (width - y2, x1, width - y1, x2),
            (width - x2, height - y2, width - x1, height - y1),
            (y1, height - x2, y2, height - x1),
        )[self.turns]
        stretch = width / self.width
        return x1 / stretch, y1, x2 / stretch, y2


@dataclass(frozen=True)
class Picture:
    """A frame in byte planes from which crops are cut, or what was kept of it."""

    stored: Stored
    format: str
    colours: tuple[int, int]  # colorspace and range, of libav
    cell: Callable[[Cell], list[np.ndarray]]  # the pixels of a cell in each of the three planes
    planar: Callable[[], VideoFrame]  # all of it, until another one is asked for; what was not kept is anything

    @staticmethod
    def of(frame: VideoFrame, stored: Stored) -> Picture:
        planar = as_planes(frame)
        colours = planar.colorspace, planar.color_range
        return Picture(stored, planar.format.name, colours, partial(of_cell, planar), lambda: planar)


class _Parts(NamedTuple):
    """What is kept of one frame."""

    stored: Stored
    cells: list[Cell]  # of the first plane, from even corners on
    pixels: list[list[np.ndarray]]  # of every cell the rows of each plane
    colours: tuple[int, int]
    format: str

    def hold(self, upright: Box, size: int) -> bool:
        """Whether all that a crop of a box to ``size`` reads is here."""
        x1, y1, x2, y2 = self.stored.box(upright)
        reach = 2 * (math.ceil(max((x2 - x1) / size, (y2 - y1) / size, 1)) + 1)  # of the filter, also in half planes
        return self._around(_cell((x1 - reach, y1 - reach, x2 + reach, y2 + reach), self.stored)) is not None

    def cell(self, wanted: Cell) -> list[np.ndarray]:
        """The pixels of a cell that `hold` says is here."""
        place = self._around(wanted)
        assert place is not None
        left, top, _, _ = self.cells[place]
        x1, y1, x2, y2 = wanted
        return _cut(self.pixels[place], (x1 - left, y1 - top, x2 - left, y2 - top))

    def _around(self, wanted: Cell) -> int | None:
        """Which of the cells holds all of another one."""
        x1, y1, x2, y2 = wanted
        is_around = (cell[0] <= x1 and cell[1] <= y1 and x2 <= cell[2] and y2 <= cell[3] for cell in self.cells)
        return next((place for place, here in enumerate(is_around) if here), None)


class KeptFrames:
    """Decoded frames by timestamp: whole ones, and once it is said where crops may lie, those regions of them.

    Those that come first: as many parts as fit into ``limit_bytes``, and whole ones in `WHOLE_SHARE` of it beside them,
    whose memory libav keeps for frames to come.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.regions: Sequence[Box] | None = None  # of the upright picture; set by another thread
        self._limit_bytes = limit_bytes
        self._whole: dict[int, tuple[VideoFrame, Stored]] = {}
        self._parts: dict[int, _Parts] = {}
        self._whole_bytes = self._parts_bytes = 0
        self._canvas: VideoFrame | None = None
        self._painted: _Parts | None = None  # what is on it

    def add(self, time: int, frame: VideoFrame, pixel_aspect: Fraction) -> None:
        """The next frame, if there is room for it."""
        stored, regions = Stored.of(frame, pixel_aspect), self.regions
        if regions is None:
            num_bytes = sum(plane.buffer_size for plane in frame.planes)
            if self._whole_bytes + num_bytes <= WHOLE_SHARE * self._limit_bytes:
                self._whole[time] = frame, stored
                self._whole_bytes += num_bytes
            return
        for waiting in list(self._whole):
            self._add_parts(waiting, *self._whole.pop(waiting), regions)
        self._add_parts(time, frame, stored, regions)

    def _add_parts(self, time: int, frame: VideoFrame, stored: Stored, regions: Sequence[Box]) -> None:
        cells = [_cell(stored.box(region), stored) for region in regions]
        num_bytes = sum((x2 - x1) * (y2 - y1) * 3 // 2 for x1, y1, x2, y2 in cells)
        if self._parts_bytes + num_bytes > self._limit_bytes:
            return
        planar = as_planes(frame)
        pixels = [[part.copy() for part in of_cell(planar, cell)] for cell in cells]
        self._parts[time] = _Parts(stored, cells, pixels, (planar.colorspace, planar.color_range), planar.format.name)
        self._parts_bytes += num_bytes

    def hold(self, time: int, boxes: Sequence[Box], size: int) -> bool:
        """Whether crops of these boxes of the upright picture can be cut from what is kept of a frame."""
        parts = self._parts.get(time)
        return time in self._whole or (parts is not None and all(parts.hold(box, size) for box in boxes))

    def picture(self, time: int) -> Picture:
        """A frame whose pixels are true where `hold` says so."""
        if time in self._whole:
            return Picture.of(*self._whole[time])
        parts = self._parts[time]
        return Picture(parts.stored, parts.format, parts.colours, parts.cell, partial(self._paint, parts))

    def _paint(self, parts: _Parts) -> VideoFrame:
        """Parts at their places in a frame."""
        canvas, (width, height, *_) = self._canvas, parts.stored
        if canvas is None or (canvas.width, canvas.height, canvas.format.name) != (width, height, parts.format):
            canvas = self._canvas = VideoFrame(width, height, parts.format)
        if self._painted is not parts:
            for cell, pixels in zip(parts.cells, parts.pixels, strict=True):
                for place, part in zip(of_cell(canvas, cell), pixels, strict=True):
                    place[:] = part
            self._painted = parts
        return canvas

    def drop(self, time: int) -> None:
        """Forget a frame; the room stays taken."""
        self._whole.pop(time, None)
        self._parts.pop(time, None)


def as_planes(frame: VideoFrame) -> VideoFrame:
    """The frame in a format of `BYTE_PLANES`."""
    return frame if frame.format.name in BYTE_PLANES else frame.reformat(format=BYTE_PLANES[0], threads=1)


def rows_of(plane: VideoPlane) -> np.ndarray:
    """A plane's memory as (row, byte); rows are padded."""
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)


def _cell(box: Box, stored: Stored) -> Cell:
    """The picture's pixels in a box, or those nearest to it, in whole blocks of 2 x 2."""
    x1, y1, x2, y2 = (round_to(edge / 2) * 2 for round_to, edge in zip(_OUTWARDS, box, strict=True))
    width, height = stored.width, stored.height
    left, top = min(max(x1, 0), (width - 1) // 2 * 2), min(max(y1, 0), (height - 1) // 2 * 2)
    return left, top, min(max(x2, 2), width), min(max(y2, 2), height)


def of_cell(planar: VideoFrame, cell: Cell) -> list[np.ndarray]:
    """The pixels of a cell in each of the three planes, in the frame's own memory."""
    return _cut([rows_of(plane) for plane in planar.planes], cell)


def _cut(planes: Sequence[np.ndarray], cell: Cell) -> list[np.ndarray]:
    """The pixels of a cell with even corners in the rows of each of the three planes."""
    x1, y1, x2, y2 = cell
    luma, *chroma = planes
    halves = slice(y1 // 2, (y2 + 1) // 2), slice(x1 // 2, (x2 + 1) // 2)
    return [luma[y1:y2, x1:x2], *(plane[halves] for plane in chroma)]
