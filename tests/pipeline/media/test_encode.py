"""Our own media files: what is written comes back, in every decoder, with the same bytes each time."""

from __future__ import annotations

from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile

from pipeline.clock import SAMPLE_RATE_HZ
from pipeline.media import encode
from pipeline.media.encode import (
    GOP_FRAMES,
    LUMA_BLACK,
    OwnVideo,
    VideoWriter,
    count_frames,
    read_video,
    read_wav,
    write_wav,
)
from tests.labs.media import reference_frames

SIZE = 96
COLOURS = np.array([[200, 30, 40], [30, 200, 40], [30, 40, 200], [128, 128, 128], [235, 235, 10]], np.uint8)


def striped(number: int) -> np.ndarray:
    """A frame of stripes of known colours; the number moves them."""
    stripes = np.repeat(np.roll(COLOURS, number, axis=0), 20, axis=0)[:SIZE]
    return np.ascontiguousarray(np.broadcast_to(stripes[:, None], (SIZE, SIZE, 3)))


def filmed(path: Path) -> Path:
    with VideoWriter(path, (SIZE, SIZE)) as writer:
        for number in range(70):
            writer.write(striped(number))
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return filmed(tmp_path / "film.mp4")


def test_frames_come_back_with_their_colours(film: Path) -> None:
    frames = list(read_video(film))
    assert len(frames) == count_frames(film) == 70
    for number, frame in enumerate(frames):
        middles = frame[10:SIZE:20, SIZE // 2].astype(int)
        # Compression costs 7 levels here; reading BT.601 as BT.709 would cost up to 29.
        assert np.abs(middles - striped(number)[10:SIZE:20, 0]).max() <= 10


def test_pyav_opencv_and_ffmpeg_decode_the_same_pixels(film: Path) -> None:
    seconds, by_ffmpeg = reference_frames(film)
    capture = cv2.VideoCapture(str(film))
    for number, frame in enumerate(read_video(film)):
        read, bgr = capture.read()
        assert read and np.array_equal(bgr[..., ::-1], frame)
        assert np.array_equal(by_ffmpeg[number], frame)
        assert seconds[number] == Fraction(number, 30)


def test_luma_is_the_grey_of_the_frames_in_limited_range(tmp_path: Path) -> None:
    path = tmp_path / "grey.mp4"
    with VideoWriter(path, (62, 46), preset="ultrafast") as writer:  # rows are padded in memory
        for number in range(90):
            writer.write(np.full((46, 62, 3), 2 * number, np.uint8))
    luma, colours = np.stack(list(OwnVideo(path).luma())), np.stack(list(read_video(path)))
    assert luma.shape == (90, 46, 62)
    np.testing.assert_allclose((luma.astype(float) - LUMA_BLACK) * 255 / 219, colours[..., 0], atol=1)


@pytest.mark.parametrize(("room", "decodings"), [(70 * SIZE**2, 2), (69 * SIZE**2, 3), (0, 3)])
def test_luma_waits_for_its_reader_where_all_of_it_finds_room(
    film: Path, room: int, decodings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, decoded = [], encode._decoded
    monkeypatch.setattr(encode, "_decoded", lambda path, wanted=None: opened.append(path) or decoded(path, wanted))
    video = OwnVideo(film, room)
    stretches = range(0, 33), range(30, 70)  # some frames twice, and two readers side by side
    assert sum(1 for _ in zip_longest(*map(video.rgb, stretches))) == 40
    found = list(video.luma())
    assert len(opened) == decodings
    np.testing.assert_array_equal(found, list(OwnVideo(film).luma()))


@pytest.mark.parametrize("fps", [30, 25])
def test_a_range_of_frames_is_read_from_its_keyframe_on(fps: int, tmp_path: Path) -> None:
    path = tmp_path / "numbered.mp4"
    with VideoWriter(path, (64, 64), preset="ultrafast", fps=fps) as writer:
        for number in range(3 * GOP_FRAMES):
            writer.write(np.full((64, 64, 3), 2 * number, np.uint8))
    everything = list(read_video(path))
    for wanted in (range(0, 5), range(GOP_FRAMES, GOP_FRAMES + 1), range(GOP_FRAMES + 7, 80), range(85, 200)):
        np.testing.assert_array_equal(list(read_video(path, wanted)), everything[wanted.start : wanted.stop])
    assert len(list(read_video(path, {3, 71}))) == 2


def test_the_file_says_what_its_colours_mean(film: Path) -> None:
    with av.open(str(film)) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (6, 1)  # SMPTE 170M (BT.601), limited
        assert container.streams.video[0].average_rate == 30
        assert container.start_time == 0


def test_the_same_frames_give_the_same_bytes(film: Path, tmp_path: Path) -> None:
    assert film.read_bytes() == filmed(tmp_path / "again.mp4").read_bytes()


def test_what_libav_says_reaches_the_user_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "film.mp4"
    said = r"could not write .*missing.*No such file or directory"
    with pytest.raises(FileNotFoundError, match=said):
        VideoWriter(path, (SIZE, SIZE))
    with pytest.raises(KeyError), VideoWriter(tmp_path / "half.mp4", (SIZE, SIZE)) as writer:
        writer.write(striped(0))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_frame_may_be_changed_once_it_is_written(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "one.mp4", (SIZE, SIZE)) as writer:
        one = striped(0)
        for number in range(70):
            one[:] = striped(number)
            writer.write(one)
    assert (tmp_path / "one.mp4").read_bytes() == filmed(tmp_path / "each.mp4").read_bytes()


def test_frames_of_the_wrong_kind_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even width and height, found 95 x 96"):
        VideoWriter(tmp_path / "odd.mp4", (95, 96))
    for wrong in (np.zeros((SIZE, SIZE), np.uint8), np.zeros((SIZE, SIZE, 3), np.float32)):
        with VideoWriter(tmp_path / "film.mp4", (SIZE, SIZE)) as writer:
            with pytest.raises(ValueError, match="expected a frame of uint8"):
                writer.write(wrong)
            writer.write(striped(0))


def test_sound_is_16_bit_pcm_that_others_read(tmp_path: Path) -> None:
    samples = np.concatenate([np.random.default_rng(0).uniform(-1, 1, 5000), [1.5, -1.5, 1.0, -1.0, 0.0]])
    write_wav(tmp_path / "sound.wav", samples)
    ours, rate_hz = read_wav(tmp_path / "sound.wav")
    theirs, their_rate_hz = soundfile.read(tmp_path / "sound.wav", dtype="float32")
    assert rate_hz == their_rate_hz == SAMPLE_RATE_HZ
    assert soundfile.info(tmp_path / "sound.wav").subtype == "PCM_16"
    assert np.array_equal(ours, theirs)
    assert np.abs(ours[:5000] - samples[:5000]).max() <= 0.5 / 32_768 + 1e-7
    assert ours[5000:].tolist() == [32_767 / 32_768, -1, 32_767 / 32_768, -1, 0]


def test_a_wav_of_another_kind_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "stereo.wav", np.zeros((10, 2)), SAMPLE_RATE_HZ, subtype="PCM_16")
    with pytest.raises(ValueError, match="found 2 channels of 2 bytes"):
        read_wav(tmp_path / "stereo.wav")
