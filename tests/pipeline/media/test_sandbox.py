"""What hostile, broken and endless sources can do to the reader: nothing but end as a reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.clock import Span
from pipeline.media.reader import MEDIA_REASONS, MediaError, ReadingLimits, SourceReader
from tests.labs.media import Recipe, make_source, remux

REPOSITORY = Path(__file__).resolve().parents[3]
X264 = {"vcodec": "libx264", "pix_fmt": "yuv420p", "preset": "veryfast", "g": 20}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(".mp4", {**X264, "movflags": "+faststart"}, {"acodec": "aac"}, size=(640, 360), num_frames=100)
    return make_source(tmp_path_factory.mktemp("film") / "film", recipe)


def reason_of(path: Path, limits: ReadingLimits | None = None) -> str:
    """The reason for which reading everything of a file fails."""
    with SourceReader(path, limits or ReadingLimits(wall_s=30)) as reader, pytest.raises(MediaError) as caught:
        reader.info()
        reader.audio(Span(Fraction(0), Fraction(1)))
        list(reader.frames(reader.frame_times().pts))
    assert path.name in caught.value.detail
    assert caught.value.reason in MEDIA_REASONS
    return caught.value.reason


def test_a_reason_is_the_same_whatever_else_this_process_has_open(film: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.flv").write_bytes(film.read_bytes()[:50])
    told = []
    for open_ones in (0, 3):
        with ExitStack() as stack:
            for _ in range(open_ones):
                stack.enter_context(film.open("rb"))  # the source's descriptor is another one
            with SourceReader(tmp_path / "cut.flv") as reader, pytest.raises(MediaError) as caught:
                reader.info()
            told.append(caught.value.detail)
    assert told[0] == told[1]


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{film}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{film}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-'
    'on-demand:2011" type="static" mediaPresentationDuration="PT4S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="0" bandwidth="1"><BaseURL>{film}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_in_the_guise_of_a_film_leads_nowhere(film: Path, tmp_path: Path, kind: str) -> None:
    disguised = tmp_path / "film.mp4"
    disguised.write_text(PLAYLISTS[kind].format(film=film))
    assert reason_of(disguised) in ("not_allowed", "unreadable")


def test_containers_and_codecs_off_the_list_are_refused(tmp_path: Path) -> None:
    for recipe in (Recipe(".gif", {}, num_frames=3), Recipe(".mkv", {"vcodec": "snow", "strict": -2}, num_frames=3)):
        assert reason_of(make_source(tmp_path / "rare", recipe)) == "not_allowed"


def test_files_that_are_no_films_say_so(film: Path, tmp_path: Path) -> None:
    data = film.read_bytes()
    unreadable = {
        "empty.mp4": b"",
        "garbage.mp4": np.random.default_rng(0).bytes(50_000),
        "text.mp4": b"<html>Video unavailable</html>" * 100,
        "head.mp4": data[:600],
    }
    for name, content in unreadable.items():
        (tmp_path / name).write_bytes(content)
        assert reason_of(tmp_path / name) == "unreadable", name
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to("/dev/zero")
    for name in ("pipe.mp4", "link.mp4", "missing.mp4", "."):
        assert reason_of(tmp_path / name) == "unreadable", name


def test_a_missing_stream_is_named(film: Path, tmp_path: Path) -> None:
    assert reason_of(remux(film, tmp_path / "deaf.mp4", after=("-an",))) == "no_audio"
    assert reason_of(remux(film, tmp_path / "blind.mp4", after=("-vn",))) == "no_video"


def test_a_film_that_breaks_off_gives_what_it_has(film: Path, tmp_path: Path) -> None:
    data = film.read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    with SourceReader(tmp_path / "half.mp4") as reader:
        times = reader.frame_times()
        assert 20 < len(times.pts) < 80
        assert len(list(reader.frames(times.pts))) == len(times.pts)


def test_damage_never_hangs_or_escapes(film: Path, tmp_path: Path) -> None:
    rng, data = np.random.default_rng(7), np.frombuffer(film.read_bytes(), np.uint8)
    for trial in range(8):
        broken = data.copy()
        broken[rng.integers(0, len(data), 10 + 30 * trial)] ^= 0x55
        path = tmp_path / f"{trial}.mp4"
        path.write_bytes(broken.tobytes())
        with SourceReader(path, ReadingLimits(wall_s=20)) as reader:
            try:
                pts = reader.frame_times().pts
                reader.audio(Span(Fraction(0), Fraction(3)))
                list(reader.frames(pts, size=(64, 36)))
            except MediaError as error:
                assert error.reason in ("unreadable", "damaged", "too_large", "no_video", "no_audio", "not_allowed")


def test_limits_hold(film: Path, tmp_path: Path) -> None:
    assert reason_of(film, ReadingLimits(max_side_px=600)) == "too_large"
    assert reason_of(film, ReadingLimits(max_duration_s=3.9)) == "too_large"
    large = make_source(tmp_path / "large", Recipe(".mp4", X264, {"acodec": "aac"}, num_frames=6, size=(3840, 2160)))
    assert reason_of(large, ReadingLimits(memory_bytes=400 << 20)) == "out_of_memory"


def test_a_reader_that_hangs_is_stopped_in_time(film: Path) -> None:
    with SourceReader(film, ReadingLimits(wall_s=2)) as reader:
        frames = reader.frames(reader.frame_times().pts)
        next(frames)
        os.kill(child_of(reader), signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(MediaError, match=r"timed_out: film\.mp4: no end after 2 s"):
            list(frames)
        assert time.monotonic() - started < 4


def test_a_reader_that_runs_wild_is_stopped_by_the_kernel(film: Path) -> None:
    with SourceReader(film, ReadingLimits(cpu_s=1)) as reader, pytest.raises(MediaError) as caught:
        while True:
            list(reader.frames(reader.frame_times().pts, size=(1920, 1080)))
    assert caught.value.reason == "timed_out"


def test_a_decoder_that_crashes_is_an_error_and_the_reader_starts_anew(film: Path) -> None:
    with SourceReader(film) as reader:
        pts = reader.frame_times().pts
        os.kill(child_of(reader), signal.SIGSEGV)
        with pytest.raises(MediaError, match="decoder_crashed: .*SIGSEGV"):
            list(reader.frames(pts))
        assert len(list(reader.frames(pts[:3]))) == 3


def test_a_reader_that_somebody_kills_goes_on_where_it_was(film: Path) -> None:
    with SourceReader(film) as reader:
        pts = reader.frame_times().pts
        undisturbed = [rgb for _, rgb in reader.frames(pts)]
        found = []
        for position, rgb in reader.frames(pts):
            found.append(rgb)
            if position in (0, 50, 98):
                os.kill(child_of(reader), signal.SIGKILL)
        assert np.array_equal(found, undisturbed)
        with pytest.raises(MediaError, match="decoder_crashed: .*SIGKILL"):
            for _ in reader.frames(pts):
                os.kill(child_of(reader), signal.SIGKILL)
        assert len(list(reader.frames(pts[:3]))) == 3


def child_of(reader: SourceReader) -> int:
    assert reader._child is not None
    return reader._child.pid


def test_the_child_dies_with_its_parent(film: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from pipeline.media.reader import SourceReader\n"
        "reader = SourceReader(Path(sys.argv[1])); frames = reader.frames(reader.frame_times().pts); next(frames)\n"
        "print(reader._child.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(film)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.kill()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()


def test_inside_the_sandbox_there_are_no_files_and_no_network() -> None:
    program = (
        "import socket, sys\n"
        "from pipeline.media.child import confine\n"
        "from pipeline.media.sandbox import ReadingLimits\n"
        "confine(ReadingLimits())\n"
        "def attempt(action):\n"
        "    try: action()\n"
        "    except OSError as error: return error.errno\n"
        "print(attempt(lambda: open('/etc/hostname')), attempt(lambda: open('/tmp/x', 'w')),\n"
        "      attempt(lambda: socket.create_connection(('127.0.0.1', 9))), attempt(lambda: open(sys.prefix + '/x')))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    errors = done.stdout.split()
    if errors[0] == "None":
        pytest.skip("this kernel has no Landlock")
    assert errors == ["13", "13", "13", "2"]  # permission denied; and no such file in Python's own folder
