"""The sandboxed reader: the only door through which untrusted media come in.

`SourceReader` has a source decoded in a child process (``child.py``, PyAV) that holds no file but the source,
has no network and runs under limits on time, memory and output. Frames and sound come back as raw arrays; nothing
that the child sends is executed or unpickled. Whatever a source does to the child ends here as `MediaError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.clock import Span, VideoTimes
from pipeline.media.encode import PixelFormat
from pipeline.media.sandbox import MEDIA_REASONS, Child, MediaError, ReadingLimits

__all__ = ["MEDIA_REASONS", "AudioInfo", "ReadingLimits", "MediaError", "SourceInfo", "SourceReader"]

DEFAULT_LIMITS = ReadingLimits()


@dataclass(frozen=True)
class AudioInfo:
    """The sound track that `SourceReader.audio` reads."""

    codec: str
    sample_rate_hz: int
    channels: int


@dataclass(frozen=True)
class SourceInfo:
    """What a source is. Width and height are those of the upright picture with square pixels, after rotation."""

    width: int
    height: int
    rotation_deg: int
    container: str
    video_codec: str
    pixel_format: str
    average_fps: Fraction
    duration_s: float
    audio: AudioInfo | None


class SourceReader:
    """Frames and sound of one source file, decoded in a sandboxed child process.

    The child starts with the first request and ends with `close`, with the ``with`` block or with this process. One
    request runs at a time: an iterator that is not read to its end is abandoned by the next request.
    Every method raises `MediaError`, with a reason of `MEDIA_REASONS`, if the source does not give what was asked for.
    ``path`` is a regular file on this machine.
    """

    def __init__(self, path: Path, limits: ReadingLimits = DEFAULT_LIMITS) -> None:
        self.path = Path(path)
        self.limits = limits
        self._info: SourceInfo | None = None
        self._times: VideoTimes | None = None
        self._child: Child | None = None
        self._serial = 0  # of the latest request
        self._idle = False

    def __enter__(self) -> SourceReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the child. Another request would start another child."""
        if self._child is not None:
            self._child.stop()
        self._child, self._idle = None, False

    def info(self) -> SourceInfo:
        """What the source is: size, codecs, frame rate, sound. Read once."""
        if self._info is None:
            facts, _ = self._fetch("info")
            try:
                audio = facts.pop("audio")
                fps = Fraction(facts.pop("average_fps"))
                self._info = SourceInfo(**facts, average_fps=fps, audio=AudioInfo(**audio) if audio else None)
            except (KeyError, TypeError, ValueError) as error:
                raise self._nonsense(f"{facts} ({error})") from None
        return self._info

    def frame_times(self) -> VideoTimes:
        """Timestamps of every frame that a decoder shows, on the container's timeline. Read once.

        Read from the packets, without decoding, where the container stores a timestamp for each of them.
        """
        if self._times is None:
            header, pts = self._fetch("frame_times")
            pts.setflags(write=False)
            self._times = VideoTimes(pts, Fraction(header["time_base"]), Fraction(header["origin_s"]))
        return self._times

    def audio(self, span: Span) -> np.ndarray:
        """The sound of a span: float32 (sample,), 44.1 kHz, mean of the channels, within +-1.

        Sample n stands for the source's ``span.start_s + n/44100``, to half a sample. Where the source has no sound
        (before its track, after it, in holes of its timestamps) the samples are 0.
        """
        _, samples = self._fetch("audio", start_s=str(span.start_s), num_samples=span.num_samples)
        return samples

    def frames(self, pts: np.ndarray, size: tuple[int, int] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Whole frames as RGB.

        Parameters
        ----------
        pts : (n,) timestamps from `frame_times`, not falling; a repeated one is repeated.
        size : (width, height) to shrink to by area averaging; None keeps the source's.

        Yields
        ------
        position in ``pts``, uint8 (height, width, 3)
        """
        shape = None if size is None else (size[1], size[0], 3)
        yield from self._pictures("frames", len(pts), shape, pts=_rising(pts), size=size)

    def crops(
        self, pts: np.ndarray, boxes: np.ndarray, size: int, *, pixels: PixelFormat = "rgb24"
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Square crops of frames, resampled to one size.

        Resampled straight from the decoded planes with a triangle filter that widens when it shrinks (Pillow's
        ``BILINEAR`` with a fractional box): smooth under sub-pixel motion, free of aliasing, and in integer
        arithmetic, so the same on every machine. Outside the picture its edge is repeated: black would put a hard
        edge into the crop that moves with the box.

        Parameters
        ----------
        pts : (n,) timestamps from `frame_times`, not falling; a repeated one is repeated.
        boxes : (n, role, 4) squares x1, y1, x2, y2 in pixels of the upright source picture, fractions allowed.
        size : side of the crops in pixels, even.
        pixels : ``yuv420p`` is what `VideoWriter` takes without a conversion.

        Yields
        ------
        position in ``pts``, uint8 (role, size, size, 3), or planes (role, 1.5 size, size) in BT.601 with limited range
        """
        if size < 2 or size % 2:
            raise ValueError(f"{self.path}: expected an even size of the crops, found {size}")
        sane = self._sane(boxes, len(pts))
        picture = (size, size, 3) if pixels == "rgb24" else (size * 3 // 2, size)
        shape = (np.shape(boxes)[1], *picture)
        yield from self._pictures("crops", len(pts), shape, pts=_rising(pts), boxes=sane, size=size, pixels=pixels)

    def _fetch(self, command: str, **arguments: Any) -> tuple[dict[str, Any], np.ndarray]:
        """The one answer to a request; its header without what describes the array."""
        found = list(islice(self._stream(command, **arguments), 2))
        if len(found) != 1:
            raise self._nonsense(f"{len(found)} answers to {command!r}, expected one")
        ((header, array),) = found
        return {key: value for key, value in header.items() if key not in ("dtype", "shape")}, array

    def _pictures(
        self, command: str, count: int, shape: tuple[int, ...] | None, **arguments: Any
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Answers with one picture each: as many as were asked for, in order and in one shape."""
        done = 0
        for header, rgb in self._stream(command, **arguments):
            shape = shape or rgb.shape
            if done == count or header.get("position") != done or (rgb.shape, rgb.dtype) != (shape, np.uint8):
                raise self._nonsense(f"picture {header.get('position')} of {rgb.dtype} {rgb.shape} after {done}")
            yield done, rgb
            done += 1
        if done != count:
            raise self._nonsense(f"{done} pictures, expected {count}")

    def _nonsense(self, found: str) -> MediaError:
        """What no reader of ours says: a source has taken its process over."""
        self.close()
        return MediaError("decoder_crashed", f"{self.path.name}: the reader's process sent {found[:200]}")

    def _stream(self, command: str, **arguments: Any) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        if not self._idle:  # no child yet, or one that is in the midst of an abandoned answer
            self.close()
        child = self._child = self._child or Child(self.path, self.limits)
        self._serial += 1
        serial, self._idle = self._serial, False
        for answer in child.ask({"command": command, **arguments}):
            yield answer
            if self._serial != serial or self._child is not child:
                raise RuntimeError(f"{self.path}: this iterator was abandoned by a later request to its reader")
        self._idle = True

    def _sane(self, boxes: np.ndarray, num_frames: int) -> list[Any]:
        """Boxes as lists, or ValueError for what no caller can mean."""
        array = np.asarray(boxes, dtype=np.float64)
        if array.ndim != 3 or array.shape[0] != num_frames or array.shape[2] != 4:
            raise ValueError(f"{self.path}: expected boxes ({num_frames}, role, 4), found {array.shape}")
        sides, furthest = array[..., 2:] - array[..., :2], 4 * self.limits.max_side_px
        if not (np.isfinite(array).all() and (sides >= 1).all() and (np.abs(array) <= furthest).all()):
            raise ValueError(f"{self.path}: expected boxes of 1 px or more within {furthest} px, found {array}")
        return list(array.tolist())


def _rising(pts: np.ndarray) -> list[int]:
    array = np.asarray(pts)
    if array.ndim != 1 or array.dtype.kind not in "iu" or (np.diff(array) < 0).any():
        raise ValueError(f"expected a row of whole, not falling timestamps, found {array.dtype} {array.shape}")
    return [int(value) for value in array]
