"""Stage ``blink``: against blinks seen by eye in real clips, and against eyes closed by construction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.clip import Clip
from pipeline.clock import FPS, Span
from pipeline.media.encode import LUMA_BLACK, OwnVideo, VideoWriter, read_video
from schemas.column import ROLES
from stages import blink
from stages.blink import IRISES, LEFT_EYE, RIGHT_EYE, SKULL, Blink, eye_aspect_ratio, eye_darkness, runs, uncovered
from stages.faces.mesh import NUM_POINTS
from stages.faces.tracker import Tracker

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


@pytest.mark.parametrize("num_closed", [1, 2, 3, 5, 12, 18])
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
        (blinking([(60, 61)]), {}, [(60, 61)]),
        (blinking([(60, 61)]), {"min_frames": 2}, []),
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


SKIN, DARK, RIM = 180, 60, 40  # grey levels of a drawn face


def drawn(opening: np.ndarray, rim: bool = False, shift_px: float = 0) -> list[np.ndarray]:
    """Pictures of two dark eyes at the places of `eyes`, whose upper lids fall to this share of the open height.

    ``rim``: the upper rim of glasses over the lid. ``shift_px``: how far both look to the side from frame 60 on.
    """
    frames = []
    for k, share in enumerate(opening):
        rgb = np.full((SIDE_PX, SIDE_PX, 3), SKIN, np.uint8)
        for centre_x in (130, 250):
            middle = (centre_x + (shift_px if k >= 60 else 0), 160)
            eye = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
            cv2.ellipse(eye, (int(middle[0]), middle[1]), (12, 9), 0, 0, 360, 255, -1)
            eye[: round(169 - 18 * share)] = 0  # all that the lid covers
            rgb[eye > 0] = DARK
            if rim:
                cv2.rectangle(rgb, (centre_x - 40, 150), (centre_x + 40, 153), (RIM,) * 3, -1)
        frames.append(rgb)
    return frames


def luma(frames: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Pictures in RGB as `OwnVideo.luma` gives them: BT.601, limited range."""
    to_grey = np.array([0.299, 0.587, 0.114], np.float32) * (219 / 255)
    return [np.rint(LUMA_BLACK + rgb.astype(np.float32) @ to_grey).astype(np.uint8) for rgb in frames]


