"""The decoder of NVIDIA's GPUs (NVDEC) inside the sandbox, through libav's ``cuda``.

The standards say every bit of a decoded picture, so its pixels are those of the decoders on the CPU; only where they
lie differs, and that is turned back here. Frames come down to the child: pictures are shrunk and cropped there, and
what goes on to the parent is a tenth of them. What libav cannot decode so (4:2:2, or a GPU that is busy) it decodes on
the CPU.

A sandbox with a GPU is a weaker one, which is why nobody gets it unasked: the driver's device files stay open to the
child, so a film that takes the child over may talk to the driver; and the driver reserves more addresses than a limit
could tell from a film's demands, so memory is bounded by what is written (`RLIMIT_DATA`), not by what is reserved.
"""

from __future__ import annotations

from typing import NamedTuple

import av.error
from av.codec import Codec
from av.codec.hwaccel import HWAccel
from av.frame import Frame
from av.video.frame import VideoFrame

DEVICE_FILES = "nvidia*"  # below /dev
MEMORY_BYTES = 6 << 30  # that the driver may write beside the limit of a reading
OPEN_FILES = 256
_ON_CPU = {"nv12": "yuv420p", "p010le": "yuv420p10le"}  # a GPU's formats with chroma in one plane -> in two
_FULL_RANGE, _OWN_NAME = 2, ("h264", "hevc", "mjpeg")  # codecs whose decoders call full range another format


class Gpu(NamedTuple):
    """How films are opened for it, and its primary context, which all of them share and which is held open."""

    how: HWAccel
    context: HWAccel


def open_gpu() -> tuple[Gpu | None, str]:
    """The GPU to decode on, or none and why. Called before the sandbox is shut: the driver opens files of its own."""
    how = HWAccel("cuda", allow_software_fallback=True, options={"primary_ctx": "1"})
    try:
        return Gpu(how, how.create(Codec("h264", "r"))), ""
    except (av.error.FFmpegError, NotImplementedError, OSError) as error:
        return None, f"no GPU of NVIDIA to decode on ({error})"


def as_on_cpu(frame: Frame, codec: str) -> Frame:
    """A frame that may come from a GPU in the format that the decoder on the CPU gives, byte for byte."""
    if not isinstance(frame, VideoFrame) or frame.format.name not in _ON_CPU:
        return frame
    name = _ON_CPU[frame.format.name]
    if name == "yuv420p" and frame.color_range == _FULL_RANGE and codec in _OWN_NAME:
        name = "yuvj420p"
    return frame.reformat(format=name, threads=1)
