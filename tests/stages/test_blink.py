"""Stage ``blink``: against blinks seen by eye in real clips, and against eyes closed by construction."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.clip import Clip
from pipeline.clock import FPS, Span
from pipeline.media.encode import read_video
from schemas.column import ROLES
from stages.blink import LEFT_EYE, RIGHT_EYE, Blink, eye_aspect_ratio, runs
from stages.landmarks import NUM_POINTS, Tracker

SIDE_PX = 384
NUM_FRAMES = 150
Runs = list[tuple[int, int]]  # first frame and the frame after the last


def eyes(right: np.ndarray, left: np.ndarray, width_px: tuple[float, float] = (60.0, 60.0)) -> np.ndarray:
    """Landmarks (frame, 478, 3) in px, NaN but for two eyes with these aspect ratios (frame,)."""
    points = np.full((len(right), NUM_POINTS, 3), np.nan)
    for indices, ratio, width, centre_x in ((RIGHT_EYE, right, width_px[0], 130), (LEFT_EYE, left, width_px[1], 250)):
        half_height = ratio * width / 2
        outer = -1 if indices is RIGHT_EYE else 1  # towards the image's edge
        across = outer * width * np.array([1 / 2, 1 / 5, -1 / 5, -1 / 2, -1 / 5, 1 / 5])
        upwards = np.array([0, -1, -1, 0, 1, 1])
        points[:, indices, 0] = centre_x + across
        points[:, indices, 1] = 160 + upwards * half_height[:, None]
        points[:, indices, 2] = 0
    return points


def open_eyes(num_frames: int = NUM_FRAMES, level: float = 0.3, noise: float = 0.03) -> np.ndarray:
    """Aspect ratio of an open eye, (frame,), with a drift of a tenth and noise."""
    rng = np.random.default_rng(num_frames)
    drift = 1 + 0.1 * np.sin(np.arange(num_frames) / 40)
    return level * drift * (1 + noise * rng.standard_normal(num_frames))


def blinking(closed: Runs, share: float = 0.2, num_frames: int = NUM_FRAMES) -> np.ndarray:
    """Aspect ratio of an eye that is closed to this share of its opening in these runs."""
    ratio = open_eyes(num_frames)
    for first, stop in closed:
        ratio[first:stop] *= share
    return ratio


def closed_runs(points: np.ndarray, **settings: Any) -> Runs:
    return runs(Blink(Blink.Settings(**settings)).closed(points))


@pytest.mark.parametrize("num_closed", [2, 3, 5, 12, 18])
@pytest.mark.parametrize("first", [0, 1, 60])
def test_a_synthetic_closing_eye_yields_the_run_exactly(first: int, num_closed: int) -> None:
    truth = [(first, first + num_closed)]
    ratio = blinking(truth)
    assert closed_runs(eyes(ratio, ratio)) == truth
    assert closed_runs(eyes(ratio, ratio)[::-1]) == [(NUM_FRAMES - stop, NUM_FRAMES - begin) for begin, stop in truth]


def test_lids_that_take_time_are_closed_where_they_are_low() -> None:
    ratio = np.full(NUM_FRAMES, 0.3)
    ratio[60:70] *= [0.8, 0.5, 0.15, 0.1, 0.1, 0.12, 0.3, 0.55, 0.7, 0.9]
    assert closed_runs(eyes(ratio, ratio)) == [(62, 67)]


@pytest.mark.parametrize(
    ("truth", "share"),
    [([(20, 23), (27, 30), (34, 36), (41, 46)], 0.2), ([(40, 40 + 2 * FPS)], 0.2), ([(60, 64)], 0.0)],
    ids=["a quick series", "two seconds", "lids that meet exactly"],
)
def test_closures_of_every_kind_are_found_whole(truth: Runs, share: float) -> None:
    ratio = blinking(truth, share)
    assert closed_runs(eyes(ratio, ratio)) == truth


def test_a_wink_is_no_blink() -> None:
    wink = blinking([(60, 65)])
    assert closed_runs(eyes(wink, open_eyes())) == []
    assert closed_runs(eyes(open_eyes(), wink)) == []


def test_eyes_that_a_laugh_narrows_for_seconds_are_no_blink_but_blink() -> None:
    narrow = open_eyes()
    narrow[40:110] *= 0.5
    assert closed_runs(eyes(narrow, narrow)) == []
    narrow[70:74] *= 0.25
    assert closed_runs(eyes(narrow, narrow)) == [(70, 74)]


def test_an_eye_turned_away_has_no_say() -> None:
    truth = [(60, 64)]
    seen, hidden = blinking(truth), open_eyes() * 1.5
    assert closed_runs(eyes(seen, hidden, width_px=(60, 20))) == truth
    assert closed_runs(eyes(hidden, seen, width_px=(20, 60))) == truth
    assert closed_runs(eyes(seen, hidden, width_px=(60, 50))) == []


def test_labels_do_not_depend_on_place_size_and_tilt_of_the_face() -> None:
    truth = [(20, 23), (60, 70)]
    points = eyes(blinking(truth), blinking(truth))
    angle_rad = 0.6
    rotation = np.array([[np.cos(angle_rad), -np.sin(angle_rad)], [np.sin(angle_rad), np.cos(angle_rad)]])
    moved = points.copy()
    moved[..., :2] = 0.4 * points[..., :2] @ rotation.T + [70, -30]
    assert closed_runs(moved) == truth
    np.testing.assert_allclose(eye_aspect_ratio(moved), eye_aspect_ratio(points), rtol=1e-9)


@pytest.mark.parametrize(
    ("ratio", "settings", "expected"),
    [
        (blinking([(60, 61)]), {}, []),
        (blinking([(60, 61)]), {"min_frames": 1}, [(60, 61)]),
        (blinking([(60, 64)]), {"min_frames": 5}, []),
        (blinking([(60, 63), (64, 67)]), {}, [(60, 67)]),
        (blinking([(60, 63), (64, 67)]), {"max_gap_frames": 0}, [(60, 63), (64, 67)]),
        (blinking([(60, 64)], share=0.7), {}, []),
        (blinking([(60, 64)], share=0.7), {"threshold": 0.8}, [(60, 64)]),
    ],
)
def test_runs_gaps_and_dips_count_as_settings_say(ratio: np.ndarray, settings: dict, expected: Runs) -> None:
    assert closed_runs(eyes(ratio, ratio), **settings) == expected


def test_the_eye_aspect_ratio_is_the_published_one_with_the_right_eye_first() -> None:
    ratio = eye_aspect_ratio(eyes(np.full(3, 0.31), np.full(3, 0.17), width_px=(60, 40)))
    np.testing.assert_allclose(ratio, [[0.31, 0.17]] * 3)
    points = np.zeros((1, NUM_POINTS, 2))
    points[0, RIGHT_EYE, :] = [(0, 0), (1, 2), (3, 3), (4, 0), (3, -1), (1, -2)]
    assert eye_aspect_ratio(points)[0, 0] == pytest.approx((4 + 4) / (2 * 4))
    assert np.isnan(eye_aspect_ratio(points)[0, 1])  # all points in one place


def clip_with(points: np.ndarray, valid: np.ndarray) -> Clip:
    values = {f"{role}_landmarks": points.astype(np.float32) for role in ROLES}
    values |= {f"{role}_landmarks_valid": valid for role in ROLES}
    return Clip(values, Span(Fraction(0), Fraction(len(points), FPS)), Path(), Path(), Path())


def test_invalid_frames_are_never_blinks_and_have_no_ratio() -> None:
    ratio = blinking([(30, 34), (60, 70), (100, 104)])
    valid = np.ones(NUM_FRAMES, bool)
    valid[63:66] = valid[104:120] = valid[:3] = False
    values = Blink().process(clip_with(eyes(ratio, ratio), valid))
    assert runs(values["speaker_blink"]) == [(30, 34), (60, 63), (66, 70), (100, 104)]
    np.testing.assert_array_equal(np.isfinite(values["listener_eye_aspect_ratio"]), np.stack([valid, valid], axis=1))


def test_a_clip_without_a_valid_frame_has_no_blinks() -> None:
    values = Blink().process(clip_with(eyes(open_eyes(), open_eyes()), np.zeros(NUM_FRAMES, bool)))
    assert not values["speaker_blink"].any()
    assert np.isnan(values["speaker_eye_aspect_ratio"]).all()


def test_every_column_has_its_declared_type_and_shape() -> None:
    values = Blink().process(clip_with(eyes(open_eyes(), open_eyes()), np.ones(NUM_FRAMES, bool)))
    assert list(values) == [column.name for column in Blink().writes()]
    for column in Blink().writes():
        column.check(values[column.name], NUM_FRAMES)


@dataclass
class Score:
    """Events found, missed and invented, and by how many frames the ends of found ones are off."""

    found: int = 0
    missed: int = 0
    invented: int = 0
    end_errors: list[int] = field(default_factory=list)

    @property
    def f1(self) -> float:
        return 2 * self.found / (2 * self.found + self.missed + self.invented)

    def __add__(self, other: Score) -> Score:
        return Score(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


def score_events(predicted: Runs, labelled: Runs, left_out: np.ndarray) -> Score:
    """Match runs of closed eyes one to one, every labelled run with the run that shares most frames with it.

    A predicted run without a partner is invented, unless a careful person could call all of its frames either way and
    they are left out of the score; a labelled run without a partner is missed.
    """
    score, free = Score(), list(predicted)
    for first, stop in labelled:
        shared = {run: min(run[1], stop) - max(run[0], first) for run in free}
        partner = max(shared, key=lambda run: shared[run], default=None)
        if partner is None or shared[partner] <= 0:
            score.missed += 1
            continue
        free.remove(partner)
        score.found += 1
        score.end_errors += [abs(partner[0] - first), abs(partner[1] - stop)]
    score.invented = sum(not left_out[first:stop].all() for first, stop in free)
    return score


def test_the_score_of_known_runs_is_known() -> None:
    left_out = np.zeros(100, bool)
    left_out[50:60] = True
    labelled = [(10, 13), (20, 24), (30, 32)]
    assert score_events(labelled, labelled, left_out) == Score(3, 0, 0, [0] * 6)
    assert score_events([(9, 15), (20, 32), (52, 55), (58, 62)], labelled, left_out) == Score(2, 1, 1, [1, 2, 0, 8])
    assert score_events([], labelled, left_out).f1 == 0


@dataclass(frozen=True, eq=False)
class LabelledHead:
    """One head of ../shared/golden/labels/blinks.json with landmarks of every frame."""

    name: str
    landmarks: np.ndarray  # (frame, 478, 3) in px
    closed: np.ndarray  # bool (frame,)
    left_out: np.ndarray  # bool (frame,)

    def score(self, **settings: Any) -> Score:
        return score_events(closed_runs(self.landmarks, **settings), runs(self.closed), self.left_out)


def crops(path: Path, role: str | None) -> list[np.ndarray]:
    """A head as 384 px squares: half of a ViCo clip, or the picture with its shorter side padded."""
    frames = list(read_video(path))
    if role:
        half = frames[0].shape[1] // 2
        frames = [frame[:, :half] if role == "speaker" else frame[:, half:] for frame in frames]
    height, width = frames[0].shape[:2]
    side = max(height, width)
    padding = [((side - size) // 2, side - size - (side - size) // 2) for size in (height, width)]
    return [cv2.resize(np.pad(frame, (*padding, (0, 0))), (SIDE_PX, SIDE_PX)) for frame in frames]


def labelled_head(tracker: Tracker, media: Path, entry: dict[str, Any], grid_fps: int | None = None) -> LabelledHead:
    """Landmarks and labels of an entry; with ``grid_fps`` on that grid, each frame the nearest of the source."""
    frames = crops(media / entry["file"], entry["role"])
    assert len(frames) == entry["frames"]
    closed, left_out = np.zeros((2, len(frames)), bool)
    for first, last in entry["closed"]:
        closed[first : last + 1] = True
    for first, last in entry["partial"] + entry.get("ambiguous_runs", []):
        left_out[first : last + 1] = True
    left_out[entry["doubt"]] = True
    rate = Fraction(entry["fps"]) / grid_fps if grid_fps else Fraction(1)
    shown = [min(int(k * rate + Fraction(1, 2)), len(frames) - 1) for k in range(int(len(frames) / rate))]
    missing = np.full((NUM_POINTS, 3), np.nan)
    points = [missing if found is None else found for found in tracker.follow(frames[k] for k in shown)]
    return LabelledHead(f"{entry['file']} {entry['role']}", np.stack(points), closed[shown], left_out[shown])


@pytest.fixture(scope="module")
def heads(shared: Path) -> list[LabelledHead]:
    """All labelled heads at their own frame rate, and the one of 25 fps once more on the 30 fps grid of a clip."""
    entries = json.loads((shared / "golden" / "labels" / "blinks.json").read_text())["clips"]
    tracker = Tracker(min_detection=0.5, min_presence=0.9)
    own = [labelled_head(tracker, shared / "media", entry) for entry in entries]
    return own + [labelled_head(tracker, shared / "media", entry, FPS) for entry in entries if entry["fps"] != FPS]


@pytest.mark.shared
@pytest.mark.parametrize("settings", [{}, {"threshold": 0.54}, {"threshold": 0.66}])  # a margin of a tenth
def test_blinks_are_those_that_people_see(heads: list[LabelledHead], settings: dict[str, float]) -> None:
    scores = {head: head.score(**settings) for head in heads}
    total = sum(scores.values(), Score())
    assert total.found + total.missed >= 49
    assert total.f1 >= 0.9, total
    assert max(total.end_errors) <= 2, {head.name: score.end_errors for head, score in scores.items()}


@pytest.mark.shared
def test_heads_that_do_not_blink_have_no_blinks(heads: list[LabelledHead]) -> None:
    still = [head for head in heads if not head.closed.any()]
    assert len(still) >= 10
    assert [head.name for head in still if head.score().invented] == []
