"""Damage in sources: frames that a damaged copy shows otherwise than the undamaged film are marked, all others are not.

Where they differ is measured, not told: the copies are decoded and compared with the film, picture by picture.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import skimage.data

from pipeline.clip import Clip, Pair
from pipeline.clock import HOP_SAMPLES, Span, frames_in
from pipeline.media.damage import holes, nearby, steps_back, suspects
from pipeline.media.reader import DAMAGES, MediaError, SourceReader
from pipeline.media.sandbox import FAILED, LEANS, WHOLE
from pipeline.stage import Reject
from stages.face import Face
from tests.labs.damage import NUM_FRAMES, RECIPES, SIZE, Found, copies, look, marked_share, published, span_of
from tests.labs.media import Recipe, make_source

QUICK = ("H.264, MP4", "VP9, WebM")
HOPS = Span(Fraction(0), Fraction(2))

Films = Callable[[str], Path]


@cache
def scene() -> bytes:
    """A real portrait (NASA, public domain) that sways, with a camera's noise: frames for `make_source`."""
    width, height = SIZE
    rng, picture = np.random.default_rng(3), skimage.data.astronaut()
    frames, noise = [], rng.normal(0, 1.5, (height, width, 3))
    for number in range(NUM_FRAMES):
        sway = np.array([[1, 0, -90 + 6 * np.sin(number / 6)], [0, 1, -20 + 4 * np.sin(number / 9)]])
        shown = cv2.warpAffine(picture, sway, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        frames.append((shown + np.roll(noise, rng.integers(width), axis=1)).clip(0, 255).astype(np.uint8).tobytes())
    return b"".join(frames)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Films:
    """The scene in a container and codec, by the name of its recipe; made on first use."""
    folder = tmp_path_factory.mktemp("films")
    return cache(lambda name: make_source(folder / str(list(RECIPES).index(name)), RECIPES[name], scene()))


def kinds(failed: list[int], numbers: list[int], keys: list[int]) -> list[int]:
    gone = np.zeros(max(numbers) + 1, bool)
    gone[failed] = True
    return suspects(gone, numbers, np.isin(np.arange(len(numbers)), keys)).tolist()


def test_what_follows_a_damaged_packet_leans_on_it_up_to_the_next_keyframe() -> None:
    whole, one_fails = [WHOLE] * 6, [WHOLE, WHOLE, FAILED, LEANS, WHOLE, WHOLE]
    assert kinds([], list(range(6)), [0, 4]) == whole
    assert kinds([2], list(range(6)), [0, 4]) == one_fails
    assert kinds([4], list(range(6)), [0, 4]) == [*whole[:4], FAILED, LEANS]
    assert kinds([2], list(range(6)), list(range(6))) == [WHOLE, WHOLE, FAILED, WHOLE, WHOLE, WHOLE]


def test_frames_that_are_decoded_before_the_damage_and_shown_after_it_are_whole() -> None:
    """Packets I P B B P B B, of which the second P (packet 4) fails; shown as I B B P B B P."""
    assert kinds([4], [0, 2, 3, 1, 5, 6, 4], [0]) == [WHOLE, WHOLE, WHOLE, WHOLE, LEANS, LEANS, FAILED]


def test_frames_shown_before_a_keyframe_and_decoded_after_it_lean_on_both_sides() -> None:
    """Packets I P | I B B P of an open group: the first P fails, and the two B look back at it."""
    assert kinds([1], [0, 1, 3, 4, 2, 5], [0, 4]) == [WHOLE, FAILED, LEANS, LEANS, WHOLE, WHOLE]


def test_a_packet_that_shows_nothing_is_leant_on_too() -> None:
    assert kinds([1], [0, 2, 3, 4], [0, 3]) == [WHOLE, LEANS, LEANS, WHOLE]


def still(num_frames: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 200, (90, 160))
    return (picture + rng.integers(0, 3, (num_frames, 90, 160))).astype(np.uint8)


def looks(pictures: np.ndarray, keys: list[int]) -> list[int]:
    """Frames that their looks give away."""
    differences = np.diff(pictures.astype(float), axis=0, prepend=pictures[:1])
    steps = np.square(differences).mean(axis=(1, 2))
    return np.flatnonzero(steps_back(pictures, steps, np.isin(np.arange(len(pictures)), keys))).tolist()


def test_a_picture_that_falls_apart_and_comes_back_with_keyframes_gives_itself_away() -> None:
    pictures, every = still(60), list(range(60))
    assert looks(pictures, every) == looks(pictures, [0, 20, 40]) == []
    pictures[20:40, 40:] = 255 - pictures[20:40, 40:]
    assert looks(pictures, [0, 20, 40]) == list(range(20, 40))
    assert looks(pictures, [0]) == [], "only keyframes tell"
    pictures = still(60)
    pictures[[7, 30], 40:] = 255 - pictures[[7, 30], 40:]
    assert looks(pictures, every) == [7, 30], "each picture stands for itself"


def test_keyframes_out_of_turn_are_a_film_that_cuts_away_and_back() -> None:
    pictures = still(60)
    pictures[12:20, :, :80] = 255 - pictures[12:20, :, :80]  # one half of a split screen looks elsewhere
    assert looks(pictures, [0, 12, 20, 50]) == []


def test_a_camera_that_jerks_at_keyframes_is_no_damage() -> None:
    wide = np.random.default_rng(5).integers(0, 200, (90, 180))
    pictures = np.stack([wide[:, 3:163] if 20 <= at < 40 else wide[:, :160] for at in range(60)]).astype(np.uint8)
    assert looks(pictures, [0, 20, 40]) == []


def test_frames_that_got_lost_without_a_word_leave_a_hole_in_regular_times() -> None:
    times, none = np.arange(40) * 40, np.zeros(40, bool)
    lost = np.delete(times, [20, 21])
    keys = np.isin(lost, [0, 22 * 40])
    assert not holes(times.tolist(), none).any() and not holes(times.tolist()[:1], none[:1]).any()
    assert np.flatnonzero(holes(lost.tolist(), none[:38])).tolist() == [20]
    assert not holes(lost.tolist(), keys).any(), "a keyframe leans on none of them"
    uneven = np.cumsum(np.random.default_rng(0).choice([40, 80], 40))
    assert not holes(uneven.tolist(), none).any(), "a film whose encoder leaves frames out"


def test_what_is_near_to_a_damage_is_unsure_unless_each_picture_stands_for_itself() -> None:
    places = np.arange(120)
    keys = places % 20 == 0
    found = np.flatnonzero(nearby(suspects(places == 70, range(120), keys), range(120), keys))
    assert 0 < found[0] < 60 and 80 < found[-1] < 119, "not for long, and beyond the next keyframe"
    assert found.tolist() == [*range(found[0], 70), *range(80, found[-1] + 1)], "the rest of its group leans on it"
    assert not nearby(suspects(places == 70, range(120), places >= 0), range(120), places >= 0).any()


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES]
)
def test_nothing_is_marked_in_an_undamaged_film(films: Films, name: str) -> None:
    whole = span_of(films(name))
    for span in (whole, Span(whole.start_s + Fraction(3, 2), whole.end_s)):
        shown = published(films(name), span)
        assert not shown.marked.any() and not shown.unheard.any()


