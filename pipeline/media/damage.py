"""Damage inside the sandbox: which frames are patched over, lean on one that is, or show what nobody filmed.

A decoder shows something for whatever it is given. It tells of damage in three ways, all taken here packet by packet
from one thread: an error in place of a frame, a mark on a packet or frame, a message of rank ERROR (whose words nobody
reads). What follows a damaged packet in decoding order leans on it up to the next keyframe, marked or not; and because
damage comes in bursts, and wrong bits may pass for right ones, what is near to it is unsure.

Some decoders (VP8, VP9, HEVC) turn any bits into a picture without a complaint. There a second one decodes the same:
what the two show is the same as long as the bits are, and almost never once they are not. And pictures are looked at:
a keyframe that steps back to what was seen before shows that what lies between was never filmed.

Whole frames get lost without a word in containers that pass over what they cannot read: a hole in regular times tells,
and in an AVI, whose frames are counted, bytes that are none of its chunks. Others come twice, and what is decoded twice
moves twice: a second packet of one time tells, where packets have times.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import av.error
import av.logging
import numpy as np
from av.codec import CodecContext
from av.container import InputContainer
from av.frame import Frame
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import ArrayLike, NDArray

from pipeline.media.sandbox import FAILED, LEANS, LOOKS, UNSURE, WHOLE
from pipeline.media.source import answers, packets

_CHECKS = "crccheck+bitstream+buffer+aggressive"  # libav's err_detect: say more, decode the same
_SECONDS = {  # other decoders of the same bits, and their threads
    "vp8": ("libvpx", 1),  # sees whether a frame's bits end where its bytes do
    "vp9": ("libvpx-vp9", 1),
    "hevc": ("hevc", 2),  # two threads begin every row at its own place, where rows have one; one thread reads on
}
_TOLD = ("h264", "hevc", "vp8", "vp9", "av1")  # codecs whose decoders tell of frames that are not there
_BYTE_LUMA = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray")
_SAMPLES = 160  # of the luma across the picture; the mean square of differences needs no more
_CELL = 8  # samples, side of the squares in which pictures are compared
_CHANGED = 100.0  # mean square of a cell's difference, in grey levels: 28 dB
_VISIBLE = 20.0  # the same over the whole picture: 35 dB
_SUDDEN = 4.0  # times the usual step from frame to frame
_STILL = 2.0  # mean square of steps in a picture that stands still: noise
_NEARER = 4.0  # times, in mean squares
_AROUND = 12  # frames on either side that say what is usual
_BACK = 8  # frames before a keyframe to which it may step back, if the last keyframe is nearer
_SHIFT = 6  # samples, farthest that a camera jerks
_LOSING = ("asf", "ogg", "mpegts", "mpeg", "matroska", "flv")  # containers that pass over what they cannot read
_TIMED = ("flv", "matroska")  # containers in which a time stands beside each packet, not in an index or now and then
_HOLE, _UNEVEN = 1.5, 0.2  # of the usual time between frames: what is longer, and what may differ
_REGULAR = 0.95  # of a film's times, of which a hole is a loss and no encoder's choice
_BEFORE, _AFTER = 25, 12  # packets on either side of one that fails: decoders tell late rather than early
_NO_FRAMES = {b"JU", b"LI", b"RI", b"ix", b"id"}  # how chunks of an AVI begin that hold none: JUNK, LIST, RIFF, indices
_LIST, _CHUNK = 12, 8  # bytes of a RIFF list's and a chunk's head


@contextmanager
def overheard() -> Iterator[list[Any]]:
    """What libav says at rank ERROR in this thread while the block runs, each time that it does.

    Whatever other threads of it say waits for Python's lock: `source.decoded` says what follows from that.
    """
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as said:
            yield said
    finally:
        av.logging.set_level(None)


class Watch:
    """Looks on while one thread decodes a video, and judges what it has seen from timestamp ``first`` on."""

    def __init__(self, said: list[Any], first: int, file: io.FileIO) -> None:
        self._said = said  # `overheard`; emptied after every packet
        self._first = self.begin = first  # and the first one that was shown
        self.is_told = False  # whether the codec's decoders tell of damage, so that no looks need to
        self._file = file
        self._loses = False  # whether frames may be missing of which nobody complains

    def decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        """As `source.decoded`, from the first packet on."""
        context = stream.codec_context
        context.thread_count, context.copy_opaque = 1, True
        context.options = {**context.options, "err_detect": _CHECKS}
        self._failed: list[bool] = []  # (packet,) in decoding order
        self._keys: list[int] = []  # packets that begin a group
        self._shown: list[_Shown] = []
        self._astray = False  # whether frames are no longer at their places
        self.is_told = context.codec.canonical_name in _TOLD
        kinds = {*container.format.name.split(",")}
        self._loses = not self.is_told and not kinds.isdisjoint(_LOSING)
        self._said.clear()
        second = _second(context)
        given = packets(container, stream)
        if "avi" in kinds:
            others = {b"%02d" % one.index for one in container.streams} - {b"%02d" % stream.index}
            given = self._in_step(given, others | _NO_FRAMES)
        if not kinds.isdisjoint(_TIMED):
            given = self._once(given)
        for packet, frames in answers(self._numbered(given)):
            if second is not None:
                self._compare(second, packet, frames or [])
            self._failed[-1] |= bool(self._said) or packet.is_corrupt or (frames is None and packet.size > 0)
            self._said.clear()
            yield from frames or ()

    def _numbered(self, given: Iterator[Packet]) -> Iterator[Packet]:
        for packet in given:
            packet.opaque = [len(self._failed)]  # a list of its own: PyAV finds it by its identity
            if packet.is_keyframe:
                self._keys.append(len(self._failed))
            self._failed.append(self._astray)
            yield packet

    def _once(self, given: Iterator[Packet]) -> Iterator[Packet]:
        """Of a container that stores a time beside each packet: of two with one time either may be the false one."""
        time: int | None = None
        for packet in given:
            if packet.dts is not None and packet.dts == time:
                self._failed[-1] = True
            time = packet.dts
            yield packet

    def _in_step(self, given: Iterator[Packet], others: Collection[bytes]) -> Iterator[Packet]:
        """Of an AVI, whose frames are counted and have no times: past bytes that are no chunk of its all are astray."""
        end: int | None = None
        for packet in given:
            if packet.size and packet.pos is not None:
                if end is not None and not any(self._reaches(packet.pos, at, others) for at in (end, end + 1)):
                    self._failed[-1] = self._astray = True  # the one before has swallowed something
                end = packet.pos + packet.size
            yield packet

    def _reaches(self, start: int, at: int, others: Collection[bytes]) -> bool:
        """Whether nothing but heads and whole chunks, none with a frame, lie between here and what a chunk holds."""
        while at + _CHUNK < start:
            head = os.pread(self._file.fileno(), _CHUNK, at)
            size = int.from_bytes(head[4:], "little")
            if size and head[:2] not in others:
                return False
            at += _LIST if head[:4] in (b"LIST", b"RIFF") else _CHUNK + size + size % 2
        return at + _CHUNK == start

    def _compare(self, second: CodecContext, packet: Packet, shown: Sequence[Frame]) -> None:
        """Fail what another decoder refuses, or shows otherwise than these frames after a packet."""
        try:
            others = second.decode(packet)
        except av.error.FFmpegError:
            others = []
        self._failed[-1] |= len(others) != len(shown)
        for one, other in zip(shown, others, strict=False):
            if other.is_corrupt or not np.array_equal(_samples(one), _samples(other)):
                self._failed[self._number(one)] = True

    def _number(self, frame: Frame) -> int:
        """The packet that a frame came from."""
        given = frame.opaque
        return int(given[0]) if isinstance(given, list) else len(self._failed) - 1

    def look(self, time: int, frame: VideoFrame) -> None:
        """Take the next frame that is shown into account."""
        number = self._number(frame)
        self._failed[number] |= frame.is_corrupt
        self.begin = min(time, self.begin)
        if frame.key_frame and time <= self._first:
            del self._shown[:-_BACK]  # what is shown from here on leans on nothing before
        self._shown.append(_Shown(time, number, frame.key_frame, _samples(frame)))

    @property
    def begins_badly(self) -> bool:
        """Whether anything failed in the group of frames that was decoded first."""
        return any(self._failed[: self._keys[1] if len(self._keys) > 1 else None])

    def kinds(self) -> dict[int, int]:
        """What every frame is, by its timestamp."""
        if not self._shown:
            return {}
        times, numbers, keys, pictures = map(np.array, zip(*self._shown, strict=True))
        failed = np.array(self._failed)
        if self._loses:
            failed[numbers[holes(times, keys)]] = True
        kinds = suspects(failed, numbers, keys)
        if keys.any():  # what is shown before leans on what is not there
            kinds[(numbers < numbers[keys].min()) & (kinds == WHOLE)] = LEANS
        kinds[steps_back(pictures, _steps(pictures), keys) & (kinds == WHOLE)] = LOOKS
        begun = times >= self._first  # before, an open group may have been begun amid its references
        kinds[begun] = np.where(nearby(kinds[begun], numbers[begun], keys[begun]), UNSURE, kinds[begun])
        return dict(zip(times.tolist(), kinds.tolist(), strict=True))


def _second(context: CodecContext) -> CodecContext | None:
    """Another way of decoding the same bits, for codecs whose decoders take any."""
    if context.name not in _SECONDS:
        return None
    name, threads = _SECONDS[context.name]
    decoder = CodecContext.create(name, "r")
    decoder.extradata = context.extradata
    decoder.thread_type, decoder.thread_count = "SLICE", threads
    return decoder


class _Shown(NamedTuple):
    """A frame that was shown."""

    time: int  # its timestamp
    number: int  # of the packet that it came from, in decoding order
    key: bool
    picture: NDArray[np.uint8]  # `_samples`


def suspects(failed: NDArray[np.bool_], numbers: ArrayLike, keys: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """WHOLE, FAILED or LEANS for every frame (frame,), in the order in which they are shown.

    Parameters
    ----------
    failed : (packet,) whether something went wrong, in decoding order.
    numbers : (frame,) of the packets that the frames came from.
    keys : (frame,) whether a frame leans on no other.

    A keyframe clears what comes after it, less the frames that are shown before it and lean on both sides.
    """
    decoded = np.asarray(numbers)
    kinds = np.zeros(len(decoded), np.uint8)
    before = now = False  # whether something had failed before the latest keyframe, and since
    key_at, done = -1, 0
    for at in np.argsort(decoded, kind="stable"):
        now = now or bool(failed[done : decoded[at]].any())  # packets of which no frame came
        if keys[at]:
            before, now, key_at = now, False, at
        now = now or bool(failed[decoded[at]])
        kinds[at] = FAILED if failed[decoded[at]] else LEANS if now or (before and at < key_at) else WHOLE
        done = decoded[at] + 1
    return kinds


def holes(times: ArrayLike, keys: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Frames (frame,) before which others got lost: no keyframes, after a hole in times that are else regular."""
    steps = np.diff(times, prepend=np.ravel(times)[:1])
    usual = np.median(steps[1:]) if len(steps) > 1 else 0.0
    is_hole = steps > _HOLE * usual
    is_regular = (np.abs(steps[1:] - usual) <= _UNEVEN * usual).sum() >= _REGULAR * (len(steps) - 1)
    return np.asarray(is_hole & ~keys & is_regular)


