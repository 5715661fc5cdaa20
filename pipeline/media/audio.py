"""Sound inside the sandbox: a span of a source's sound track at 44.1 kHz, placed by its timestamps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import av.error
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from pipeline.clock import SAMPLE_RATE_HZ, seconds_of
from pipeline.media.damage import overheard
from pipeline.media.sandbox import Answer
from pipeline.media.source import MediaSource, answers, origin_s, packets

_PREROLL_S = Fraction(1)  # decoded before the span: codecs need what lies before, filters too
_FILTER_S = Fraction(1, 10)  # sound kept around the span for the resampling filter
_CHECKS = "crccheck+bitstream+buffer"  # libav's err_detect: say more, decode the same
_HOLE_S = seconds_of(1) / 2  # timestamps that deviate by less are jitter; by more there is a hole or an overlap


@dataclass
class _Stretch:
    """Sound without a hole: where it starts in the source, and its samples."""

    start_s: Fraction
    rate_hz: int
    pieces: list[np.ndarray] = field(default_factory=list)


def read_audio_info(source: MediaSource) -> Iterator[Answer]:
    """Channels of the sound track, and how long it is or else the file, in seconds."""
    container, stream = source.open_audio()
    own_s, whole_s = (stream.duration or 0) * (stream.time_base or 0), Fraction(container.duration or 0, av.time_base)
    yield {"channels": stream.codec_context.channels, "duration_s": float(own_s or whole_s)}, np.empty(0, np.uint8)


def read_audio(
    source: MediaSource, start_s: str, num_samples: int, exact: bool = True, channel: int | None = None
) -> Iterator[Answer]:
    """The sound of a span, see `SourceReader.audio`, and the samples of it that `SourceReader.heard` calls damaged."""
    start, out = Fraction(start_s), np.zeros(num_samples, np.float32)
    with overheard() as said:
        watch = _Watch(said)
        for stretch in _stretches(source, start, start + Fraction(num_samples, SAMPLE_RATE_HZ), exact, channel, watch):
            samples = np.concatenate(stretch.pieces)
            if stretch.rate_hz != SAMPLE_RATE_HZ:
                samples = soxr.resample(samples, stretch.rate_hz, SAMPLE_RATE_HZ, quality="HQ")
            offset = round((stretch.start_s - start) * SAMPLE_RATE_HZ)
            first, last = max(offset, 0), min(offset + len(samples), num_samples)
            if first < last:
                out[first:last] = samples[first - offset : last - offset]
    spans = [[math.floor((time - start) * SAMPLE_RATE_HZ) for time in span] for span in watch.damaged]
    within = [(max(first, 0), min(stop + 1, num_samples)) for first, stop in spans]
    yield {"damaged": [span for span in within if span[0] < span[1]]}, out


class _Watch:
    """Looks on while a sound track is decoded: when packets failed, of which later ones may know nothing."""

    def __init__(self, said: list[Any]) -> None:
        self._said = said
        self.damaged: list[tuple[Fraction, Fraction]] = []  # from and until when, on the source's timeline

    def decoded(self, container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
        """As `source.decoded`. What follows a packet that failed is damaged too: blocks of coded sound overlap."""
        origin, left = origin_s(container), 0
        stream.codec_context.options = {"err_detect": _CHECKS}
        self._said.clear()
        for packet, frames in answers(packets(container, stream)):
            failed = frames is None and packet.size > 0
            failed = failed or packet.is_corrupt or bool(self._said) or any(frame.is_corrupt for frame in frames or ())
            self._said.clear()
            left = 2 if failed else max(left - 1, 0)
            if left and packet.pts is not None:
                begin = packet.pts * stream.time_base - origin
                self.damaged.append((begin, begin + (packet.duration or 0) * stream.time_base))
            yield from frames or ()


def _stretches(
    source: MediaSource, start: Fraction, end: Fraction, exact: bool, channel: int | None, watch: _Watch
) -> Iterator[_Stretch]:
    """The sound between two times, in stretches that begin where timestamps and sample count part."""
    stretch: _Stretch | None = None
    clock: Fraction | None = None  # where the next sample belongs by counting
    for stamp, frame in _stamped(source, start - _PREROLL_S, exact, watch):
        continues = clock is not None and (stamp is None or abs(stamp - clock) <= _HOLE_S)
        at = clock if continues else stamp
        if at is not None and clock is not None and at > clock:
            watch.damaged.append((clock, at))
        if at is None or at > end + _FILTER_S:
            break
        clock = at + Fraction(frame.samples, frame.sample_rate)
        if stretch and not (continues and stretch.rate_hz == frame.sample_rate):
            yield stretch
            stretch = None
        if clock >= start - _FILTER_S:
            stretch = stretch or _Stretch(at, frame.sample_rate)
            stretch.pieces.append(_mono(frame, channel))
    if stretch:
        yield stretch


def _stamped(
    source: MediaSource, from_s: Fraction, exact: bool, watch: _Watch
) -> Iterator[tuple[Fraction | None, AudioFrame]]:
    """Decoded sound with its timestamps on the source's timeline, beginning around a time or before."""
    container, stream = source.open_audio()
    origin = origin_s(container)
    sought = _sought(container, stream, from_s + origin, exact, watch)
    for frame in watch.decoded(*source.open_audio()) if sought is None else sought:
        yield (None if frame.pts is None else frame.pts * stream.time_base - origin), frame


def _sought(
    container: InputContainer, stream: AudioStream, time_s: Fraction, exact: bool, watch: _Watch
) -> Iterator[AudioFrame] | None:
    """Decoded sound from about a time in mid-file; None where one has to read from the beginning.

    One has to where a tick of the clock is longer than a sample (Matroska counts milliseconds): there no timestamp
    tells the exact sample, counting from the beginning does; who does not ask for it is spared the film so far.
    """
    target = math.floor(time_s / stream.time_base)
    coarse = stream.time_base * stream.codec_context.sample_rate > 1
    if (exact and coarse) or target <= (stream.start_time or 0):
        return None
    try:
        container.seek(target, stream=stream)
    except av.error.FFmpegError:
        return None
    frames = watch.decoded(container, stream)
    head = next(frames, None)
    if head is None or head.pts is None or head.pts * stream.time_base > time_s + _PREROLL_S / 2:
        return None
    return chain([head], frames)


def _mono(frame: AudioFrame, channel: int | None) -> np.ndarray:
    """A channel or the mean of all, float32 (sample,), full scale +-1; 0 where the track has no such channel now."""
    values = np.asarray(frame.to_ndarray())  # (channel, sample), or (1, sample * channel) where interleaved
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    chosen = values if channel is None else values[channel : channel + 1]
    if not len(chosen):
        return np.zeros(values.shape[1], np.float32)
    mean = chosen.mean(axis=0, dtype=np.float64)
    if values.dtype.kind != "f":
        middle = 128 if values.dtype.kind == "u" else 0
        mean = (mean - middle) / 2.0 ** (8 * values.dtype.itemsize - 1)
    mono: np.ndarray = np.nan_to_num(mean).astype(np.float32)
    return mono