@pytest.mark.parametrize("name", ["H.264, MP4", "VP9, WebM"])
def test_frames_that_are_watched_and_frames_that_are_asked_about_are_called_the_same(
    films: Films, tmp_path: Path, name: str
) -> None:
    film = zeroed(films(name), tmp_path / films(name).name, 0.45, 0.5)
    with SourceReader(film) as reader:
        pts = reader.frame_times().pts[5:]
        asked = reader.damage(pts)
        assert len(list(reader.scan(pts, (96, 54), pts[:0], (96, 54), watched=True))) == len(pts)
        np.testing.assert_array_equal(reader.damage(pts), asked)
        assert 0 < (asked > 0).sum() < len(pts)
        assert (reader.damage(pts[:10]) == 0).all(), "another span is looked at anew"


def test_a_span_that_begins_in_an_open_group_is_whole(tmp_path: Path) -> None:
    """Its decoder complains: what the group before leaves behind is to be forgotten, and was never there."""
    groups = {"x264-params": "open-gop=1:scenecut=0:keyint=12:bframes=3"}
    film = make_source(tmp_path / "open", Recipe(".mp4", {"vcodec": "libx264", "pix_fmt": "yuv420p", **groups}))
    with SourceReader(film) as reader:
        pts = reader.frame_times().pts
        assert not any(reader.damage(pts[first:]).any() for first in (14, 24, 30))