def seen(right: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The points of `eyes` with both irises in the middles of the eyes, and the skull."""
    points = eyes(right, left)
    points[:, SKULL, :] = (190, 130, 0)
    points[:, IRISES, :] = [(130, 160, 0), (250, 160, 0)]
    return points


def lids(closed: Runs, share: float = 0.0) -> np.ndarray:
    """Opening of the lids, (frame,), 1 but for these runs."""
    opening = np.ones(NUM_FRAMES)
    for first, stop in closed:
        opening[first:stop] = share
    return opening


@pytest.mark.parametrize("rim", [False, True])
def test_lids_that_landmarks_hardly_follow_are_seen_in_the_picture(rim: bool) -> None:
    truth = [(30, 34), (60, 61), (100, 107)]
    weak = blinking(truth, share=0.8)
    points = seen(weak, weak)
    assert closed_runs(points) == []
    darkness = eye_darkness(luma(drawn(lids(truth), rim)), points)
    assert runs(Blink().closed(points, darkness)) == truth
    share = uncovered(darkness)
    closed = lids(truth) == 0
    assert share[~closed].min() > 0.9
    assert share[closed].max() < 0.3


def test_luma_as_it_is_stored_tells_the_same_of_eyes_as_their_colours(tmp_path: Path) -> None:
    truth, path = [(30, 34), (60, 61), (100, 107)], tmp_path / "eyes.mp4"
    with VideoWriter(path, (SIDE_PX, SIDE_PX), crf=10, preset="ultrafast") as writer:
        for frame in drawn(lids(truth)):
            writer.write(frame)
    weak = blinking(truth, share=0.8)
    points = seen(weak, weak)
    colours, stored = (eye_darkness(frames, points) for frames in (luma(read_video(path)), OwnVideo(path).luma()))
    np.testing.assert_allclose(stored, colours, atol=0.03)
    assert runs(Blink().closed(points, stored)) == runs(Blink().closed(points, colours)) == truth


def test_a_glance_to_the_side_covers_nothing() -> None:
    points = seen(open_eyes(), open_eyes())
    points[60:, IRISES, 0] += 12
    darkness = eye_darkness(luma(drawn(lids([]), shift_px=12)), points)
    assert uncovered(darkness).min() > 0.9
    assert runs(Blink().closed(points, darkness)) == []


def test_darkness_does_not_depend_on_place_size_and_tilt_of_the_face() -> None:
    truth = [(30, 34)]
    points = seen(open_eyes(), open_eyes())
    frames = drawn(lids(truth))
    turn = cv2.getRotationMatrix2D((190, 160), 25, 0.7)
    moved = points.copy()
    moved[..., :2] = points[..., :2] @ turn[:, :2].T + turn[:, 2]
    turned = [cv2.warpAffine(rgb, turn, (SIDE_PX, SIDE_PX), borderValue=(SKIN,) * 3) for rgb in frames]
    frames, turned = luma(frames), luma(turned)
    np.testing.assert_allclose(eye_darkness(turned, moved), eye_darkness(frames, points), atol=0.25)
    np.testing.assert_allclose(
        uncovered(eye_darkness(turned, moved)), uncovered(eye_darkness(frames, points)), atol=0.06
    )


def clip_with(folder: Path, points: np.ndarray, valid: np.ndarray, opening: np.ndarray | None = None) -> Clip:
    values: dict[str, Any] = {f"{role}_landmarks": points.astype(np.float32) for role in ROLES}
    values |= {f"{role}_landmarks_valid": valid for role in ROLES}
    values |= {f"{role}_video": "head.mp4" for role in ROLES}
    with VideoWriter(folder / "head.mp4", (SIDE_PX, SIDE_PX), preset="ultrafast") as writer:
        for rgb in drawn(np.ones(len(points)) if opening is None else opening):
            writer.write(rgb)
    return Clip(values, Span(Fraction(0), Fraction(len(points), FPS)), Path(), folder, folder)


def test_invalid_frames_are_never_blinks_and_have_no_ratio(tmp_path: Path) -> None:
    truth = [(30, 34), (60, 70), (100, 104)]
    ratio = blinking(truth, share=0.6)
    valid = np.ones(NUM_FRAMES, bool)
    valid[63:66] = valid[104:120] = valid[:3] = False
    values = Blink().process(clip_with(tmp_path, seen(ratio, ratio), valid, lids(truth, share=0.1)))
    assert runs(values["speaker_blink"]) == [(30, 34), (60, 63), (66, 70), (100, 104)]
    np.testing.assert_array_equal(np.isfinite(values["listener_eye_aspect_ratio"]), np.stack([valid, valid], axis=1))


def test_a_clip_without_a_valid_frame_has_no_blinks(tmp_path: Path) -> None:
    points = seen(open_eyes(), open_eyes())
    values = Blink().process(clip_with(tmp_path, points, np.zeros(NUM_FRAMES, bool)))
    assert not values["speaker_blink"].any()
    assert np.isnan(values["speaker_eye_aspect_ratio"]).all()


def test_every_column_has_its_declared_type_and_shape(tmp_path: Path) -> None:
    points = seen(open_eyes(), open_eyes())
    values = Blink().process(clip_with(tmp_path, points, np.ones(NUM_FRAMES, bool)))
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


DrawnOver = Callable[[list[np.ndarray], np.ndarray], list[np.ndarray]]  # of frames and landmarks
LABELS = Path(__file__).with_name("blink_labels.json")  # more heads, made as the golden ones were


@dataclass(frozen=True, eq=False)
class LabelledHead:
    """One labelled head with what the stage sees of every frame."""

    name: str
    landmarks: np.ndarray  # (frame, 478, 3) in px
    darkness: np.ndarray  # (frame, eye, row, pixel)
    closed: np.ndarray  # bool (frame,)
    left_out: np.ndarray  # bool (frame,)

    def score(self, **settings: Any) -> Score:
        found = Blink(Blink.Settings(**settings)).closed(self.landmarks, self.darkness)
        return score_events(runs(found), runs(self.closed), self.left_out)

    def shown(self, frames: np.ndarray) -> LabelledHead:
        """The head in a film that shows these of its frames."""
        whole = (self.landmarks, self.darkness, self.closed, self.left_out)
        return LabelledHead(self.name, *(values[frames] for values in whole))


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


def followed(tracker: Tracker, frames: Sequence[np.ndarray]) -> np.ndarray:
    """Landmarks of a video, (frame, 478, 3), NaN where there is no face."""
    missing = np.full((NUM_POINTS, 3), np.nan)
    return np.stack([missing if found is None else found for found in tracker.follow(frames)])


def labelled_head(
    tracker: Tracker,
    media: Path,
    entry: dict[str, Any],
    grid_fps: int | None = None,
    drawn_over: DrawnOver | None = None,
) -> LabelledHead:
    """What is seen and labelled of an entry; with ``grid_fps`` on that grid, each frame the nearest of the source."""
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
    frames = [frames[k] for k in shown]
    points = followed(tracker, frames)
    if drawn_over:
        frames = drawn_over(frames, points)
        points = followed(tracker, frames)
    name = f"{entry['file']} {entry['role']}"
    return LabelledHead(name, points, eye_darkness(luma(frames), points), closed[shown], left_out[shown])


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    return Tracker(min_detection=0.5, min_presence=0.9)


def golden_entries(shared: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((shared / "golden" / "labels" / "blinks.json").read_text())["clips"]
    return entries


@pytest.fixture(scope="module")
def heads(shared: Path, tracker: Tracker) -> list[LabelledHead]:
    """The golden heads at their own frame rate, and the one of 25 fps once more on the 30 fps grid of a clip."""
    entries = golden_entries(shared)
    own = [labelled_head(tracker, shared / "media", entry) for entry in entries]
    return own + [labelled_head(tracker, shared / "media", entry, FPS) for entry in entries if entry["fps"] != FPS]


@pytest.fixture(scope="module")
def new_heads(shared: Path, tracker: Tracker) -> list[LabelledHead]:
    """The heads of `LABELS`: glasses, a smile, make-up, winks, many blinks in a row."""
    return [labelled_head(tracker, shared / "media", entry) for entry in json.loads(LABELS.read_text())["clips"]]


def total(scores: Iterable[Score]) -> Score:
    return sum(scores, Score())


def recall(score: Score) -> float:
    return score.found / (score.found + score.missed)


@pytest.mark.shared
@pytest.mark.parametrize("settings", [{}, {"threshold": 0.558}, {"threshold": 0.682}])  # a margin of a tenth
def test_blinks_are_those_that_people_see(heads: list[LabelledHead], settings: dict[str, float]) -> None:
    scores = {head: head.score(**settings) for head in heads}
    whole = total(scores.values())
    assert whole.found + whole.missed >= 49
    assert whole.f1 >= 0.98, whole
    assert max(whole.end_errors) <= 2, {head.name: score.end_errors for head, score in scores.items()}


@pytest.mark.shared
def test_heads_that_do_not_blink_have_no_blinks(heads: list[LabelledHead], new_heads: list[LabelledHead]) -> None:
    still = [head for head in heads + new_heads if not head.closed.any()]
    assert len(still) >= 11
    assert [head.name for head in still if head.score().invented] == []


@pytest.mark.shared
def test_blinks_behind_glasses_in_smiles_and_of_new_people_are_found(new_heads: list[LabelledHead]) -> None:
    scores = {head.name: head.score() for head in new_heads}
    assert total(scores.values()).found + total(scores.values()).missed >= 78
    assert all(recall(score) >= 0.95 for score in scores.values() if score.found + score.missed), scores
    assert total(scores.values()).f1 >= 0.98, scores
    assert np.percentile(total(scores.values()).end_errors, 95) <= 2, scores


@pytest.mark.shared
@pytest.mark.parametrize("factor", [0.8, 1.2])
@pytest.mark.parametrize("constant", ["threshold", "OPEN_SHARE", "LID_SHARE"])
def test_no_constant_stands_on_an_edge(
    heads: list[LabelledHead],
    new_heads: list[LabelledHead],
    constant: str,
    factor: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {}
    if constant.isupper():
        monkeypatch.setattr(blink, constant, getattr(blink, constant) * factor)
    else:
        settings[constant] = getattr(Blink.Settings(), constant) * factor
    whole = total(head.score(**settings) for head in heads + new_heads)
    assert whole.f1 >= 0.96, whole


def once_each(head: LabelledHead) -> np.ndarray:
    """The frames of a film in which every closure lasts one frame and what is doubtful beside it is cut."""
    kept = ~head.closed
    beside = head.closed | head.left_out
    for first, stop in runs(beside):
        kept[first:stop] &= not head.closed[first:stop].any()
    for first, stop in runs(head.closed):
        kept[(first + stop - 1) // 2] = True
    return np.flatnonzero(kept)


FILMS: dict[str, Callable[[LabelledHead], np.ndarray]] = {
    "a source of 60 fps, its even frames": lambda head: np.arange(0, len(head.closed), 2),
    "a source of 60 fps, its odd frames": lambda head: np.arange(1, len(head.closed), 2),
    "a source of 15 fps": lambda head: np.arange(len(head.closed)) // 2 * 2,
    "closures of a single frame": once_each,
}


@pytest.mark.shared
@pytest.mark.parametrize("film", FILMS)
def test_blinks_are_found_at_other_rates_and_in_single_frames(
    heads: list[LabelledHead], new_heads: list[LabelledHead], film: str
) -> None:
    whole = total(head.shown(FILMS[film](head)).score() for head in heads + new_heads)
    assert whole.found + whole.missed >= 100
    assert recall(whole) >= 0.95, whole
    assert whole.f1 >= 0.97, whole


def with_glasses(frames: list[np.ndarray], landmarks: np.ndarray, lower: float = 0.0) -> list[np.ndarray]:
    """Dark frames whose upper rim lies over the crease of the lid, and a reflection on each lens.

    With ``lower``, a share of an eye's width, they have slid down the nose by that much.
    """
    middles = landmarks[:, [[33, 133], [263, 362]], :2].mean(axis=2)  # (frame, eye, xy)
    half = 2  # frames to either side, so that the rim keeps still where the mesh's corners do not
    shown = []
    for k, rgb in enumerate(frames):
        right, left = np.median(middles[max(0, k - half) : k + half + 1], axis=0)
        x, width = (left - right) / np.linalg.norm(left - right), 0.45 * np.linalg.norm(left - right)
        y = np.array([-x[1], x[0]])
        mask, glare = np.zeros((2, *rgb.shape[:2]), np.uint8)
        for middle, outward in ((right, -1), (left, 1)):
            corners = [
                middle + width * (a * x + (b + lower) * y)
                for a, b in ((-0.78, -0.22), (0.78, -0.22), (0.6, 0.6), (-0.6, 0.6))
            ]
            cv2.polylines(
                mask, [np.round(corners).astype(np.int32)], True, 255, max(2, round(0.08 * width)), cv2.LINE_AA
            )
            spot = np.round(middle + width * outward * 0.3 * x).astype(int)
            cv2.ellipse(
                glare, spot.tolist(), (max(2, round(0.2 * width)), max(1, round(0.1 * width))), 0, 0, 360, 120, -1
            )
        worn = rgb + (np.array([180, 200, 235]) - rgb) * (cv2.GaussianBlur(glare, (0, 0), 1.5)[..., None] / 255)
        shown.append((worn + (np.array([45, 35, 30]) - worn) * (mask[..., None] / 255)).astype(np.uint8))
    return shown


def small(frames: list[np.ndarray], landmarks: np.ndarray) -> list[np.ndarray]:
    """The head as it looks cropped from a picture in which it is 96 px high."""
    little = [cv2.resize(rgb, (96, 96), interpolation=cv2.INTER_AREA) for rgb in frames]
    return [cv2.resize(rgb, (SIDE_PX, SIDE_PX)) for rgb in little]


def drawn_heads(shared: Path, tracker: Tracker, drawn_over: DrawnOver) -> list[LabelledHead]:
    entries = [entry for entry in golden_entries(shared) if "cz7zhbn7aq0u" in entry["file"]]
    return [labelled_head(tracker, shared / "media", entry, drawn_over=drawn_over) for entry in entries]


@pytest.mark.shared
def test_blinks_of_small_faces_are_found(shared: Path, tracker: Tracker) -> None:
    whole = total(head.score() for head in drawn_heads(shared, tracker, small))
    assert whole.found + whole.missed == 11
    assert recall(whole) >= 0.95, whole
    assert whole.invented == 0


@pytest.mark.shared
def test_the_picture_finds_blinks_that_rims_hide_from_landmarks(shared: Path, tracker: Tracker) -> None:
    heads = drawn_heads(shared, tracker, with_glasses)
    whole = total(head.score() for head in heads)
    by_landmarks = [runs(Blink().closed(head.landmarks)) for head in heads]
    alone = total(
        score_events(found, runs(head.closed), head.left_out) for head, found in zip(heads, by_landmarks, strict=True)
    )
    assert whole.found >= 1.5 * alone.found, (whole, alone)
    assert recall(whole) >= 0.8, whole
    elsewhere = [
        head for lower in (-0.06, 0.06) for head in drawn_heads(shared, tracker, partial(with_glasses, lower=lower))
    ]
    everywhere = total(head.score() for head in [*heads, *elsewhere])
    assert recall(everywhere) >= 0.8, everywhere
    assert everywhere.invented <= everywhere.found / 8, everywhere