def nearby(kinds: NDArray[np.uint8], numbers: ArrayLike, keys: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whole frames (frame,) some packets before or after one of which a decoder complains; none where all are keys.

    Damage comes in bursts, of which decoders tell some: wrong bits may pass for right ones.
    """
    decoded = np.asarray(numbers)
    failed = np.sort(decoded[kinds == FAILED])
    near = np.searchsorted(failed, decoded + _BEFORE, side="right") > np.searchsorted(failed, decoded - _AFTER)
    return np.asarray((kinds == WHOLE) & near & ~keys.all())


def steps_back(pictures: NDArray[np.uint8], steps: NDArray[np.float64], keys: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Frames (frame,) before a keyframe that lie farther from it than what was shown before them.

    From another keyframe on that leaves at one stroke, and without coming nearer. Told in the cells of the picture in
    which the keyframe differs from the frame before it. A film that cuts away and back does the same, but with a
    keyframe out of turn; one whose camera jerks, too, but a shift undoes that.
    """
    found = np.zeros(len(pictures), bool)
    places = np.flatnonzero(keys).tolist()
    turns = Counter(key - last for last, key in pairwise(places))
    for last, key in pairwise([0, *places] if places and places[0] else places):
        if steps[key] < max(_VISIBLE, _SUDDEN * (np.median(_neighbours(steps, key, _AROUND)) + _STILL)):
            continue
        first = max(min(last - 1, key - _BACK), 0)
        away = np.stack([_cells(picture, pictures[key]) for picture in pictures[first:key]])  # (frame, cell)
        back = (away[-1] >= _CHANGED) & (away.min(axis=0) * _NEARER <= away[-1])
        if away[-1][back].sum() < _VISIBLE * away.shape[1]:
            continue
        distance = away[:, back].mean(axis=1)
        near = np.flatnonzero(distance * _NEARER <= distance[-1])
        if not near.size:
            continue
        left = int(near[-1]) + 1
        start = first + left
        in_turn = keys[start] and turns[key - last] > 1
        if in_turn and 2 * min(distance[left], distance[-1]) >= distance[left:].max():
            found[start:key] |= not any(_is_shift(pictures[at - 1], pictures[at]) for at in (start, key) if at)
    return found


def _samples(frame: VideoFrame) -> NDArray[np.uint8]:
    """Some of the luma's pixels, uint8 (about 90, about 160)."""
    plane = (frame if frame.format.name in _BYTE_LUMA else frame.reformat(format="gray", threads=1)).planes[0]
    pixels = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
    step = max(round(plane.width / _SAMPLES), 1)
    return pixels[step // 2 :: step, step // 2 :: step].copy()


def _steps(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean square of the difference from the frame before (frame,); 0 for the first."""
    return np.array([0.0, *(float(_cells(one, next_).mean()) for one, next_ in pairwise(pictures))])


def _cells(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean square of the difference of two pictures in squares of `_CELL` samples (cell,)."""
    square = np.square(one.astype(np.int32) - other)
    rows, columns = (np.arange(0, side, _CELL) for side in square.shape)
    sums = np.add.reduceat(np.add.reduceat(square, rows, axis=0), columns, axis=1)
    heights, widths = (np.diff([*starts, side]) for starts, side in zip((rows, columns), square.shape, strict=True))
    return (sums / np.outer(heights, widths)).ravel()


def _neighbours(values: NDArray[Any], at: int, count: int) -> NDArray[Any]:
    """The values of so many frames on either side of one, without its own."""
    return np.concatenate([values[max(at - count, 0) : at], values[at + 1 : at + 1 + count]])


def _is_shift(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether a picture moved by some samples explains most of what makes another differ from it."""
    height, width = one.shape
    inner = other[_SHIFT : height - _SHIFT, _SHIFT : width - _SHIFT].astype(np.int32)
    errors = [
        np.square(inner - one[y : y + inner.shape[0], x : x + inner.shape[1]]).mean()
        for y in range(2 * _SHIFT + 1)
        for x in range(2 * _SHIFT + 1)
    ]
    return bool(2 * min(errors) < errors[len(errors) // 2])
