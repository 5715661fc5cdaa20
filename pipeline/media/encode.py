"""Our own media files: writing and reading the face crops and the sound that later stages use.

Video is H.264, by the libx264 in PyAV's wheel, in a thread beside what makes the frames; sound is a plain WAV. The same
planes give the same bytes on every machine with that wheel: one thread, no choice of algorithms by CPU, no dates or
version tags. (RGB becomes planes by libswscale's own choice.) Colours are BT.601 with limited range, and say so in the
file: it is what every decoder also assumes for files that say nothing, so PyAV, OpenCV and ffmpeg give the same RGB
back, byte for byte, while they differ on files tagged BT.709.
"""

from __future__ import annotations

import wave
from collections import deque
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.clock import FPS, SAMPLE_RATE_HZ, frames_in

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# A data set may come from others: a playlist in the guise of an MP4 must not lead anywhere.
_OURS: dict[str, Any] = {"format": "mp4", "options": {"protocol_whitelist": "file"}}
_FILE = {"movflags": "+faststart", "fflags": "+bitexact"}  # a player begins at once; the same bytes each time
_COLOURS = 6, 1  # SMPTE 170M (BT.601), limited range, by libav's numbers
_FRAMES_AHEAD = 4  # that wait for the encoder
_FULL_SCALE = 32768  # 16-bit PCM
LUMA_BLACK = 16  # of limited range
GOP_FRAMES = frames_in(1)  # a keyframe a second, so that a viewer can seek

PixelFormat = Literal["rgb24", "yuv420p"]


class VideoWriter:
    """Writes frames to an MP4 file, at 30 frames a second where nothing else is asked for.

    Without B-frames, so that frame k is at k/30 s, or k/``fps``, for every reader, edit lists or not.

    Parameters
    ----------
    path : the file to write; it is removed again if the ``with`` block fails.
    size : (width, height) in pixels, both even.
    crf : x264's constant rate factor, 0 (lossless) to 51; 18 is hard to tell from the source.
    preset : x264's speed preset.
    x264 : options of x264 that go beyond the preset, as ``name=value:name=value``.
    pixels : what frames are: ``rgb24`` (height, width, 3), or ``yuv420p``, the planes below each other, (1.5 height,
        width), in BT.601 with limited range; uint8 either way, everything else is a ValueError.
    fps : frames a second of a film on another clock than the clips', whose frames `pipeline.clock.frames_at` tells.

    `OSError` if the file cannot be written; a full disk's has its number.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        *,
        crf: int = 18,
        preset: str = "veryfast",
        x264: str = "",
        pixels: PixelFormat = "rgb24",
        fps: int = FPS,
    ) -> None:
        if any(side < 2 or side % 2 for side in size):
            raise ValueError(f"{path}: 4:2:0 video needs an even width and height, found {size[0]} x {size[1]}")
        self.path = Path(path)
        self.num_frames = 0
        self._shape = (size[1], size[0], 3) if pixels == "rgb24" else (size[1] * 3 // 2, size[0])
        self._pixels = pixels
        with self._told():
            self._encoder = _Encoder(self.path, size, crf, preset, x264, fps)
        self._beside, self._waiting = ThreadPoolExecutor(1, "encoder"), deque[Future[None]]()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self._abandon()

    def write(self, frame: np.ndarray) -> None:
        """Append one frame."""
        from av.video.frame import VideoFrame

        if frame.dtype != np.uint8 or frame.shape != self._shape:
            found = f"{frame.dtype} {frame.shape}"
            raise ValueError(f"{self.path}: expected a frame of uint8 {self._shape}, found {found}")
        copy = VideoFrame.from_ndarray(np.ascontiguousarray(frame), self._pixels)
        self._do(self._encoder.encode, copy, ahead=_FRAMES_AHEAD)
        self.num_frames += 1

    def close(self) -> None:
        """Finish the file."""
        try:
            self._do(self._encoder.finish, ahead=0)
        except OSError:
            self._abandon()
            raise
        self._beside.shutdown()

    def _do(self, call: Callable[..., None], *arguments: Any, ahead: int) -> None:
        """Have it done beside what the caller does next, who is no more than so many calls ahead."""
        self._waiting.append(self._beside.submit(call, *arguments))
        with self._told():
            while len(self._waiting) > ahead:
                self._waiting.popleft().result()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """An error of libav's as the system's, with its number: a full disk is no clip's fault."""
        try:
            yield
        except OSError as error:
            told = f"could not write {self.path} (stopped after {self.num_frames} frames): {error.strerror}"
            raise OSError(error.errno, told) from None

    def _abandon(self) -> None:
        self._beside.shutdown(cancel_futures=True)
        self._encoder.abandon()
        self.path.unlink(missing_ok=True)


class _Encoder:
    """libx264 and the file that it fills."""

    def __init__(self, path: Path, size: tuple[int, int], crf: int, preset: str, x264: str, fps: int) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self._file = av.open(str(path.resolve()), "w", format="mp4", options=_FILE)
        coded = {"crf": str(crf), "preset": preset, "bf": "0", "flags": "+bitexact"}
        coded["x264-params"] = ":".join(filter(None, ("cpu-independent=1", x264)))
        self._stream = self._file.add_stream("libx264", fps, options=coded)
        self._stream.metadata["encoder"] = "Lavc libx264"  # as ffmpeg's program says it
        context = self._stream.codec_context
        context.width, context.height = size
        context.pix_fmt, context.colorspace, context.color_range = "yuv420p", *_COLOURS
        context.gop_size, context.thread_count = GOP_FRAMES, 1
        self._converter = VideoReformatter()
        self._file.start_encoding()

    def encode(self, frame: VideoFrame) -> None:
        if frame.format.name == "rgb24":
            space, levels = _COLOURS  # without ACCURATE_RND, which would move colours by a grey level from older films'
            how = {"format": "yuv420p", "interpolation": "BICUBIC", "threads": 1}
            frame = self._converter.reformat(frame, dst_colorspace=space, dst_color_range=levels, **how)
        self._file.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._file.mux(self._stream.encode())
        self._file.close()

    def abandon(self) -> None:
        with suppress(OSError):  # as when it was written
            self._file.close()