def of(films: Films, names: tuple[str, ...], count: int, folder: Path) -> list[Found]:
    return list(copies({name: films(name) for name in names}, count, 1, folder))


def test_a_few_damaged_copies_show_no_bad_frame_that_is_not_marked(films: Films, tmp_path: Path) -> None:
    bad, marked = marked_share(of(films, QUICK, 4, tmp_path))
    assert bad > 20, "a fair sample has bad frames"
    assert marked >= 0.98 * bad


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_of_bad_frames_in_damaged_copies_of_every_codec_98_in_100_are_marked(films: Films, tmp_path: Path) -> None:
    found = of(films, tuple(RECIPES), 2 * len(RECIPES), tmp_path)
    bad, marked = marked_share(found)
    missed = {one.name: int((one.bad & ~one.marked).sum()) for one in found if not one.reason}
    print(bad, marked, {name: count for name, count in missed.items() if count})
    assert bad > 100
    assert marked >= 0.98 * bad


def zeroed(path: Path, target: Path, first: float, last: float) -> Path:
    """A copy without the bytes between two shares of its length."""
    data = bytearray(path.read_bytes())
    data[int(first * len(data)) : int(last * len(data))] = bytes(int(last * len(data)) - int(first * len(data)))
    target.write_bytes(data)
    return target


def test_frames_of_an_avi_that_come_a_place_too_early_are_marked(films: Films, tmp_path: Path) -> None:
    """One chunk has another name, so its frame is passed over, and no decoder complains of a keyframe soon after."""
    film = films("MS MPEG-4 v2, AVI")
    span, data = span_of(film), bytearray(film.read_bytes())
    lost = 24
    at = -1
    for _ in range(lost + 1):
        at = data.index(b"00dc", at + 1)
    data[at : at + 2] = b"zz"  # the number of a stream
    renamed = tmp_path / film.name
    renamed.write_bytes(data)
    one = look("renamed", renamed, published(film, span).pictures, span)
    assert one.marked[round(lost * 30 / 25) + 1 :].all()
    assert not (one.bad & ~one.marked).any() and one.bad.any()


