"""Opening a source inside the sandbox: which containers and codecs are allowed, and where its timeline begins."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NoReturn

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.frame import Frame
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from pipeline.media.kept import KeptFrames
from pipeline.media.nvdec import Gpu, as_on_cpu
from pipeline.media.sandbox import MediaError, ReadingLimits

# Containers that are one file. Playlists, image sequences and devices, which lead to others, are left out.
PICTURES = ("png_pipe", "jpeg_pipe", "webp_pipe")  # one picture each, a video of one frame
CONTAINERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "ogg", "asf", "wav", *PICTURES)
VIDEO_DECODERS = (
    "h264", "hevc", "vp8", "vp9", "libdav1d", "av1", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "prores", "theora",
    "h263", "flv", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "vc1", "dvvideo", "ffv1", "rawvideo",
    "png", "webp",
)  # fmt: skip
AUDIO_DECODERS = (
    "aac", "mp3", "mp3float", "mp2", "mp2float", "ac3", "eac3", "opus", "vorbis", "flac", "alac", "wmav1", "wmav2",
    "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be",
    "pcm_f64le", "pcm_u8", "pcm_s8", "pcm_alaw", "pcm_mulaw",
)  # fmt: skip

_OPTIONS = {
    "format_whitelist": ",".join(CONTAINERS),
    "codec_whitelist": ",".join(VIDEO_DECODERS + AUDIO_DECODERS),
    "protocol_whitelist": "none",  # the source comes as an open file; libav itself opens nothing
}
_MICROSECOND = Fraction(1, av.time_base)


class MediaSource:
    """The source file, opened anew for every request so that none inherits a decoder's state."""

    def __init__(self, file: io.FileIO, limits: ReadingLimits, gpu: Gpu | None = None, without_gpu: str = "") -> None:
        self.file = file
        self.limits = limits
        self.gpu = gpu  # that decodes pictures
        self.without_gpu = without_gpu  # why none does although one was asked for
        self.pixel_aspect = Fraction(1)  # width by height of a stored pixel, known once the video was opened
        self.watched = (0, -1)  # the first and last timestamp of a span whose frames were judged
        self.damage: dict[int, int] = {}  # what each of them is, by its timestamp
        self.kept = KeptFrames(0)  # of the latest reading that was asked to keep its frames

    def open(self, gpu: Gpu | None = None) -> InputContainer:
        self.file.seek(0)
        reading = {"container_options": _OPTIONS, "metadata_errors": "ignore", "io_open": _refuse}
        if gpu is not None:
            reading["hwaccel"] = gpu.how
        try:
            container = av.open(self.file, mode="r", **reading)
        except av.error.ArgumentError as error:  # what libav answers to a container off the list
            raise MediaError("not_allowed", f"none of the containers {', '.join(CONTAINERS)} ({error})") from None
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError("unreadable", str(error)) from None
        if container.duration and container.duration * _MICROSECOND > self.limits.max_duration_s:
            found = float(container.duration * _MICROSECOND)
            raise MediaError("too_large", f"{found:.0f} s long, {self.limits.max_duration_s:.0f} s at most")
        return container

    def open_video(self) -> tuple[InputContainer, VideoStream]:
        """The container and its video stream, ready to decode."""
        try:
            container = self.open(self.gpu)
        except MediaError as error:
            if self.gpu is None:
                raise
            self.gpu, self.without_gpu = None, f"the GPU refuses ({error.detail})"
            container = self.open()
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream) or Disposition.attached_pic in stream.disposition:
            raise MediaError("no_video", f"{container.format.name} with {len(container.streams)} other streams")
        if stream.codec_context is None or stream.codec_context.name not in VIDEO_DECODERS:
            raise MediaError("not_allowed", f"a video codec other than {', '.join(VIDEO_DECODERS)}")
        self.pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)  # 0 stands for unknown
        context = stream.codec_context
        side = max(round(context.width * self.pixel_aspect), context.width, context.height)
        if side > self.limits.max_side_px:
            raise MediaError("too_large", f"{side} px wide or high, {self.limits.max_side_px} px at most")
        context.thread_type, context.thread_count = "FRAME", self.limits.threads
        context.options = {"max_pixels": str(self.limits.max_side_px**2)}
        return container, stream

    def open_audio(self) -> tuple[InputContainer, AudioStream]:
        """The container and its sound track, ready to decode."""
        container = self.open()
        stream = container.streams.best("audio")
        if not isinstance(stream, AudioStream):
            raise MediaError("no_audio", f"{container.format.name} with {len(container.streams)} other streams")
        if stream.codec_context is None or stream.codec_context.name not in AUDIO_DECODERS:
            raise MediaError("not_allowed", f"an audio codec other than {', '.join(AUDIO_DECODERS)}")
        return container, stream


def origin_s(container: InputContainer) -> Fraction:
    """Where the container's timeline begins, in seconds on the clock of its timestamps.

    libav rounds it to microseconds; it is the start of one of the streams, which is known exactly.
    """
    rounded = (container.start_time or 0) * _MICROSECOND
    starts = [s.start_time * s.time_base for s in container.streams if s.start_time is not None and s.time_base]
    nearest = min(starts, key=lambda start: abs(start - rounded), default=rounded)
    return nearest if abs(nearest - rounded) <= _MICROSECOND else rounded


def packets(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[Packet]:
    """The packets of a stream from where the container stands, and an empty one at the end."""
    while True:
        try:
            yield from container.demux(stream)
        except IndexError:  # a packet of a stream that appears in mid-file; PyAV knows those of the beginning only
            continue
        return


def decoded(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[Frame]:
    """The frames of a stream from where the container stands; packets that cannot be decoded are passed over."""
    context = stream.codec_context
    assert context is not None
    try:
        for _, frames in answers(packets(container, stream)):
            if context.is_hwaccel:
                yield from (as_on_cpu(frame, context.codec.canonical_name) for frame in frames or ())
            else:
                yield from frames or ()
    finally:
        # The decoder's threads work ahead, and wait for Python where libav's complaints are heard (`damage.overheard`).
        # PyAV frees a decoder, whenever it is collected, in Python's own lock: each would wait for the other for ever.
        context.flush_buffers()  # waits for the threads outside of the lock


def answers(given: Iterable[Packet]) -> Iterator[tuple[Packet, list[Frame] | None]]:
    """Packets, each with the frames that the decoder shows once it has it; None where it cannot be decoded."""
    for packet in given:
        is_end = packet.dts is None and packet.pts is None
        if not packet.size and not is_end:  # a dropped frame of an AVI; a decoder takes an empty packet for the end
            continue
        try:
            frames: list[Frame] | None = list(packet.decode())
        except (av.error.InvalidDataError, av.error.EOFError):
            frames = None
        yield packet, frames


def _refuse(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError(f"the source wants to open {url!r}")