def add_sound(video: Path, sound: Path, path: Path) -> None:
    """Write one of our own videos to ``path`` with a WAV file as its sound: AAC, as every browser plays it.

    `OSError` if ffmpeg failed; the message holds what it printed.
    """
    import ffmpeg
    import imageio_ffmpeg

    streams = ffmpeg.input(str(video.resolve())).video, ffmpeg.input(str(sound.resolve())).audio
    coded = {"vcodec": "copy", "acodec": "aac", "audio_bitrate": "128k", "flags:a": "+bitexact"}
    file = ffmpeg.output(*streams, str(path.resolve()), format="mp4", **coded, **_FILE, map_metadata=-1, threads=1)
    try:
        quiet = file.global_args("-hide_banner", "-loglevel", "error", "-nostdin", "-y")
        quiet.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), capture_stderr=True)
    except ffmpeg.Error as error:
        said = error.stderr.decode(errors="replace").strip()
        raise OSError(f"ffmpeg could not write {path}: {said}") from None


class OwnVideo:
    """One of our own files, read by one stage after the other; foreign files go through `SourceReader`.

    The luma of what was read as RGB waits for who asks for it next, as far as it takes no more than ``kept_bytes``.
    """

    def __init__(self, path: Path, kept_bytes: int = 0) -> None:
        self.path = path
        self._room = kept_bytes
        self._luma: dict[int, np.ndarray] = {}

    def rgb(self, wanted: Container[int] | None = None) -> Iterator[np.ndarray]:
        """Frames as RGB, uint8 (height, width, 3): all, or those whose numbers are wanted.

        Of a range of numbers nothing is decoded before its keyframe, and nothing behind it.
        """
        from av.video.reformatter import VideoReformatter

        converter = VideoReformatter()  # of all frames: one of its own would cost each of them as much as decoding it
        for number, frame in _decoded(self.path, wanted):
            self._keep(number, frame)
            yield converter.reformat(frame, format="rgb24", threads=1).to_ndarray()

    def _keep(self, number: int, frame: Any) -> None:
        if self._room >= 0 and number not in self._luma:
            self._luma[number] = _luma(frame).copy()
            self._room -= self._luma[number].nbytes
            if self._room < 0:  # some of them are of no use
                self._luma.clear()

    @cached_property
    def num_frames(self) -> int:
        return count_frames(self.path)

    def luma(self) -> Iterator[np.ndarray]:
        """Brightness of all frames, uint8 (height, width): `LUMA_BLACK` is black, 235 white."""
        if len(self._luma) == self.num_frames:
            yield from (self._luma[number] for number in sorted(self._luma))
        else:
            yield from (_luma(frame) for _, frame in _decoded(self.path))


def read_video(path: Path, wanted: Container[int] | None = None) -> Iterator[np.ndarray]:
    """`OwnVideo.rgb` of a file that nobody reads again."""
    return OwnVideo(path).rgb(wanted)


def _luma(frame: Any) -> np.ndarray:
    from pipeline.media.kept import rows_of

    return rows_of(frame.planes[0])[:, : frame.width]


def _decoded(path: Path, wanted: Container[int] | None = None) -> Iterator[tuple[int, Any]]:
    import av

    with av.open(str(path), **_OURS) as container:
        (stream,) = container.streams.video
        assert stream.time_base is not None and stream.average_rate is not None
        each = 1 / (stream.time_base * stream.average_rate)  # of its ticks
        if isinstance(wanted, range) and wanted.start:
            container.seek(int(wanted.start * each), stream=stream)
        for number, frame in enumerate(container.decode(stream)):
            if isinstance(wanted, range):
                number = round(frame.pts / each)
                if number >= wanted.stop:
                    return
            if wanted is None or number in wanted:
                yield number, frame


def count_frames(path: Path) -> int:
    """Frames in one of our own files, counted without decoding."""
    import av

    with av.open(str(path), **_OURS) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Write 44.1 kHz mono 16-bit PCM from float (sample,), full scale +-1; what exceeds it is clipped."""
    whole = np.rint(np.asarray(samples, dtype=np.float64) * _FULL_SCALE)
    pcm = whole.clip(-_FULL_SCALE, _FULL_SCALE - 1).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(pcm.tobytes())


def level_dbfs(samples: np.ndarray) -> float:
    """Mean level of samples within +-1 in dB of a full-scale square wave; -200 for digital silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return float(10 * np.log10(max(power, 1e-20)))


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    """Samples, float32 (sample,) with full scale +-1, and sampling rate in Hz of a file by `write_wav`."""
    with wave.open(str(path), "rb") as file:
        if (file.getnchannels(), file.getsampwidth()) != (1, 2):
            found = f"{file.getnchannels()} channels of {file.getsampwidth()} bytes"
            raise ValueError(f"{path}: expected 16-bit mono as written by the clip stage, found {found}")
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return pcm.astype(np.float32) / _FULL_SCALE, file.getframerate()
