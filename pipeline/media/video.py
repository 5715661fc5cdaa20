"""Video inside the sandbox: frame times, whole frames and crops of one source."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.stream import VideoStream
from PIL import Image

from pipeline.media.sandbox import MediaError
from pipeline.media.source import MediaSource, decoded, origin_s, packets

Answer = tuple[dict[str, Any], np.ndarray]
Box = tuple[float, float, float, float]
TimedFrames = Iterator[tuple[int, VideoFrame]]

_LEADS_S = (0, 2, 10, 60)  # how far before a wanted frame to look for a keyframe, one try after the other
_HIDDEN_FRAMES = ("vp8",)  # codecs whose packets may hold a frame that is never shown
_BYTE_PLANES = ("yuv420p", "yuvj420p")  # crops are cut from these; other formats are converted first
_BT601 = (2, 5, 6)  # AVCOL_SPC_UNSPECIFIED, which every decoder takes for it, _BT470BG, _SMPTE170M
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_HDR_CURVES = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}
_NOTHING = np.empty(0, np.uint8)


def read_info(source: MediaSource) -> Iterator[Answer]:
    """Size, rotation and codecs, as the first frame that can be decoded shows them."""
    container, stream = source.open_video()
    _, frame = _first(container, stream)
    _refuse_what_needs_conversion(frame)
    turns, sound = _quarter_turns(frame), container.streams.best("audio")
    width, height = _square_size(frame, source.pixel_aspect)[:: -1 if turns % 2 else 1]
    facts = {
        "width": width,
        "height": height,
        "rotation_deg": 90 * turns,
        "container": container.format.name,
        "video_codec": stream.codec_context.codec.canonical_name,
        "pixel_format": frame.format.name,
        "average_fps": str(stream.average_rate or 0),
        "duration_s": (container.duration or 0) / av.time_base,
        "audio": None,
    }
    if sound is not None and (context := sound.codec_context) is not None:
        rates = {"sample_rate_hz": context.sample_rate, "channels": context.channels}
        facts["audio"] = {"codec": context.codec.canonical_name, **rates}
    yield facts, _NOTHING


def read_frame_times(source: MediaSource) -> Iterator[Answer]:
    """Timestamps of all frames that a decoder shows, rising."""
    container, stream = source.open_video()
    pts = _packet_times(container, stream)
    if pts is None:
        container, stream = source.open_video()
        pts = array("q", (time for time, _ in _timed(container, stream)))
    else:  # a stream that was cut out of a longer one begins with frames that cannot be decoded
        first, _ = _first(*source.open_video())
        pts = array("q", sorted(time for time in pts if time >= first))
    if not pts:
        raise MediaError("unreadable", "no frame could be decoded")
    header = {"time_base": str(stream.time_base), "origin_s": str(origin_s(container))}
    yield header, np.frombuffer(pts, dtype=np.int64)


def read_frames(source: MediaSource, pts: list[int], size: Sequence[int] | None) -> Iterator[Answer]:
    """Whole frames as RGB, see `SourceReader.frames`."""
    last, rgb = None, _NOTHING
    for position, frame in _chosen(_from(source, pts), pts):
        if frame is not last:
            last, rgb = frame, _whole(frame, size, source.pixel_aspect)
        yield {"position": position}, rgb


def read_crops(source: MediaSource, pts: list[int], boxes: list[list[Box]], size: int, pixels: str) -> Iterator[Answer]:
    """Square crops, see `SourceReader.crops`."""
    for position, frame in _chosen(_from(source, pts), pts):
        planar = frame if frame.format.name in _BYTE_PLANES else frame.reformat(format=_BYTE_PLANES[0], threads=1)
        stored = (_as_stored(box, frame, source.pixel_aspect) for box in boxes[position])
        crops = (_crop(planar, frame, box, size) for box in stored)
        yield {"position": position}, np.stack([_as_pixels(crop, pixels) for crop in crops])


def _packet_times(container: InputContainer, stream: VideoStream) -> array[int] | None:
    """Timestamps of the packets that a decoder shows; None where packets do not tell."""
    context = stream.codec_context
    if context.codec.canonical_name in _HIDDEN_FRAMES or (_is_avi(container) and context.has_b_frames):
        return None
    pts = array("q")
    for packet in packets(container, stream):
        if not packet.size or packet.is_discard:
            continue
        if packet.pts is None:
            return None
        pts.append(packet.pts)
    return pts if len(set(pts)) == len(pts) else None


def _is_avi(container: InputContainer) -> bool:
    """AVI stores no time of presentation; libav makes one up that is wrong for reordered frames."""
    return str(container.format.name) == "avi"


def _timed(container: InputContainer, stream: VideoStream) -> TimedFrames:
    """Decoded frames with their timestamps, rising."""
    latest: float = -math.inf
    is_avi = _is_avi(container)
    for frame in decoded(container, stream):
        time = frame.dts if is_avi or frame.pts is None else frame.pts
        if is_avi and time is None:  # the last ones, which come after the last packet; a tick of an AVI is one frame
            time = latest + 1
        if time is not None and time > latest:
            latest = time
            yield time, frame


def _first(container: InputContainer, stream: VideoStream) -> tuple[int, VideoFrame]:
    for timed in _timed(container, stream):
        return timed
    raise MediaError("unreadable", "no frame could be decoded")


def _from(source: MediaSource, pts: list[int]) -> TimedFrames:
    """Frames from a clean start at or before the first wanted one, without decoding what lies before.

    Containers seek by decoding time or by bytes, so a seek may land too late, or on frames whose references lie
    before it: then the next try starts earlier, the last one at the beginning of the file.
    """
    for lead_s in _LEADS_S if pts else ():
        container, stream = source.open_video()
        try:
            container.seek(pts[0] - math.ceil(lead_s / stream.time_base), stream=stream)
        except av.error.FFmpegError:
            continue
        frames = _timed(container, stream)
        head = next(frames, None)
        if head and head[1].key_frame and head[0] <= pts[0]:
            return chain([head], frames)
    return _timed(*source.open_video())


def _chosen(frames: TimedFrames, pts: list[int]) -> Iterator[tuple[int, VideoFrame]]:
    """For every wanted timestamp the frame that has it."""
    position = 0
    size: tuple[int, int] | None = None
    for time, frame in frames:
        if size not in (None, (frame.width, frame.height)):
            raise MediaError("damaged", f"the picture's size changes to {frame.width} x {frame.height}")
        size = frame.width, frame.height
        while position < len(pts) and pts[position] == time:
            yield position, frame
            position += 1
        if position == len(pts):
            return
        if pts[position] < time:
            break
    if pts:
        raise MediaError("damaged", f"the frame with timestamp {pts[position]} cannot be decoded")


def _quarter_turns(frame: VideoFrame) -> int:
    """Counterclockwise quarter turns that bring the frame upright."""
    return int(round(frame.rotation / 90) % 4)


def _refuse_what_needs_conversion(frame: VideoFrame) -> None:
    """What would pass as a picture and is none that later stages understand."""
    if frame.interlaced_frame:
        remedy = "ffmpeg -i IN -vf bwdif=send_frame OUT"
        raise MediaError("interlaced", f"its frames hold two instants each; first: {remedy}")
    if frame.color_trc in _HDR_CURVES:
        found = _HDR_CURVES[frame.color_trc]
        raise MediaError("high_dynamic_range", f"its brightness is coded by {found}; convert it to BT.709 first")


def _square_size(frame: VideoFrame, pixel_aspect: Fraction) -> tuple[int, int]:
    """Width and height of the stored picture once its pixels are square; its height is kept."""
    return max(round(frame.width * pixel_aspect), 1), frame.height


def _whole(frame: VideoFrame, size: Sequence[int] | None, pixel_aspect: Fraction) -> np.ndarray:
    turns = _quarter_turns(frame)
    if size is None and pixel_aspect != 1:
        size = _square_size(frame, pixel_aspect)[:: -1 if turns % 2 else 1]
    if size is None:
        rgb = frame.to_ndarray(format="rgb24", threads=1)
    else:
        width, height = size[::-1] if turns % 2 else size
        rgb = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA", threads=1)
    return np.ascontiguousarray(np.rot90(rgb, turns))


def _crop(planar: VideoFrame, original: VideoFrame, box: Box, size: int) -> VideoFrame:
    """One crop of a box of the stored picture, upright: each plane resampled on its own."""
    turns, (x1, y1, x2, y2) = _quarter_turns(original), box
    chroma_box = (x1 / 2, y1 / 2, x2 / 2, y2 / 2)
    luma = _resampled(planar.planes[0], box, size)
    chroma = [_resampled(plane, chroma_box, size // 2) for plane in planar.planes[1:]]
    packed = np.concatenate([np.rot90(part, turns).ravel() for part in (luma, *chroma)])
    crop = VideoFrame.from_ndarray(packed.reshape(-1, size), format=planar.format.name)  # (1.5 size, size)
    crop.colorspace, crop.color_range = planar.colorspace, planar.color_range
    return crop


def _as_pixels(crop: VideoFrame, pixels: str) -> np.ndarray:
    is_ours = crop.format.name == "yuv420p" and crop.colorspace in _BT601 and crop.color_range != _FULL_RANGE
    if pixels == "yuv420p" and not is_ours:
        crop = crop.reformat(format=pixels, dst_colorspace="ITU601", dst_color_range="MPEG", threads=1)
    return np.asarray(crop.to_ndarray(format=pixels, threads=1))


def _as_stored(box: Box, frame: VideoFrame, pixel_aspect: Fraction) -> Box:
    """A box of the upright picture with square pixels in the coordinates of the stored one."""
    width, height = _square_size(frame, pixel_aspect)
    x1, y1, x2, y2 = box
    x1, y1, x2, y2 = (
        (x1, y1, x2, y2),
        (width - y2, x1, width - y1, x2),
        (width - x2, height - y2, width - x1, height - y1),
        (y1, height - x2, y2, height - x1),
    )[_quarter_turns(frame)]
    stretch = width / frame.width
    return x1 / stretch, y1, x2 / stretch, y2


def _resampled(plane: VideoPlane, box: Box, size: int) -> np.ndarray:
    """A box of a plane at ``size`` x ``size``, uint8."""
    x1, y1, x2, y2 = box
    if x1 >= 0 and y1 >= 0 and x2 <= plane.width and y2 <= plane.height:
        image = Image.frombuffer("L", (plane.width, plane.height), plane, "raw", "L", plane.line_size, 1)
    else:
        pixels = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        margin = math.ceil(max(x2 - x1, y2 - y1) / size) + 1  # what the filter reaches
        left, top = math.floor(x1) - margin, math.floor(y1) - margin
        columns = np.arange(left, math.ceil(x2) + margin).clip(0, plane.width - 1)
        rows = np.arange(top, math.ceil(y2) + margin).clip(0, plane.height - 1)
        image = Image.fromarray(pixels[rows[:, None], columns])
        box = (x1 - left, y1 - top, x2 - left, y2 - top)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
