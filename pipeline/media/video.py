"""Video inside the sandbox: frame times, whole frames and crops of one source."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import chain

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

from pipeline.media.colours import in_our_colours
from pipeline.media.damage import Watch, overheard
from pipeline.media.kept import BYTE_PLANES, Box, Cell, KeptFrames, Picture, Stored, of_cell, rows_of
from pipeline.media.sandbox import MISSING, Answer, MediaError
from pipeline.media.source import MediaSource, decoded, origin_s, packets

TimedFrames = Iterator[tuple[int, VideoFrame]]
Decode = Callable[[InputContainer, VideoStream], Iterator[VideoFrame]]

_LEADS_S = (0, 2, 10, 60)  # how far before a wanted frame to look for a keyframe, one try after the other
_NEXT_KEYFRAME_S = 30  # longest wait for one behind a span
_TAIL_S = 2  # how far behind a span to decode for one
_HIDDEN_FRAMES = ("vp8",)  # codecs whose packets may hold a frame that is never shown
_HDR_CURVES = {16: "PQ (SMPTE ST 2084)", 18: "HLG (ARIB STD-B67)"}
_EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT  # the same with and without vector instructions
_EXACT_MEANS, _EXACT_TRIANGLE = Interpolation.AREA | _EXACT, Interpolation.BILINEAR | _EXACT
_NOTHING = np.empty(0, np.uint8)
_AS_PIXELS: dict[str, Callable[[VideoFrame], np.ndarray]] = {
    "yuv420p": in_our_colours,
    "rgb24": lambda crop: np.asarray(crop.to_ndarray(format="rgb24", threads=1)),
}


def read_info(source: MediaSource) -> Iterator[Answer]:
    """Size, rotation and codecs, as the first frame that can be decoded shows them."""
    container, stream = source.open_video()
    _, frame = _first(container, stream)
    _refuse_what_needs_conversion(frame)
    stored, sound = Stored.of(frame, source.pixel_aspect), container.streams.best("audio")
    width, height = stored.square_size[:: -1 if stored.turns % 2 else 1]
    facts = {
        "width": width,
        "height": height,
        "rotation_deg": 90 * stored.turns,
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


def read_times_around(source: MediaSource, start_s: str, end_s: str) -> Iterator[Answer]:
    """Timestamps and keyframes around a span, see `SourceReader.times_around`."""
    container, stream = source.open_video()
    origin = origin_s(container)
    first, last = (math.floor((Fraction(time_s) + origin) / stream.time_base) for time_s in (start_s, end_s))
    found = _times_around(source, first, last)
    if found is None:  # packets do not tell: all frames of the file do
        ((header, pts),) = read_frame_times(source)
        before, after = np.searchsorted(pts, [first, last], side="right")
        some = pts[max(before - 1, 0) : after + 1]
        yield header, np.stack([some, np.zeros_like(some)])
        return
    if not found.size:
        raise MediaError("damaged", f"no frame from {float(Fraction(start_s)):.3f} s on")
    yield {"time_base": str(stream.time_base), "origin_s": str(origin)}, found


def read_frames(
    source: MediaSource, pts: list[int], size: Sequence[int] | None, keyframes: bool = False
) -> Iterator[Answer]:
    """Whole frames as RGB, see `SourceReader.frames`."""
    last, rgb, whole = None, _NOTHING, _Whole(size, source.pixel_aspect)
    for position, frame in _chosen(_from(source, pts, "NONKEY" if keyframes else "DEFAULT"), pts):
        if frame is not last:
            last, rgb = frame, whole.rgb(frame)
        yield {"position": position}, rgb


def read_scan(
    source: MediaSource,
    pts: list[int],
    thumb: Sequence[int],
    looked_at: Sequence[int],
    size: Sequence[int],
    watched: bool = False,
) -> Iterator[Answer]:
    """Small frames, each followed by a larger one where it is wanted, see `SourceReader.scan`."""
    source.kept = KeptFrames(source.limits.kept_bytes)
    watched = watched and source.gpu is None  # a GPU complains of nothing
    frames = _watched(source, pts) if watched else _from(source, pts)
    little, larger, wanted = _Whole(thumb, source.pixel_aspect), _Whole(size, source.pixel_aspect), set(looked_at)
    for position, frame in _chosen(frames, pts):
        source.kept.add(pts[position], frame, source.pixel_aspect)
        yield {"position": position}, little.rgb(frame)
        if position in wanted:
            yield {"position": position}, larger.rgb(frame)
    if watched:
        _spend(frames)


def read_glances(source: MediaSource, pts: list[int], size: Sequence[int]) -> Iterator[Answer]:
    """Single frames, see `SourceReader.glances`."""
    whole = _Whole(size, source.pixel_aspect)
    for position, time in enumerate(pts):
        near: VideoFrame | None = None
        for at, frame in _from(source, [time], "NONREF"):
            near = frame
            if at >= time:
                break
        if near is None:
            raise MediaError("damaged", f"no frame around timestamp {time} can be decoded")
        yield {"position": position}, whole.rgb(near)


def read_crops(source: MediaSource, pts: list[int], boxes: list[list[Box]], size: int, pixels: str) -> Iterator[Answer]:
    """Square crops, see `SourceReader.crops`."""
    kept = source.kept
    is_kept = [kept.hold(time, of_frame, size) for time, of_frame in zip(pts, boxes, strict=True)]
    missing = [time for time, is_here in zip(pts, is_kept, strict=True) if not is_here]
    decoded_again = _chosen(_from(source, missing), missing) if missing else iter(())
    croppers = [_Cropper(size) for _ in boxes[0]] if boxes else []
    for position, time in enumerate(pts):
        if is_kept[position]:
            picture = kept.picture(time)
        else:
            _, frame = next(decoded_again)
            picture = Picture.of(frame, Stored.of(frame, source.pixel_aspect))
        crops = (cropper.crop(picture, box) for cropper, box in zip(croppers, boxes[position], strict=True))
        yield {"position": position}, np.stack([_AS_PIXELS[pixels](crop) for crop in crops])
        if time not in pts[position + 1 : position + 2]:
            kept.drop(time)


def read_damage(source: MediaSource, pts: list[int]) -> Iterator[Answer]:
    """What is wrong with frames, see `SourceReader.damage`."""
    if (pts[0], pts[-1]) != source.watched:
        gpu, source.gpu = source.gpu, None
        _spend(_watched(source, pts))
        source.gpu = gpu
    yield {}, np.array([source.damage.get(time, MISSING) for time in pts], np.uint8)


def _watched(source: MediaSource, pts: list[int]) -> TimedFrames:
    """`_from`, and what is behind as far as it tells of these frames; when all is read, ``source.damage`` is known."""
    with overheard() as said:
        watch = Watch(said, pts[0], source.file)
        yield from _looked_at(source, watch, pts[0], pts[-1])
        if watch.begins_badly:  # of an open group decoders complain where they did not begin before it
            begin, watch = watch.begin, Watch(said, pts[0], source.file)
            _spend(_looked_at(source, watch, begin - 1, pts[-1]))
    source.watched, source.damage = (pts[0], pts[-1]), watch.kinds()


def _looked_at(source: MediaSource, watch: Watch, start: int, last: int) -> TimedFrames:
    for time, frame in _of_one_size(_from(source, [start], decode=watch.decoded)):
        watch.look(time, frame)
        yield time, frame
        behind_s = (time - last) * (frame.time_base or 0)
        if behind_s > 0 and (watch.is_told or frame.key_frame or behind_s > _TAIL_S):
            break  # the keyframe behind the span tells whether what came before it was as it should be


def _spend(frames: TimedFrames) -> None:
    for _ in frames:
        pass


def _times_around(source: MediaSource, first: int, last: int) -> np.ndarray | None:
    """Timestamps (0, frame), rising, and whether each is a keyframe's (1, frame); None where packets do not tell.

    From the keyframe at or before ``first`` to the one after ``last``, without a look at the rest of the file.
    """
    seen: dict[int, bool] = {}
    next_key: float = math.inf
    wait = 0
    for lead_s in (*_LEADS_S, None):
        container, stream = source.open_video()
        context, wait = stream.codec_context, math.ceil(_NEXT_KEYFRAME_S / stream.time_base)
        if context.codec.canonical_name in _HIDDEN_FRAMES or (_is_avi(container) and context.has_b_frames):
            return None
        try:
            if lead_s is not None:
                container.seek(first - math.ceil(lead_s / stream.time_base), stream=stream)
        except (av.error.FFmpegError, OSError):  # what a damaged index points to may be no place in a file
            continue
        seen, next_key = {}, math.inf
        for packet in packets(container, stream):
            if not packet.size or packet.is_discard or not (seen or packet.is_keyframe):
                continue
            if packet.pts is None or packet.pts in seen:
                return None
            if not seen and lead_s is not None and packet.pts > first:
                break  # landed too late
            seen[packet.pts] = packet.is_keyframe
            if packet.is_keyframe and packet.pts > last:
                next_key = min(next_key, packet.pts)
            if packet.dts is not None and packet.dts > min(next_key, last + wait):
                break  # none that comes later is shown earlier
        if seen:
            break
    start = next((pts for pts, key in seen.items() if key), 0)  # what is shown before it leans on what lies before
    rows = sorted((pts, int(key)) for pts, key in seen.items() if start <= pts <= min(next_key, last + wait))
    return np.array(rows, np.int64).reshape(-1, 2).T


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


def _timed(container: InputContainer, stream: VideoStream, decode: Decode = decoded) -> TimedFrames:
    """Decoded frames with their timestamps, rising."""
    latest: float = -math.inf
    is_avi = _is_avi(container)
    for frame in decode(container, stream):
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


def _from(source: MediaSource, pts: list[int], skipped: str = "DEFAULT", decode: Decode = decoded) -> TimedFrames:
    """Frames from a clean start at or before the first wanted one, without decoding what lies before.

    ``skipped`` are frames that are not decoded: libav's NONREF, on which no other leans, or NONKEY. ``decode`` begins
    anew with every try.

    Containers seek by decoding time or by bytes, so a seek may land too late, or on frames whose references lie
    before it: then the next try starts earlier, the last one at the beginning of the file.
    """
    for lead_s in _LEADS_S if pts else ():
        container, stream = source.open_video()
        try:
            container.seek(pts[0] - math.ceil(lead_s / stream.time_base), stream=stream)
        except (av.error.FFmpegError, OSError):  # what a damaged index points to may be no place in a file
            continue
        if not (_is_avi(container) and stream.codec_context.has_b_frames):  # whose frames are told by counting
            stream.codec_context.skip_frame = skipped
        frames = _timed(container, stream, decode)
        head = next(frames, None)
        if head and head[1].key_frame and head[0] <= pts[0]:
            return chain([head], frames)
    return _timed(*source.open_video(), decode)


def _chosen(frames: TimedFrames, pts: list[int]) -> Iterator[tuple[int, VideoFrame]]:
    """For every wanted timestamp the frame that has it."""
    position = 0
    for time, frame in _of_one_size(frames):
        while position < len(pts) and pts[position] == time:
            yield position, frame
            position += 1
        if position == len(pts):
            return
        if pts[position] < time:
            break
    if pts:
        raise MediaError("damaged", f"the frame with timestamp {pts[position]} cannot be decoded")


def _of_one_size(frames: TimedFrames) -> TimedFrames:
    size: tuple[int, int] | None = None
    for time, frame in frames:
        if size not in (None, (frame.width, frame.height)):
            raise MediaError("damaged", f"the picture's size changes to {frame.width} x {frame.height}")
        size = frame.width, frame.height
        yield time, frame


def _refuse_what_needs_conversion(frame: VideoFrame) -> None:
    """What would pass as a picture and is none that later stages understand."""
    if frame.interlaced_frame:
        remedy = "ffmpeg -i IN -vf bwdif=send_frame OUT"
        raise MediaError("interlaced", f"its frames hold two instants each; first: {remedy}")
    if frame.color_trc in _HDR_CURVES:
        found = _HDR_CURVES[frame.color_trc]
        raise MediaError("high_dynamic_range", f"its brightness is coded by {found}; convert it to BT.709 first")


class _Whole:
    """Whole frames of a film as RGB, upright and with square pixels; in one size, or each in its own."""

    def __init__(self, size: Sequence[int] | None, pixel_aspect: Fraction) -> None:
        self._size, self._pixel_aspect = size, pixel_aspect
        self._shrinker, self._converter = VideoReformatter(), VideoReformatter()  # with filters made for one frame

    def rgb(self, frame: VideoFrame) -> np.ndarray:
        """The pixels (height, width, 3) of a frame."""
        stored, size = Stored.of(frame, self._pixel_aspect), self._size
        turns = stored.turns
        if size is None and stored.pixel_aspect != 1:
            size = stored.square_size[:: -1 if turns % 2 else 1]
        if size is None:
            rgb = self._converter.reformat(frame, format="rgb24", threads=1)
        else:
            width, height = size[::-1] if turns % 2 else size
            how = Interpolation.AREA
            if frame.format.name in BYTE_PLANES:  # in two thirds of the time of shrinking and converting in one step
                how = _EXACT_MEANS
                frame = self._shrinker.reformat(frame, width, height, frame.format.name, interpolation=how, threads=1)
            rgb = self._converter.reformat(frame, width, height, "rgb24", interpolation=how, threads=1)
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), turns))


class _Cropper:
    """Cuts one box out of frame after frame: each plane resampled on its own by a triangle filter.

    Boxes in whole blocks of 2 x 2 of the stored pixels, as of heads that keep their place, by libswscale; others, which
    it cannot cut, by Pillow at five times the cost. The two differ by rounding (57 dB and more), and where a sharp edge
    crosses the crop's outermost row: Pillow sees what lies beyond it.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._scaler = VideoReformatter()  # knows its filters as long as the box keeps its size

    def crop(self, picture: Picture, upright: Box) -> VideoFrame:
        """The crop of a box of the upright picture."""
        size, stored = self._size, picture.stored
        box = x1, y1, x2, y2 = stored.box(upright)
        inside = min(x1, y1) >= 0 and x2 <= stored.width and y2 <= stored.height
        if inside and all(edge % 2 == 0 for edge in box):
            crop = self._scaled(picture, (int(x1), int(y1), int(x2), int(y2)))
            parts = of_cell(crop, (0, 0, size, size)) if stored.turns else []
        else:
            halves = (x1 / 2, y1 / 2, x2 / 2, y2 / 2)
            luma, *chroma = picture.planar().planes
            parts = [_resampled(luma, box, size), *(_resampled(plane, halves, size // 2) for plane in chroma)]
        if parts:
            packed = np.concatenate([np.rot90(part, stored.turns).ravel() for part in parts])
            crop = VideoFrame.from_ndarray(packed.reshape(-1, size), format=picture.format)  # (1.5 size, size)
        crop.colorspace, crop.color_range = picture.colours
        return crop

    def _scaled(self, picture: Picture, cell: Cell) -> VideoFrame:
        x1, y1, x2, y2 = cell
        cut = VideoFrame(x2 - x1, y2 - y1, picture.format)
        for place, part in zip(of_cell(cut, (0, 0, cut.width, cut.height)), picture.cell(cell), strict=True):
            place[:] = part
        return self._scaler.reformat(cut, self._size, self._size, interpolation=_EXACT_TRIANGLE, threads=1)


def _resampled(plane: VideoPlane, box: Box, size: int) -> np.ndarray:
    """A box of a plane at ``size`` x ``size``, uint8."""
    x1, y1, x2, y2 = box
    if x1 >= 0 and y1 >= 0 and x2 <= plane.width and y2 <= plane.height:
        image = Image.frombuffer("L", (plane.width, plane.height), plane, "raw", "L", plane.line_size, 1)
    else:
        margin = math.ceil(max(x2 - x1, y2 - y1) / size) + 1  # what the filter reaches
        left, top = math.floor(x1) - margin, math.floor(y1) - margin
        columns = np.arange(left, math.ceil(x2) + margin).clip(0, plane.width - 1)
        rows = np.arange(top, math.ceil(y2) + margin).clip(0, plane.height - 1)
        image = Image.fromarray(rows_of(plane)[rows[:, None], columns])
        box = (x1 - left, y1 - top, x2 - left, y2 - top)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
