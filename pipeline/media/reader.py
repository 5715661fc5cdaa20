"""The sandboxed reader: the only door through which untrusted media come in.

`SourceReader` has a source decoded in a child process (``child.py``, PyAV) that holds no file but the source,
has no network and runs under limits on time, memory and output. Frames and sound come back as raw arrays; nothing
that the child sends is executed or unpickled. Whatever a source does to the child ends here as `MediaError`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.clock import Span, VideoTimes
from pipeline.media.encode import PixelFormat
from pipeline.media.sandbox import CPU, DAMAGES, MEDIA_REASONS, Answer, Child, KilledError, MediaError, ReadingLimits

__all__ = ["DAMAGES", "MEDIA_REASONS", "AudioInfo", "ReadingLimits", "MediaError", "SourceInfo", "SourceReader"]

Size = tuple[int, int]  # width and height

DEFAULT_LIMITS = ReadingLimits()
MOST_KILLS = 3  # of the child in one request, after which its source is taken for the cause


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
    ``path`` is a regular file on this machine, ``decoder`` `CPU` or `NVDEC`: where there is no GPU that can decode
    the film it is decoded on the CPU, to the same bytes, and stderr says so once.
    """

    def __init__(self, path: Path, limits: ReadingLimits = DEFAULT_LIMITS, decoder: str = CPU) -> None:
        self.path = Path(path)
        self.limits = limits
        self.decoder = decoder
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

    def times_around(self, span: Span) -> tuple[VideoTimes, np.ndarray]:
        """Timestamps of the frames around a span, and which of them (frame,) are keyframes, for films of hours.

        From the keyframe at or before the span's start to the one after its end, read without the rest of the file;
        indices into these times count from there. Where packets do not tell keyframes, none is one.
        """
        header, found = self._fetch("times_around", start_s=str(span.start_s), end_s=str(span.end_s))
        if found.ndim != 2 or len(found) != 2 or not found.size:
            raise self._nonsense(f"{found.dtype} {found.shape} for the times of frames")
        times = VideoTimes(found[0], Fraction(header["time_base"]), Fraction(header["origin_s"]))
        return times, found[1].astype(bool)

    def audio_length(self) -> tuple[int, float]:
        """Channels of the sound track and its duration in seconds, also of a file without a picture."""
        facts, _ = self._fetch("audio_info")
        try:
            return int(facts["channels"]), float(facts["duration_s"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._nonsense(f"{facts} ({error})") from None

    def audio(self, span: Span, *, exact: bool = True, channel: int | None = None) -> np.ndarray:
        """The sound of a span: float32 (sample,), 44.1 kHz, a channel or the mean of all, within +-1.

        Sample n stands for the source's ``span.start_s + n/44100``, to half a sample. Where the source has no sound
        (before its track, after it, in holes of its timestamps) the samples are 0. Not ``exact`` is to the clock of the
        container, a millisecond in Matroska, whose sound is otherwise counted from the film's beginning.
        """
        return self.heard(span, exact=exact, channel=channel)[0]

    def heard(self, span: Span, *, exact: bool = True, channel: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """`audio`, and the frames (frame,) of the span whose sound is damaged, bool.

        Damaged are samples of which the decoder complained, those after them, and holes within the track.
        """
        wanted = {"start_s": str(span.start_s), "num_samples": span.num_samples}
        header, samples = self._fetch("audio", **wanted, exact=exact, channel=channel)
        damaged = np.zeros(span.num_samples, bool)
        try:
            for first, stop in header["damaged"]:
                damaged[first:stop] = True
        except (KeyError, TypeError, ValueError) as error:
            raise self._nonsense(f"{header} ({error})") from None
        return samples, damaged.reshape(span.num_frames, -1).any(axis=1)

    def frames(
        self, pts: np.ndarray, size: Size | None = None, *, keyframes: bool = False
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Whole frames as RGB.

        Parameters
        ----------
        pts : (n,) timestamps from `frame_times`, not falling; a repeated one is repeated.
        size : (width, height) to shrink to by area averaging; None keeps the source's.
        keyframes : whether all of them are keyframes, so that no other needs to be decoded.

        Yields
        ------
        position in ``pts``, uint8 (height, width, 3)
        """
        shape = None if size is None else (size[1], size[0], 3)
        yield from self._pictures("frames", len(pts), shape, pts=_rising(pts), size=size, keyframes=keyframes)

    def scan(
        self, pts: np.ndarray, thumb: Size, looked_at: np.ndarray, size: Size, *, watched: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """All frames small and some of them larger, as RGB; `crops` of them afterwards need not decode them again.

        That holds as far as the reader's limits let them wait in the child's memory, see `keep_only`.

        Parameters
        ----------
        pts : (n,) timestamps from `frame_times`, rising.
        thumb : width and height to shrink each of them to by area averaging.
        looked_at : positions in ``pts`` of those that are wanted larger.
        size : width and height of these.
        watched : whether `damage` of the same timestamps is to follow, which then costs nothing.

        Yields
        ------
        of every frame uint8 (height, width, 3), and a second one or None
        """
        wanted = set(looked_at.tolist())
        how = {"thumb": thumb, "looked_at": sorted(wanted), "size": size, "watched": watched}
        answers = self._stream("scan", pts=_rising(pts), **how)
        for position in range(len(pts)):
            little = self._picture(answers, position, (*thumb[::-1], 3))
            yield little, self._picture(answers, position, (*size[::-1], 3)) if position in wanted else None
        self._end(answers)

    def keep_only(self, regions: np.ndarray) -> None:
        """Of the frames that are being read by `scan`, these parts (region, 4) alone: more frames find room.

        Parts are x1, y1, x2, y2 in pixels of the upright picture. They change no crop, only what it costs: what was not
        kept is decoded again.
        """
        if self._child is not None:
            with suppress(MediaError):  # a child that is gone is found out by who waits for its answers
                self._child.tell({"keep_only": np.asarray(regions, np.float64).tolist()})

    def damage(self, pts: np.ndarray) -> np.ndarray:
        """What is wrong with frames that a decoder shows, uint8 (n,): keys of `DAMAGES`, 0 where nothing is.

        Found by `pipeline.media.damage`; it costs as much as decoding them once, unless they were just `watched`.
        """
        _, kinds = self._fetch("damage", pts=_rising(pts))
        if kinds.shape != np.shape(pts) or kinds.dtype != np.uint8 or (kinds > max(DAMAGES)).any():
            raise self._nonsense(f"{kinds.dtype} {kinds.shape} for what is wrong with {len(pts)} frames")
        return kinds

    def glances(self, pts: np.ndarray, size: Size) -> Iterator[tuple[int, np.ndarray]]:
        """For timestamps (n,) that lie far apart, a frame soon after each, at two thirds of the price.

        Frames on which no other leans are passed over. Yields as `frames`.
        """
        yield from self._pictures("glances", len(pts), (size[1], size[0], 3), pts=_rising(pts), size=size)

    def crops(
        self, pts: np.ndarray, boxes: np.ndarray, size: int, *, pixels: PixelFormat = "rgb24"
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Square crops of frames, resampled to one size.

        Resampled straight from the decoded planes with a triangle filter that widens when it shrinks (libswscale's
        ``bilinear`` for squares in steps of two pixels, which cost a fifth, else Pillow's ``BILINEAR`` with a
        fractional box): smooth under sub-pixel motion, free of aliasing, and in integer arithmetic, so the planes are
        the same on every machine. Outside the picture its edge is repeated: black would put a hard edge into the crop
        that moves with the box.

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
        answers = self._stream(command, **arguments)
        for position in range(count):
            rgb = self._picture(answers, position, shape)
            shape = rgb.shape
            yield position, rgb
        self._end(answers)

    def _picture(self, answers: Iterator[Answer], position: int, shape: tuple[int, ...] | None) -> np.ndarray:
        """The next answer, a picture of this position and shape, or of any."""
        header, rgb = next(answers, ({}, np.empty(0)))
        if header.get("position") != position or rgb.dtype != np.uint8 or (shape or rgb.shape) != rgb.shape:
            raise self._nonsense(f"picture {header.get('position')} of {rgb.dtype} {rgb.shape} for {position}")
        return rgb

    def _end(self, answers: Iterator[Answer]) -> None:
        if next(answers, None):
            raise self._nonsense("one picture too many")

    def _nonsense(self, found: str) -> MediaError:
        """What no reader of ours says: a source has taken its process over."""
        self.close()
        return MediaError("decoder_crashed", f"{self.path.name}: the reader's process sent {found[:200]}")

    def _stream(self, command: str, **arguments: Any) -> Iterator[Answer]:
        if not self._idle:  # no child yet, or one that is in the midst of an abandoned answer
            self.close()
        self._serial += 1
        serial, self._idle, given, kills = self._serial, False, 0, 0
        while not self._idle:
            child = self._child = self._child or Child(self.path, self.limits, self.decoder)
            try:
                for answer in islice(child.ask({"command": command, **arguments}), given, None):
                    yield answer
                    given += 1
                    if self._serial != serial or self._child is not child:
                        raise RuntimeError(f"{self.path}: this iterator was abandoned by a later request to its reader")
                self._idle = True
                if child.without_gpu:
                    _say_once(f"warning: films are decoded on the CPU: {child.without_gpu}")
            except KilledError:  # another one gives the same answers
                self.close()
                kills += 1
                if kills > MOST_KILLS:
                    raise

    def _sane(self, boxes: np.ndarray, num_frames: int) -> list[Any]:
        """Boxes as lists, or ValueError for what no caller can mean."""
        array = np.asarray(boxes, dtype=np.float64)
        if array.ndim != 3 or array.shape[0] != num_frames or array.shape[2] != 4:
            raise ValueError(f"{self.path}: expected boxes ({num_frames}, role, 4), found {array.shape}")
        sides, furthest = array[..., 2:] - array[..., :2], 4 * self.limits.max_side_px
        if not (np.isfinite(array).all() and (sides >= 1).all() and (np.abs(array) <= furthest).all()):
            raise ValueError(f"{self.path}: expected boxes of 1 px or more within {furthest} px, found {array}")
        return list(array.tolist())


@cache
def _say_once(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _rising(pts: np.ndarray) -> list[int]:
    array = np.asarray(pts)
    if array.ndim != 1 or array.dtype.kind not in "iu" or (np.diff(array) < 0).any():
        raise ValueError(f"expected a row of whole, not falling timestamps, found {array.dtype} {array.shape}")
    return [int(value) for value in array]
