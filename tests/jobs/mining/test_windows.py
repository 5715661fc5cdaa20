"""Windows of films: they tile every film, of hours too, and what cannot be read has one whose outcome tells why."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from jobs.mining.windows import WindowSettings, windows_of
from pipeline.clock import frames_in, map_to_grid
from pipeline.dataset.store import Store
from pipeline.manifest.load import load_films, load_sources
from pipeline.media.reader import SourceReader
from schemas.errors import UserError
from tests.labs.media import ffmpeg_binary

HOURS_S = 8 * 3600


def films_of(folder: Path, **files: Path) -> Path:
    blocks = [f'[[sources]]\nid = "{name}"\npath = "{path}"\nlicence = "none"\n' for name, path in files.items()]
    (folder / "films.toml").write_text('[dataset]\nname = "x"\n' + "".join(blocks))
    return folder / "films.toml"


@pytest.fixture(scope="module")
def eight_hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of eight hours, a frame every five seconds, Matroska, whose sound can only be counted from the start."""
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    video, sound = f"testsrc=s=32x32:r=1/5:d={HOURS_S}", f"anullsrc=r=2000:cl=mono:n=32768:d={HOURS_S}"
    inputs = ["-f", "lavfi", "-i", video, "-f", "lavfi", "-i", sound]
    codecs = ["-c:v", "mjpeg", "-c:a", "pcm_u8", "-shortest"]
    subprocess.run([ffmpeg_binary(), "-v", "error", *inputs, *codecs, str(path)], check=True)
    return path


def test_windows_tile_a_film_of_eight_hours_and_overlap(eight_hours: Path, tmp_path: Path) -> None:
    windows = windows_of(load_films(films_of(tmp_path, long=eight_hours)), WindowSettings(), Store(tmp_path / "mined"))
    assert len(windows) == 240 and len({window.row.clip_id for window in windows}) == 240
    assert windows[0].start == 0 and abs(windows[-1].end - frames_in(HOURS_S)) <= frames_in(5)
    assert all(before.end == after.start for before, after in zip(windows[:-1], windows[1:], strict=True))
    for window in windows:
        span = window.row.span
        assert frames_in(span.start_s) == window.first <= window.start < window.end <= frames_in(span.end_s)
        assert span.num_frames <= frames_in(132) + frames_in(60)


def test_a_late_window_is_read_without_the_hours_before_it(eight_hours: Path, tmp_path: Path) -> None:
    window = windows_of(load_films(films_of(tmp_path, long=eight_hours)), WindowSettings(), Store(tmp_path / "mined"))[
        -2
    ]
    with SourceReader(eight_hours) as reader:
        reader.info()
        times, is_key = reader.times_around(window.row.span)
        assert 24 <= len(times.pts) < 40 and is_key.all()
        grid = map_to_grid(window.row.span, times)
        assert np.all(np.diff(grid.source_frame) >= 0)
        assert len(reader.audio(window.row.span, exact=False)) == window.row.span.num_samples
        assert len(list(reader.frames(times.pts[is_key], keyframes=True))) == is_key.sum()


def test_a_short_film_is_one_window_and_a_film_that_is_none_too(tmp_path: Path) -> None:
    (tmp_path / "note.mp4").write_text("no film")
    with_url = films_of(tmp_path, note=tmp_path / "note.mp4")
    with_url.write_text(
        with_url.read_text() + '[[sources]]\nid = "far"\nurl = "https://example.org/a.mp4"\nlicence = "x"\n'
    )
    windows = windows_of(load_sources(with_url), WindowSettings(), Store(tmp_path / "mined"))
    assert [window.source_id for window in windows] == ["note", "far"]
    assert all(window.end - window.start >= 1 for window in windows)


def test_a_manifest_with_clips_or_of_pairs_is_no_manifest_of_films(tmp_path: Path) -> None:
    path = films_of(tmp_path, a=tmp_path / "films.toml")
    path.write_text(path.read_text().replace('"x"', '"x"\nclips = "clips.csv"'))
    with pytest.raises(UserError, match="unknown key 'clips'"):
        load_films(path)
    pair = (
        '[[sources]]\nid = "p"\nspeaker = "films.toml"\nlistener = "films.toml"\naudio = "films.toml"\nlicence = "x"\n'
    )
    path.write_text('[dataset]\nname = "x"\n' + pair)
    with pytest.raises(UserError, match="'p' is a pair of crops, expected a film"):
        load_films(path)