def test_a_frame_that_comes_twice_is_marked_with_all_that_leans_on_it(films: Films, tmp_path: Path) -> None:
    """Decoded twice it moves what follows by its steps twice, and no decoder complains."""
    film = films("H.264, no B-frames, FLV")
    with av.open(str(film)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data, packet = film.read_bytes(), packets[7]
    tag = data[packet.pos : packets[8].pos] if packet.pos is not None and packets[8].pos is not None else b""
    assert bytes(packet) in tag
    (tmp_path / film.name).write_bytes(data[: packets[8].pos] + tag + data[packets[8].pos :])
    one = look("doubled", tmp_path / film.name, published(film, span_of(film)).pictures, span_of(film))
    assert not (one.bad & ~one.marked).any() and one.marked.any()
    assert not one.marked[round(packets[25].pts * 0.03) + 1 :].any(), "the next keyframe clears it"


def test_a_film_whose_index_leads_out_of_it_is_read_or_refused(films: Films, tmp_path: Path) -> None:
    data = films("WMV1, ASF").read_bytes()
    for count in (20, 26, 50, 62):
        short = tmp_path / f"{count}.asf"
        short.write_bytes(data[: len(data) // 2] + data[len(data) // 2 + count :])
        with SourceReader(short) as reader, suppress(MediaError):
            pts = reader.frame_times().pts
            assert len(list(reader.frames(pts[:3]))) == 3


def test_a_clip_with_more_damage_than_is_tolerated_is_rejected_with_its_frames(films: Films, tmp_path: Path) -> None:
    film = zeroed(films("H.264, MP4"), tmp_path / "holed.mp4", 0.45, 0.5)
    with pytest.raises(Reject) as caught:
        taken_over(film, tmp_path)
    damaged = taken_over(film, tmp_path, max_damaged=0.5)
    assert caught.value.reason == "damaged"
    assert list(caught.value.frames) == np.flatnonzero(damaged).tolist()
    assert f"{damaged.sum()} of {len(damaged)} frames" in caught.value.detail
    assert any(told in caught.value.detail for told in DAMAGES.values())


def taken_over(film: Path, folder: Path, **settings: float) -> np.ndarray:
    """What the stage face calls damaged (frame,) of a film that shows one head for both people and has no sound."""
    span = span_of(film)
    values = {"clip_id": "c", "audio_level_dbfs": -20.0, "sound_damaged": np.zeros(span.num_frames, bool)}
    clip = Clip(values, span, Pair(film, film, film), folder, folder / "scratch")
    try:
        return Face(Face.Settings(size_px=64, **settings)).process(clip)["source_damaged"]
    finally:
        clip.close()


def test_lost_sound_is_marked_where_it_is_missing(films: Films, tmp_path: Path) -> None:
    """MPEG-TS without a tenth of its packets: the sound of the hole differs from the whole one's, and is marked."""
    data = films("H.264, MPEG-TS").read_bytes()
    start, stop = (round(len(data) / 188 * share) * 188 for share in (0.45, 0.6))
    holed = tmp_path / "hole.ts"
    holed.write_bytes(data[:start] + data[stop:])
    with SourceReader(films("H.264, MPEG-TS")) as whole, SourceReader(holed) as reader:
        expected, unmarked = whole.heard(HOPS)
        samples, damaged = reader.heard(HOPS)
    differs = (np.abs(samples - expected).reshape(-1, HOP_SAMPLES) > 0.02).any(axis=1)
    assert not unmarked.any()
    assert 3 <= damaged.sum() < 0.5 * len(damaged)
    assert not (differs & ~damaged).any()


@pytest.mark.parametrize("name", ["H.264, CAVLC, Matroska", "MPEG-4, AVI"])
def test_sound_that_fails_its_checksum_is_marked(films: Films, tmp_path: Path, name: str) -> None:
    """FLAC and AC-3 with bits turned in one packet: the frames in which it sounds are marked, and few others."""
    film = films(name)
    data, span = bytearray(film.read_bytes()), span_of(film)
    with av.open(str(film)) as container:
        loud = max(container.demux(audio=0), key=lambda packet: packet.size)
        data[data.index(bytes(loud)) + loud.size // 2] ^= 255
        middle_s = Fraction(loud.pts + loud.duration // 2) * loud.time_base
    flipped = tmp_path / film.name
    flipped.write_bytes(data)
    with SourceReader(flipped) as reader:
        _, damaged = reader.heard(span)
    assert damaged[int(frames_in(middle_s))]
    assert damaged.sum() <= 8


LET_GO = """
import gc, sys
from pipeline.media.damage import overheard
from pipeline.media.sandbox import ReadingLimits
from pipeline.media.source import MediaSource, decoded
gc.disable()
for _ in range(30):
    container, stream = MediaSource(open(sys.argv[1], "rb", buffering=0), ReadingLimits()).open_video()
    frames = decoded(container, stream)
    next(frames)  # and the decoder's threads go on with the next ones
    frames.close()
    with overheard():
        del frames, stream, container
        gc.collect()
"""


def test_a_decoder_that_complains_while_it_is_let_go_holds_nobody_up(films: Films, tmp_path: Path) -> None:
    """Its threads wait for Python's lock to say so, which whoever frees it holds."""
    damaged, data = tmp_path / "damaged.ts", bytearray(films("H.264, MPEG-TS").read_bytes())
    for at in range(len(data) // 8, len(data), 300):
        data[at] ^= 0x10
    damaged.write_bytes(data)
    subprocess.run([sys.executable, "-c", LET_GO, damaged], check=True, timeout=120)
