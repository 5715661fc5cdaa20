"""Films of other people's making on the 30 fps grid."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.film import Film
from pipeline.media import MediaError
from tests.media_lab import Recipe, make_source, read_number

H264 = {"vcodec": "libx264", "pix_fmt": "yuv420p", "crf": 10}


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (Fraction(30), list(range(20))),
        (Fraction(60), list(range(0, 40, 2))),
        (Fraction(15), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]),  # of two as near the earlier
    ],
)
def test_a_film_is_shown_on_the_grid(fps: Fraction, expected: list[int], tmp_path: Path) -> None:
    count = int(len(expected) * fps / 30)
    path = make_source(tmp_path / "film", Recipe(".mp4", H264, fps=fps, num_frames=count))
    with Film(path) as film:
        assert film.num_frames == len(expected)
        assert film.size == (192, 108)
        assert [read_number(frame) for frame in film.frames()] == expected
        assert [read_number(frame) for frame in film.frames()] == expected  # and once more


def test_sound_that_begins_earlier_moves_no_frame(tmp_path: Path) -> None:
    recipe = Recipe(".mp4", H264, {"acodec": "aac"}, fps=Fraction(30), num_frames=30)
    with Film(make_source(tmp_path / "film", recipe)) as film:
        assert [read_number(frame) for frame in film.frames()] == list(range(30))


def test_a_file_that_is_no_film_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no film")
    with Film(tmp_path / "x.mp4") as film, pytest.raises(MediaError):
        film.num_frames  # noqa: B018
