"""Spans out of windows: a film tiled, whatever its windows, each span with its reason; known by construction."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from jobs.mining import reasons
from jobs.mining.evidence import Row, funnel, funnel_table
from jobs.mining.mining import _tracks
from jobs.mining.spans import BOTH, TURNS, SpanSettings, spans_of
from jobs.mining.windows import Window
from pipeline.clock import Span as Times
from pipeline.clock import frames_in, seconds_of
from pipeline.manifest.clips_csv import ClipRow
from stages.faces.sights import Sight

SETTINGS = SpanSettings()
LEFT, RIGHT = 0, 1


def seconds(value: float) -> int:
    return round(frames_in(value))


class Film:
    """What the stages would say of every frame of a film, and of windows of it."""

    def __init__(self, duration_s: float) -> None:
        n = self.num_frames = seconds(duration_s)
        self.columns: dict[str, Any] = {
            "sight": np.full(n, Sight.NO_FACE, np.int8),
            "shot": np.full(n, -1, np.int32),
            "voice": np.zeros(n, np.float32),
            "speaking": np.zeros((n, 2), np.float32),
            "seen": np.zeros((n, 2), bool),
            "yaw": np.zeros((n, 2), np.float32),
            "box": np.zeros((n, 2, 4), np.float32),
        }

    def shot(self, start_s: float, end_s: float, number: int, x: float = 0) -> Film:
        """Two people in view; shots of different numbers are parted by a cut."""
        of = slice(seconds(start_s), seconds(end_s))
        self.columns["sight"][of], self.columns["shot"][of], self.columns["seen"][of] = Sight.PAIR, number, True
        self.columns["box"][of] = [[x, 0, x + 100, 100], [x + 300, 0, x + 400, 100]]
        return self

    def speaks(self, side: int, start_s: float, end_s: float) -> Film:
        of = slice(seconds(start_s), seconds(end_s))
        self.columns["voice"][of] = 1
        self.columns["speaking"][of, side], self.columns["speaking"][of, 1 - side] = 4, -4
        return self

    def windows(self, edges_s: list[float], overlap_s: float = 4.0, lost: tuple[int, ...] = ()) -> list[Any]:
        """The film in windows that begin at these times; those of the numbers given were not read."""
        edges, beyond = [*map(seconds, edges_s), self.num_frames], seconds(overlap_s)
        found = []
        for number, (start, end) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            first, last = max(start - beyond, 0), min(end + beyond, self.num_frames)
            part = {f"pair_{name}": values[first:last].copy() for name, values in self.columns.items()}
            numbers = sorted(set(part["pair_shot"]) - {-1})
            for place, one in enumerate(numbers):  # each window counts its own shots
                part["pair_shot"][self.columns["shot"][first:last] == one] = place
            part["pair_faces"] = np.zeros((len(numbers), 2, 3, 128), np.float32)
            part["pair_picture"] = np.array([640, 360], np.int32)
            row = ClipRow(f"w{number}", "film", Times(seconds_of(first), seconds_of(last)), *[None] * 4, "train", 0)
            found.append((Window(start, end, first, row), ("damaged", "cut off") if number in lost else part))
        return found


def spans(windows: list[Any], settings: SpanSettings = SETTINGS) -> list[Any]:
    return [span for _, of_meeting in spans_of(windows, settings) for span in of_meeting]


def told(windows: list[Any], settings: SpanSettings = SETTINGS) -> list[tuple[str, float, float, int | None]]:
    found = spans(windows, settings)
    return [(s.reason, float(seconds_of(s.start)), float(seconds_of(s.end)), s.side) for s in found]


def conversation() -> Film:
    """A minute: a title, two people who speak by turns, a cut to two others."""
    film = Film(60).shot(5, 40, 0).shot(40, 58, 1, x=50)
    return film.speaks(LEFT, 6, 14).speaks(RIGHT, 15, 24).speaks(LEFT, 24.5, 38).speaks(RIGHT, 41, 55)


def test_one_speaks_and_the_other_listens_from_turn_to_turn() -> None:
    assert told(conversation().windows([0])) == [
        ("no_face", 0, 5, None),
        ("silence", 5, pytest.approx(5.9), None),
        ("clip", pytest.approx(5.9), pytest.approx(14.1), LEFT),
        ("silence", pytest.approx(14.1), pytest.approx(14.9), None),
        ("clip", pytest.approx(14.9), pytest.approx(24.1), RIGHT),
        ("silence", pytest.approx(24.1), pytest.approx(24.4), None),
        ("clip", pytest.approx(24.4), pytest.approx(38.1), LEFT),
        ("silence", pytest.approx(38.1), 40, None),
        ("silence", 40, pytest.approx(40.9), None),
        ("clip", pytest.approx(40.9), pytest.approx(55.1), RIGHT),
        ("silence", pytest.approx(55.1), 58, None),
        ("no_face", 58, 60, None),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_spans_are_the_same_however_the_film_is_cut_into_windows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = sorted({0.0, *rng.uniform(1, 59, rng.integers(1, 9)).round(2).tolist()})
    film = conversation()
    assert told(film.windows(edges)) == told(film.windows([0]))
    assert told(film.windows(edges, overlap_s=0.1)) == told(film.windows([0]))


@pytest.mark.parametrize("seed", range(8))
def test_the_spans_of_a_film_tile_it_whatever_is_in_it(seed: int) -> None:
    rng, film = np.random.default_rng(seed), Film(90)
    for number, (start, end) in enumerate(zip(range(0, 90, 10), range(10, 99, 10), strict=True)):
        film.shot(start + rng.uniform(0, 3), end - rng.uniform(0, 3), number)
        film.speaks(int(rng.integers(2)), start + rng.uniform(0, 5), end - rng.uniform(0, 4))
    n = film.num_frames
    film.columns["seen"][rng.random((n, 2)) < 0.02] = False
    for name, value in (("seen", False), ("yaw", 2.0), ("sight", Sight.CROWD)):
        at = int(rng.integers(n - 60))
        inside = film.columns["shot"][at : at + 60] >= 0
        film.columns[name][at : at + 60][inside] = value
    found = spans(film.windows([0, 31, 47], lost=(1,) if seed % 2 else ()))
    assert [found[0].start, *(span.end for span in found)] == [*(span.start for span in found), n]
    assert all(span.reason in reasons.REASONS for span in found)


def test_a_window_that_could_not_be_read_costs_that_window_alone() -> None:
    film = conversation()
    whole, damaged = told(film.windows([0])), told(film.windows([0, 20, 30], lost=(1,)))
    assert ("damaged", 20, 30, None) in damaged
    assert [one for one in whole if one[2] < 20] == [one for one in damaged if one[2] < 20]
    assert [one for one in whole if one[1] > 39] == [one for one in damaged if one[1] > 39]


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [("seen", False, "face_missing"), ("yaw", 1.3, "face_turned_away"), ("sight", Sight.CROWD, "crowd")],
)
def test_who_is_not_in_view_for_long_ends_a_clip(column: str, value: Any, reason: str) -> None:
    film = conversation()
    film.columns[column][seconds(18) : seconds(19)] = value
    assert [one for one in told(film.windows([0, 18.5])) if one[2] > 14.9 and one[1] < 24] == [
        ("clip", pytest.approx(14.9), 18, RIGHT),
        (reason, 18, 19, None),
        ("clip", 19, pytest.approx(24.1), RIGHT),
    ]


def test_a_moment_out_of_view_ends_none() -> None:
    film = conversation()
    film.columns["seen"][seconds(18) : seconds(18.4), LEFT] = False
    film.columns["yaw"][seconds(20) : seconds(20.4), RIGHT] = 1.3
    assert told(film.windows([0])) == told(conversation().windows([0]))


def test_a_long_turn_is_split_at_its_longest_pauses_and_short_ones_are_told() -> None:
    film = (
        Film(60)
        .shot(0, 60, 0)
        .speaks(LEFT, 0, 20)
        .speaks(LEFT, 20.8, 35)
        .speaks(LEFT, 35.4, 50)
        .speaks(RIGHT, 55, 56.5)
    )
    found = told(film.windows([0]), replace(SETTINGS, max_s=30.0))
    assert [one for one in found if one[0] != "silence"] == [
        ("clip", 0, pytest.approx(20.4), LEFT),
        ("clip", pytest.approx(20.4), pytest.approx(50.1), LEFT),
        ("too_short", pytest.approx(54.9), pytest.approx(56.6), RIGHT),
    ]


def test_a_voice_that_is_nobodys_is_no_turn() -> None:
    film = Film(20).shot(0, 20, 0)
    film.columns["voice"][seconds(3) : seconds(15)] = 1
    assert told(film.windows([0])) == [("nobody_leads", 0, 20, None)]


def test_turns_that_alternate_are_one_clip_beside_or_instead_of_those_of_one_turn() -> None:
    film = conversation()
    both = spans(film.windows([0, 25]), replace(SETTINGS, clips=BOTH))
    assert [span for span in both if not span.turns] == spans(film.windows([0]))
    (long,) = [span for span in both if span.turns]
    assert (long.start, long.end, long.side) == (seconds(5.9), seconds(38.1), LEFT)
    row = Row(long, ("ada", "bea"))
    assert row.roles == ("ada", "bea") and row.clip_id == "film_000005_000039-turns"
    assert row.values()["turns"] == [
        [0, seconds(8.2), 0],
        [seconds(9), seconds(18.2), 1],
        [seconds(18.5), seconds(32.2), 0],
    ]
    only = spans(film.windows([0]), replace(SETTINGS, clips=TURNS))
    assert [span for span in only if span.reason == reasons.CLIP] == [long]
    assert [span.reason for span in only if span.side is not None] == ["one_turn"] * 3 + ["clip", "one_turn"]


def test_a_shot_is_one_meeting_of_two_tracks_over_all_windows_that_it_passes_through() -> None:
    meetings = [meeting for meeting, _ in spans_of(conversation().windows([0, 10, 20, 30]), SETTINGS) if meeting]
    assert [(one.start, len(one)) for one in meetings] == [(seconds(5), seconds(35)), (seconds(40), seconds(18))]
    left, right = _tracks(meetings[1])
    assert (left.name, left.start_s, left.end_s) == ("00001200-left", 40, 58)
    assert (left.x, right.x) == (pytest.approx(100 / 640), pytest.approx(400 / 640))


def test_the_funnel_adds_up_to_the_films() -> None:
    settings = replace(SETTINGS, clips=BOTH)
    found = funnel(Row(span, (None, None)) for span in spans(conversation().windows([0, 20, 30], lost=(1,)), settings))
    assert found["films"] == 1 and found["seconds"] == 60 and found["clips"] == 4
    out = {one["reason"]: one["seconds"] for step in found["steps"] for one in step["left_out"]}
    assert out["damaged"] == 10 and out["no_face"] == 7
    assert sum(out.values()) + found["steps"][-1]["seconds"] == pytest.approx(60, abs=0.01)
    left = [step["seconds"] for step in found["steps"]]
    assert left == sorted(left, reverse=True) and left[0] == 50
    table = funnel_table(found)
    assert all(reasons.REASONS[reason][1] in table for reason in out)


def test_times_are_exact_frames_of_the_film() -> None:
    rows = [Row(span, (None, None)) for span in spans(conversation().windows([0, 17]))]
    assert all(Fraction(row.times.start_s).denominator in (1, 2, 3, 5, 6, 10, 15, 30) for row in rows)
    assert all(row.times.num_frames == row.span.end - row.span.start for row in rows)
