"""The sandboxed reader against ffmpeg's own decoder, on generated media of many containers, codecs and frame rates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from hashlib import sha256
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from pipeline.clock import SAMPLE_RATE_HZ, Span, map_to_grid
from pipeline.media.colours import in_our_colours
from pipeline.media.reader import MediaError, ReadingLimits, SourceInfo, SourceReader
from pipeline.media.source import MediaSource
from pipeline.media.video import read_crops, read_frame_times, read_frames, read_scan
from tests.labs.media import Recipe, clicks, make_source, read_number, reference_frames, remux

X264 = {"vcodec": "libx264", "pix_fmt": "yuv420p", "preset": "veryfast", "g": 20}
OPEN_GOP = {**X264, "x264-params": "open-gop=1:bframes=3:b-adapt=0"}
X265 = {"vcodec": "libx265", "preset": "ultrafast", "x265-params": "log-level=error:keyint=20"}
VP8 = {"vcodec": "libvpx", "cpu-used": 5, "g": 20, "auto-alt-ref": 1, "lag-in-frames": 16, "b:v": "300k"}
VP9 = {"vcodec": "libvpx-vp9", "pix_fmt": "yuv420p", "deadline": "realtime", "cpu-used": 8, "g": 20}
AAC = {"acodec": "aac", "b:a": "192k"}
PCM = {"acodec": "pcm_s16le"}
SLOWED = "(N+0.4*mod(N,3)+4*gt(N,40))/30/TB"  # uneven steps, and a pause of five frames

RECIPES = {
    "23.976 fps": Recipe(".mp4", X264, AAC, fps=Fraction(24_000, 1001)),
    "25 fps, 48 kHz": Recipe(".mp4", X264, AAC, sample_rate_hz=48_000),
    "29.97 fps, 16 kHz": Recipe(".mp4", X264, AAC, fps=Fraction(30_000, 1001), sample_rate_hz=16_000),
    "30 fps, PCM": Recipe(".mov", X264, PCM, fps=Fraction(30), num_frames=90),
    "50 fps": Recipe(".mp4", X264, AAC, fps=Fraction(50), num_frames=140),
    "59.94 fps": Recipe(".mp4", X264, AAC, fps=Fraction(60_000, 1001), num_frames=160),
    "variable, MP4": Recipe(".mp4", X264, AAC, fps=Fraction(30), num_frames=80, times=SLOWED),
    "variable, Matroska": Recipe(".mkv", X264, PCM, Fraction(30), 80, sample_rate_hz=48_000, times=SLOWED),
    "ten bits": Recipe(".mp4", {**X264, "pix_fmt": "yuv420p10le"}, AAC),
    "HEVC, ten bits, Matroska": Recipe(".mkv", {**X265, "pix_fmt": "yuv420p10le"}, AAC, sample_rate_hz=48_000),
    "open GOP": Recipe(".mp4", OPEN_GOP, AAC),
    "open GOP, MPEG-TS": Recipe(".ts", {**OPEN_GOP, "output_ts_offset": 100}, AAC, fps=Fraction(30_000, 1001)),
    "AVI": Recipe(".avi", {"vcodec": "mpeg4", "q:v": 3}, PCM, sample_rate_hz=16_000),
    "AVI with B-frames": Recipe(".avi", {**X264, "bf": 3}, {}),
    "VP9": Recipe(".webm", VP9, {"acodec": "libopus"}, sample_rate_hz=48_000),
    "VP8 with hidden frames": Recipe(".webm", VP8, {"acodec": "libvorbis"}),
}
STEADY = [name for name, recipe in RECIPES.items() if not recipe.times]
CLICKING = [name for name, recipe in RECIPES.items() if recipe.audio]

Readers = Callable[[str], SourceReader]


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    """The reader of a recipe's source by the recipe's name; source and reader are made on first use."""
    folder, made = tmp_path_factory.mktemp("lab"), {}

    def reader_of(name: str) -> SourceReader:
        if name not in made:
            made[name] = SourceReader(make_source(folder / str(len(made)), RECIPES[name]))
        return made[name]

    yield reader_of
    for reader in made.values():
        reader.close()


@pytest.mark.parametrize("name", RECIPES)
def test_every_frame_has_the_time_and_the_pixels_that_ffmpeg_gives_it(readers: Readers, name: str) -> None:
    reader = readers(name)
    seconds, frames = reference_frames(reader.path)
    times = reader.frame_times()
    read = [rgb for _, rgb in reader.frames(times.pts)]
    assert len(times.pts) == len(seconds)
    assert [read_number(rgb) for rgb in read] == list(range(RECIPES[name].num_frames))
    for k, second in enumerate(seconds):
        assert abs(times.time_s(k) - second) < times.time_base  # ffmpeg rounds the origin to a tick, we do not
    exact = "ten bits" not in name  # libav's scaler rounds ten bits in more than one way
    for ours, theirs in zip(read, frames, strict=True):
        assert np.array_equal(ours, theirs) if exact else np.abs(ours.astype(int) - theirs).mean() < 1


@pytest.mark.parametrize("name", RECIPES)
def test_grid_frames_show_the_nearest_source_frame(readers: Readers, name: str) -> None:
    times = readers(name).frame_times()
    seconds = [times.time_s(i) for i in range(len(times.pts))]
    for start_s in (Fraction(1, 3), Fraction(617, 1000)):
        span = Span(start_s, start_s + Fraction(3, 2))
        for k, rgb in readers(name).frames(map_to_grid(span, times).pts):
            distance_s = [abs(second - span.frame_time(k)) for second in seconds]
            number = read_number(rgb)
            assert number == distance_s.index(min(distance_s))
            assert name not in STEADY or distance_s[number] <= 1 / (2 * RECIPES[name].fps) + times.time_base


@pytest.mark.parametrize("name", CLICKING)
def test_clicks_come_out_at_their_sample(readers: Readers, name: str) -> None:
    first_frame_s = readers(name).frame_times().time_s(0)
    for start_s in (Fraction(0), Fraction(1, 7), Fraction(11, 10)):
        sound = readers(name).audio(Span(start_s, start_s + Fraction(3, 2)))
        expected = expected_sound(name, start_s - first_frame_s, len(sound))
        match = [float(np.dot(np.roll(sound, -lag), expected)) for lag in range(-100, 101)]
        assert abs(int(np.argmax(match)) - 100) <= 1


def expected_sound(name: str, start_s: Fraction, num_samples: int) -> np.ndarray:
    """The clicks of a recipe, from a time that counts from its first frame."""
    return clicks(np.arange(num_samples) / SAMPLE_RATE_HZ + float(start_s), RECIPES[name].click_times_s)


@pytest.mark.parametrize("name", RECIPES)
def test_the_times_around_a_span_are_those_of_the_whole_source(readers: Readers, name: str) -> None:
    whole = readers(name).frame_times()
    for start_s, end_s in ((Fraction(0), Fraction(1)), (Fraction(3, 2), Fraction(9, 4)), (Fraction(1), Fraction(99))):
        span = Span(start_s, min(end_s, whole.time_s(-1)))
        times, is_key = readers(name).times_around(span)
        first = int(np.flatnonzero(whole.pts == times.pts[0])[0])
        assert np.array_equal(times.pts, whole.pts[first : first + len(times.pts)])
        assert times.time_s(0) <= max(span.start_s, whole.time_s(0)) and times.time_s(-1) >= span.end_s
        assert np.array_equal(map_to_grid(span, times).pts, map_to_grid(span, whole).pts)
        assert is_key[0] or not is_key.any()


@pytest.mark.parametrize("name", RECIPES)
def test_keyframes_alone_are_the_pictures_that_they_are_among_all_frames(readers: Readers, name: str) -> None:
    whole = readers(name).frame_times()
    times, is_key = readers(name).times_around(Span(Fraction(0), whole.time_s(-1)))
    if not is_key.any():
        assert name in ("AVI with B-frames", "VP8 with hidden frames")  # packets do not tell
        return
    read = [rgb.copy() for _, rgb in readers(name).frames(times.pts[is_key], keyframes=True)]
    among_all = [rgb for _, rgb in readers(name).frames(times.pts[is_key])]
    assert np.array_equal(read, among_all) and len(read) >= 2


@pytest.mark.parametrize("name", RECIPES)
def test_a_glance_is_a_frame_soon_after_its_time(readers: Readers, name: str) -> None:
    reader, times = readers(name), readers(name).frame_times()
    wanted = np.arange(0, len(times.pts) - 8, 7)
    info = reader.info()
    numbers = [read_number(rgb) for _, rgb in reader.glances(times.pts[wanted], (info.width, info.height))]
    assert all(0 <= number - index <= 8 for number, index in zip(numbers, wanted, strict=True))
    assert list(reader.glances(times.pts[:0], (info.width, info.height))) == []


@pytest.mark.parametrize("name", CLICKING)
def test_sound_that_need_not_be_exact_is_within_the_clock_of_its_container(readers: Readers, name: str) -> None:
    span = Span(Fraction(11, 10), Fraction(26, 10))
    exact, quick = (readers(name).audio(span, exact=exact) for exact in (True, False))
    match = [float(np.dot(np.roll(quick, -lag), exact)) for lag in range(-100, 101)]
    assert abs(int(np.argmax(match)) - 100) <= SAMPLE_RATE_HZ / 1000


def test_sound_at_44_1_khz_in_16_bits_is_copied_bit_by_bit(readers: Readers) -> None:
    sound = readers("30 fps, PCM").audio(Span(Fraction(1, 2), Fraction(3, 2)))
    expected = np.rint(expected_sound("30 fps, PCM", Fraction(1, 2), SAMPLE_RATE_HZ) * 30_000)
    assert np.array_equal(sound * 32_768, expected)


def test_sound_outside_the_track_is_silence(readers: Readers) -> None:
    sound = readers("30 fps, PCM").audio(Span(Fraction(-1), Fraction(5)))
    expected = expected_sound("30 fps, PCM", Fraction(-1), 6 * SAMPLE_RATE_HZ) * 30_000 / 32_768
    assert np.abs(sound - expected).max() < 1 / 32_768


def test_a_hole_in_the_packets_moves_nothing_behind_it(readers: Readers, tmp_path: Path) -> None:
    name = "open GOP, MPEG-TS"
    packets = readers(name).path.read_bytes()
    start, end = (round(len(packets) / 188 * part) * 188 for part in (0.45, 0.6))
    holed = tmp_path / "hole.ts"
    holed.write_bytes(packets[:start] + packets[end:])
    with SourceReader(holed) as reader:
        times = reader.frame_times()
        sound = reader.audio(Span(times.time_s(0), times.time_s(0) + Fraction(5, 2)))
        last = [read_number(rgb) for _, rgb in reader.frames(times.pts[-10:])]
    assert len(times.pts) < RECIPES[name].num_frames - 5
    assert last == list(range(65, 75))
    assert times.time_s(-1) - times.time_s(0) == pytest.approx(74 * 1001 / 30_000, abs=1e-4)
    second_half = slice(-SAMPLE_RATE_HZ // 2, None)  # holds the last click, which lies behind the hole
    expected = expected_sound(name, Fraction(0), len(sound))[second_half]
    assert np.corrcoef(sound[second_half], expected)[0, 1] > 0.9


def test_the_channels_are_averaged(tmp_path: Path) -> None:
    recipe = Recipe(".mkv", X264, {**PCM, "af": "pan=stereo|c0=c0|c1=0*c0"})
    with SourceReader(make_source(tmp_path / "left", recipe)) as reader:
        sound = reader.audio(Span(Fraction(0), Fraction(2)))
    expected = clicks(np.arange(len(sound)) / SAMPLE_RATE_HZ, recipe.click_times_s) * 15_000 / 32_768
    assert np.abs(sound - expected).max() < 1 / 32_768


def test_a_rotated_source_comes_upright(readers: Readers, tmp_path: Path) -> None:
    stored = readers("25 fps, 48 kHz")
    whole = next(rgb for _, rgb in stored.frames(stored.frame_times().pts[:1]))
    for degrees in (90, 180, 270):
        path = remux(stored.path, tmp_path / f"{degrees}.mp4", "-display_rotation", str(degrees))
        upright = reference_frames(path)[1][0]
        info, frame, error = looked_at(path, 0, upright)
        assert (info.width, info.height, info.rotation_deg) == (*upright.shape[1::-1], degrees)
        assert np.array_equal(frame, upright) and np.array_equal(frame, np.rot90(whole, degrees // 90))
        assert error < 2


def looked_at(path: Path, number: int, upright: np.ndarray) -> tuple[SourceInfo, np.ndarray, float]:
    """What the reader says of a film and of one frame, and how far a crop is from one of the upright picture."""
    boxes = np.array([[[20.5, 8.25, 90.5, 78.25], [-20, 30, 40, 90]]])
    with SourceReader(path) as reader:
        info, pts = reader.info(), reader.frame_times().pts[[number]]
        ((_, frame),) = reader.frames(pts)
        ((_, small),) = reader.frames(pts, size=(info.width // 2, info.height // 2))
        ((_, crops),) = reader.crops(pts, boxes, 70)
    assert small.shape == (info.height // 2, info.width // 2, 3)
    return info, frame, float(np.abs(crops[0].astype(int) - resampled(upright, boxes[0, 0], 70)).mean())


def test_pixels_that_are_not_square_are_made_square(readers: Readers, tmp_path: Path) -> None:
    narrow = Recipe(".mp4", {**X264, "crf": 5, "aspect": "16/9"}, size=(96, 108), num_frames=5)
    for path in (
        make_source(tmp_path / "narrow", narrow),
        remux(tmp_path / "narrow.mp4", tmp_path / "turned.mp4", "-display_rotation", "90"),
    ):
        upright = np.asarray(_widened(reference_frames(path)[1][2], by_height="turned" in path.name))
        info, frame, error = looked_at(path, 2, upright)
        assert (info.width, info.height) == upright.shape[1::-1] == ((108, 192) if info.rotation_deg else (192, 108))
        assert frame.shape == upright.shape and np.abs(frame.astype(int) - upright).mean() < 4
        assert error < 4


def _widened(frame: np.ndarray, *, by_height: bool) -> Image.Image:
    """A frame whose stored pixels are twice as wide as high, as a screen shows it."""
    height, width = frame.shape[:2]
    size = (width, 2 * height) if by_height else (2 * width, height)
    return Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"flags": "+ildct+ilme", "x264-params": "tff=1"}, "interlaced: .* bwdif"),
        ({"x264-params": "transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc"}, "high_dynamic_range: .*PQ"),
        ({"x264-params": "transfer=arib-std-b67:colorprim=bt2020:colormatrix=bt2020nc"}, "high_dynamic_.*HLG"),
    ],
)
def test_pictures_that_would_be_taken_for_others_are_refused(tmp_path: Path, options: dict, reason: str) -> None:
    source = make_source(tmp_path / "other", Recipe(".mp4", {**X264, **options}, num_frames=5))
    with SourceReader(source) as reader, pytest.raises(MediaError, match=reason):
        reader.info()


def resampled(frame: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """A crop as Pillow makes it from the RGB frame."""
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR, box=tuple(box)), dtype=int)


def test_crops_are_those_of_the_rgb_frame_resampled(readers: Readers) -> None:
    reader = readers("30 fps, PCM")
    pts = reader.frame_times().pts[[3, 3, 40]]
    boxes = np.array([[[3.2, 10.7, 63.2, 70.7], [90, 0, 190, 100]]] * 3) + np.arange(3)[:, None, None] * 0.4
    frames = [rgb for _, rgb in reader.frames(pts)]
    for position, crops in reader.crops(pts, boxes, 64):
        assert crops.shape == (2, 64, 64, 3)
        for crop, box in zip(crops, boxes[position], strict=True):
            assert np.abs(crop - resampled(frames[position], box, 64)).mean() < 4  # edges of colour differ


def test_a_box_that_moves_by_fractions_of_a_pixel_moves_the_picture_evenly(readers: Readers) -> None:
    reader = readers("30 fps, PCM")
    steps = np.arange(17) / 8
    boxes = np.array([[[4 + step, 8, 36 + step, 40]] for step in steps])
    pts = np.repeat(reader.frame_times().pts[[2]], len(steps))  # frame 2 shows one white block, at 12 to 24 px
    columns = [crops[0].mean(axis=(0, 2)) for _, crops in reader.crops(pts, boxes, 64)]
    centres = [np.dot(column, np.arange(64) + 0.5) / column.sum() for column in columns]
    assert np.array(centres) == pytest.approx((18 - 4 - steps) * 2, abs=0.1)
    assert np.diff(centres) == pytest.approx(-0.25, abs=0.02)


def test_shrinking_averages_instead_of_picking_pixels(tmp_path: Path) -> None:
    source = make_source(tmp_path / "fine", Recipe(".mkv", {**X264, "crf": 0}, num_frames=3, size=(960, 480)))
    with SourceReader(source) as reader:
        pts = reader.frame_times().pts
        number_two = np.array([[[0, 20, 200, 220]]] * 3)
        crops = [crops[0] for _, crops in reader.crops(pts, number_two, 4)]
    # Frame 1 has one white block of 60 px in 200: one of 3.3 columns, and no pixel of the crop may miss its share.
    assert crops[1].mean() == pytest.approx(255 * 60 / 200, abs=6)


def test_outside_the_picture_its_edge_is_repeated(readers: Readers) -> None:
    reader = readers("30 fps, PCM")
    pts = reader.frame_times().pts[:1]
    boxes = np.array([[[-40.0, 50, 40, 130], [150, 60, 230, 140], [-300, 60, -260, 100]]])
    ((_, crops),) = reader.crops(pts, boxes, 80)
    ((_, frame),) = reader.frames(pts)
    assert np.abs(crops[0, 10:50, :38].astype(int) - frame[60:100, :1]).max() < 12
    assert np.abs(crops[1, :40, 44:].astype(int) - frame[60:100, -1:]).max() < 12
    assert np.abs(crops[2].astype(int) - frame[80, 0]).max() < 12


def cropped_after_keeping(
    path: Path, regions: list[list[float]] | None, kept_bytes: int, boxes: np.ndarray
) -> tuple[np.ndarray, int]:
    """Crops (frame, box, 32, 32, 3) of 30 frames after a reading that kept them, and how many of them it could keep.

    The regions are told after five frames.
    """
    with path.open("rb", buffering=0) as file:
        source = MediaSource(file, ReadingLimits(memory_bytes=5 * kept_bytes))  # no limit outside of the child
        ((_, pts),) = read_frame_times(source)
        times = [int(time) for time in pts[:30]]
        for position, _ in enumerate(read_scan(source, times, (96, 54), (), (96, 54))):
            if position == 5:
                source.kept.regions = regions
        asked = np.repeat(boxes[None], len(times), axis=0).tolist()
        num_kept = sum(source.kept.hold(time, of_frame, 32) for time, of_frame in zip(times, asked, strict=True))
        crops = np.stack([crops for _, crops in read_crops(source, times, asked, 32, "rgb24")])
        assert not any(source.kept.hold(time, of_frame, 32) for time, of_frame in zip(times, asked, strict=True))
    return crops, num_kept


NEAR = [[10.0, 20, 101, 90], [20, 0, 400, 400]]  # regions of the upright picture


@pytest.mark.parametrize("kind", ["as it is", "ten bits", "turned", "wide pixels", "odd sides"])
def test_what_was_kept_gives_the_crops_of_what_is_decoded_anew(kind: str, readers: Readers, tmp_path: Path) -> None:
    path = readers("ten bits" if kind == "ten bits" else "30 fps, PCM").path
    if kind == "turned":
        path = remux(path, tmp_path / "turned.mp4", "-display_rotation", "90")
    elif kind == "wide pixels":
        path = make_source(tmp_path / "wide", Recipe(".mp4", {**X264, "aspect": "8/3"}, num_frames=30))
    elif kind == "odd sides":
        odd = {"vcodec": "ffv1", "pix_fmt": "yuv420p", "vf": "crop=191:107:0:0:exact=1"}
        path = make_source(tmp_path / "odd", Recipe(".mkv", odd, num_frames=30))
    inside = np.array([[20.5, 30.25, 60.5, 70.25], [24, 30, 64, 70], [80, 10, 95, 25], [70, 60, 500, 490]])
    anew, none_kept = cropped_after_keeping(path, None, 0, inside)
    assert none_kept == 0
    all_of_them, some = range(len(anew), len(anew) + 1), range(1, 20)
    for regions, kept_bytes, expected in (
        (None, 10**8, all_of_them),  # whole
        (None, 800_000, some),
        (NEAR, 10**8, all_of_them),
        (NEAR, 400_000, some),
        (NEAR[:1], 10**8, range(1)),  # of no use: the other boxes lie outside
    ):
        crops, num_kept = cropped_after_keeping(path, regions, kept_bytes, inside)
        assert num_kept in expected, (regions, kept_bytes)
        assert np.array_equal(crops, anew)


def test_a_scan_gives_the_pictures_of_two_sizes_that_frames_gives(readers: Readers) -> None:
    reader, looked_at = readers("30 fps, PCM"), np.array([0, 7, 29])
    pts = reader.frame_times().pts[:30]
    little, larger = ([rgb for _, rgb in reader.frames(pts, size)] for size in ((48, 27), (96, 54)))
    for position, (thumb, picture) in enumerate(reader.scan(pts, (48, 27), looked_at, (96, 54))):
        np.testing.assert_array_equal(thumb, little[position])
        assert (picture is None) == (position not in looked_at)
        if picture is not None:
            np.testing.assert_array_equal(picture, larger[position])
    assert position == 29


def test_crops_of_frames_that_were_kept_need_no_source(readers: Readers, tmp_path: Path) -> None:
    film = tmp_path / "film.mov"
    film.write_bytes(readers("30 fps, PCM").path.read_bytes())
    with SourceReader(film) as reader:
        pts = np.repeat(reader.frame_times().pts, 2)
        boxes = np.tile(np.array([[30.5, 20, 80.5, 70], [100, 10, 170, 80]]), (len(pts), 1, 1))
        decoded = [crops for _, crops in reader.crops(pts, boxes, 64, pixels="yuv420p")]
        for position, _ in enumerate(reader.scan(pts[::2], (96, 54), np.arange(3), (48, 27))):
            if position == 10:
                reader.keep_only(np.array([[10.0, 10, 100, 100], [90, 0, 192, 108]]))
        os.truncate(film, 0)
        kept = [crops for _, crops in reader.crops(pts, boxes, 64, pixels="yuv420p")]
        with pytest.raises(MediaError):
            list(reader.crops(pts, boxes, 64))  # what was cropped once is not kept any longer
    assert np.array_equal(kept, decoded)


CROPPED_AS_ON_AN_OLD_PROCESSOR = """
import ctypes, sys
from pathlib import Path
import av
from tests.pipeline.media.test_media import pixels_of
(library,) = (Path(av.__file__).parents[1] / "av.libs").glob("libavutil*")
ctypes.CDLL(str(library)).av_force_cpu_flags(0)
print(pixels_of(Path(sys.argv[1])))
"""


def pixels_of(path: Path) -> str:
    """A hash of crops in whole and in broken pixels, and of frames made smaller."""
    with path.open("rb", buffering=0) as file:
        source = MediaSource(file, ReadingLimits())
        ((_, pts),) = read_frame_times(source)
        times, boxes = [int(time) for time in pts[:3]], [[(20.0, 8.0, 110.0, 98.0), (3.3, 5.1, 60.3, 62.1)]] * 3
        pictures = [*read_crops(source, times, boxes, 64, "yuv420p"), *read_frames(source, times, (96, 54))]
        return sha256(b"".join(pixels.tobytes() for _, pixels in pictures)).hexdigest()


@pytest.mark.parametrize("matrix", ["smpte170m", "bt709"])
def test_pixels_do_not_depend_on_what_the_processor_can_do(matrix: str, tmp_path: Path) -> None:
    film = make_source(tmp_path / "film", Recipe(".mp4", {**X264, "colorspace": matrix}, num_frames=5))
    call = [sys.executable, "-c", CROPPED_AS_ON_AN_OLD_PROCESSOR, str(film)]
    assert subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip() == pixels_of(film)


def test_squares_in_whole_pixels_give_what_pillow_makes_of_the_same_planes(tmp_path: Path) -> None:
    lossless = {"vcodec": "ffv1", "pix_fmt": "yuv420p"}
    film = make_source(tmp_path / "film", Recipe(".mkv", lossless, num_frames=40, size=(960, 540)))
    with av.open(str(film)) as container:
        luma = list(container.decode(video=0))[37].to_ndarray()[:540]
    with SourceReader(film) as reader:
        pts = reader.frame_times().pts[[37]]
        for x1, y1, x2, y2 in [(0, 0, 540, 540), (202, 110, 448, 356), (700, 400, 730, 430)]:
            ((_, crops),) = reader.crops(pts, np.array([[[x1, y1, x2, y2]]], float), 128, pixels="yuv420p")
            expected = Image.fromarray(luma).resize((128, 128), Image.Resampling.BILINEAR, box=(x1, y1, x2, y2))
            difference = np.abs(crops[0, :128].astype(int) - np.asarray(expected))
            assert difference[1:-1, 1:-1].max() <= 1


def test_pixels_do_not_depend_on_the_number_of_threads(readers: Readers) -> None:
    path = readers("open GOP").path
    box = np.array([[[30.3, 5.1, 130.3, 105.1]]])
    results = []
    for threads in (1, 3):
        with SourceReader(path, ReadingLimits(threads=threads)) as reader:
            pts = reader.frame_times().pts[:30]
            results.append([crops for _, crops in reader.crops(pts, np.repeat(box, 30, axis=0), 64)])
            results[-1] += [rgb for _, rgb in reader.frames(pts, size=(96, 54))]
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_decoders_begin_no_frame_before_the_last_is_done() -> None:
    """Of damaged films libav conceals what is lost with what other threads have got so far: not twice the same."""
    assert ReadingLimits().threads == 1


@pytest.mark.parametrize("colours", ["bt601", "bt709"])
@pytest.mark.parametrize("levels", ["tv", "pc"])
def test_planar_crops_are_the_rgb_crops_in_the_colours_of_our_files(colours: str, levels: str, tmp_path: Path) -> None:
    coding = {"colorspace": colours.replace("bt601", "smpte170m"), "color_range": levels, "crf": 1}
    filters = {"vf": f"scale=out_color_matrix={colours}:out_range={levels}"}
    source = make_source(tmp_path / "coloured", Recipe(".mp4", X264 | coding | filters, num_frames=3))
    with SourceReader(source) as reader:
        pts, box = reader.frame_times().pts, np.array([[[10.5, 20, 90.5, 100]]] * 3)
        in_rgb = [crops[0] for _, crops in reader.crops(pts, box, 64)]
        planes = [crops[0] for _, crops in reader.crops(pts, box, 64, pixels="yuv420p")]
    for rgb, yuv in zip(in_rgb, planes, strict=True):
        assert yuv.shape == (96, 64)
        assert np.abs(cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB_I420).astype(int) - rgb).mean() < 1


@pytest.mark.parametrize("levels", ["tv", "pc"])
@pytest.mark.parametrize(("matrix", "number"), [("bt709", 1), ("fcc", 4), ("smpte240m", 7), ("bt2020", 9)])
def test_planes_of_other_matrices_become_what_ffmpeg_makes_of_the_same_colours(
    matrix: str, number: int, levels: str
) -> None:
    patches = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    patches[0, :3] = [[0, 0, 0], [255, 255, 255], [0, 0, 255]]
    rgb = patches.repeat(32, axis=0).repeat(32, axis=1)

    def planes(matrix: str, levels: str) -> np.ndarray:
        scale = f"scale=out_color_matrix={matrix}:out_range={levels}:flags=accurate_rnd+full_chroma_int"
        call = (
            f"{imageio_ffmpeg.get_ffmpeg_exe()} -loglevel error -f rawvideo -pix_fmt rgb24 -s 256x256 -i - -vf {scale}"
        )
        coding = "-pix_fmt yuv420p -f rawvideo -"
        raw = subprocess.run([*call.split(), *coding.split()], input=rgb.tobytes(), capture_output=True, check=True)
        return np.frombuffer(raw.stdout, np.uint8).reshape(384, 256)

    frame = av.VideoFrame.from_ndarray(planes(matrix, levels), format="yuv420p")
    frame.colorspace, frame.color_range = number, {"tv": 1, "pc": 2}[levels]
    difference = np.abs(in_our_colours(frame).astype(int) - planes("smpte170m", "tv"))
    luma, chroma = difference[:256].reshape(8, 32, 8, 32), difference[256:].reshape(2, 8, 16, 8, 16)
    inside = np.concatenate([luma[:, 4:-4, :, 4:-4].ravel(), chroma[:, :, 4:-4, :, 4:-4].ravel()])
    assert inside.mean() < 0.5 and inside.max() <= 2  # ffmpeg rounds once more, by up to half a level of each plane


def test_an_iterator_that_is_not_read_to_its_end_does_no_harm(readers: Readers) -> None:
    with SourceReader(readers("50 fps").path) as reader:
        pts = reader.frame_times().pts
        abandoned = reader.frames(pts)
        next(abandoned)
        assert reader.info().width == 192
        with pytest.raises(RuntimeError, match="abandoned"):
            next(abandoned)
        assert len(list(reader.frames(pts[:5]))) == 5


def test_arguments_that_nobody_can_mean_are_errors(readers: Readers) -> None:
    reader = readers("25 fps, 48 kHz")
    pts = reader.frame_times().pts
    for pictures, message in (
        (reader.frames(pts[::-1]), "not falling"),
        (reader.crops(pts, np.zeros((3, 2, 4)), 64), r"expected boxes \(75, role, 4\)"),
        (reader.crops(pts[:1], np.array([[[5.0, 5, 5, 5]]]), 64), "1 px or more"),
        (reader.crops(pts[:1], np.array([[[5.0, 5, 50, 50]]]), 63), "even"),
    ):
        with pytest.raises(ValueError, match=message):
            next(pictures)
    with pytest.raises(MediaError, match="damaged: .* timestamp 1 cannot be decoded"):
        next(reader.frames(np.array([1])))


@pytest.mark.shared
def test_frames_of_real_footage_have_the_golden_checksums(shared: Path) -> None:
    entries = json.loads((shared / "golden/face/mtcnn_facemesh.json").read_text())["frames"]
    for entry in entries[::8]:
        with SourceReader(shared / "media" / entry["file"]) as reader:
            ((_, rgb),) = reader.frames(reader.frame_times().pts[[entry["frame"]]])
        assert (rgb.shape[1], rgb.shape[0]) == (entry["width"], entry["height"])
        assert sha256(rgb.tobytes()).hexdigest()[:16] == entry["sha256_16"], entry["file"]
