"""Shot cuts: found where they were made, and not where people move, cameras flash or frames get lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.media.reader import SourceReader
from stages.faces.cuts import CutFinder

Frame = NDArray[np.uint8]

LEFT_HEAD = np.array([0.1, 0.1, 0.4, 0.9], np.float32)
RIGHT_HEAD = np.array([0.6, 0.1, 0.9, 0.9], np.float32)
NUM_FRAMES = 40


def split_screen(left: tuple[float, float] = (0, 0), right: tuple[float, float] = (0, 0), noise: int = 0) -> Frame:
    """Two real heads in front of walls of their own, each moved by whole pixels; with sensor noise on demand."""
    from skimage.data import astronaut

    frame = np.empty((240, 480, 3), np.uint8)
    frame[:, :240], frame[:, 240:] = (120, 90, 70), (60, 90, 110)
    head = cv2.resize(astronaut()[0:220, 120:340], (140, 140), interpolation=cv2.INTER_AREA)
    for column, (x, y) in ((50, left), (290, right)):
        top, start = 50 + round(y), column + round(x)
        frame[top : top + 140, start : start + 140] = head
    if noise:
        grain = np.random.default_rng(noise).normal(0, 4, frame.shape)
        frame = np.clip(frame + grain, 0, 255).astype(np.uint8)
    return frame


def find(frames: Iterable[Frame]) -> tuple[list[int], list[int], list[int]]:
    """Frames at which the picture, the left head and the right head are cut."""
    finder = CutFinder()
    for frame in frames:
        finder.add(frame)
    found = finder.picture_cuts(), finder.head_cuts(LEFT_HEAD), finder.head_cuts(RIGHT_HEAD)
    left, middle, right = ([cut.frame for cut in cuts] for cuts in found)
    return left, middle, right


def sway(frame: int, px: float = 12, period: float = 20) -> tuple[float, float]:
    return px * np.sin(2 * np.pi * frame / period), px / 3 * np.sin(4 * np.pi * frame / period)


def test_another_picture_is_a_cut_at_its_first_frame() -> None:
    first, second = split_screen(), np.ascontiguousarray(split_screen()[:, ::-1, ::-1])
    assert find([first] * 17 + [second] * 23)[0] == [17]


@pytest.mark.parametrize(("half", "columns"), [("left", slice(0, 240)), ("right", slice(240, 480))])
def test_a_cut_of_one_half_of_a_split_screen_is_found(half: str, columns: slice) -> None:
    frames = [split_screen(left=sway(k), right=sway(k + 5), noise=k + 1) for k in range(NUM_FRAMES)]
    for frame in frames[25:]:
        frame[:, columns] = frame[:, columns] // 2 + 90
    assert find(frames)[0] == [25], half


@pytest.mark.parametrize("context", [1, 2, 3])
def test_a_cut_in_the_first_or_last_frames_is_found(context: int) -> None:
    other = 255 - split_screen()
    frames = [split_screen(noise=k + 1) for k in range(NUM_FRAMES)]
    assert find([other] * context + frames[context:])[0] == [context]
    assert find(frames[:-context] + [other] * context)[0] == [NUM_FRAMES - context]


def test_a_jump_between_two_takes_of_one_person_is_a_cut_of_that_head() -> None:
    """The wall and the other person stay as they are; such a jump is a ninth of a head."""
    frames = [split_screen(left=(0 if k < 20 else 15, 0), right=sway(k), noise=k + 1) for k in range(NUM_FRAMES)]
    assert find(frames) == ([], [20], [])


def lit(frame: int, gain: int = 1, offset: int = 0) -> Frame:
    """The heads at rest, in other light on demand."""
    return np.clip(split_screen(noise=frame + 1).astype(int) * gain + offset, 0, 255).astype(np.uint8)


NOD = dict(enumerate([0, 3, 10, 18, 24, 26, 24, 18, 10, 3, 0], 20))  # .2 s out of stillness and back, 8 px a frame
LOST = [k - 1 if k % 5 == 0 else k for k in range(1, 61)]  # stands still now and then and catches up with the next
NO_CUTS: dict[str, tuple[int, Callable[[int], Frame]]] = {
    **{
        f"heads that sway in {n} frames": (60, lambda k, n=n: split_screen(sway(k, 15, n), sway(k + 3, 15, n), k + 1))
        for n in (8, 12, 30, 100)
    },
    **{
        f"a camera flash of {n} frames": (40, lambda k, n=n: lit(k, 2, 40) if 20 <= k < 20 + n else lit(k))
        for n in (1, 2, 3)
    },
    "a head that starts to move at once": (50, lambda k: split_screen(left=(0, NOD.get(k, 0)), noise=k + 1)),
    "frames lost on a call": (60, lambda k: split_screen(sway(LOST[k], 15, 25), sway(LOST[k], 10, 40), LOST[k])),
    "every frame shown twice": (80, lambda k: split_screen(sway(k // 2, 12, 12), sway(k // 2, 12, 15))),
    "light that brightens slowly": (40, lambda k: lit(k, 1, 2 * k)),
    "a single frame": (1, lambda k: split_screen()),
}


@pytest.mark.parametrize("film", NO_CUTS)
def test_what_is_no_cut(film: str) -> None:
    num_frames, draw = NO_CUTS[film]
    assert find(draw(k) for k in range(num_frames)) == ([], [], [])


def test_a_caption_that_appears_is_no_cut_of_a_head() -> None:
    frames = [split_screen(noise=k + 1) for k in range(NUM_FRAMES)]
    for frame in frames[20:]:
        frame[215:235, 20:460] = 250
        cv2.putText(frame, "A NAME AND WHAT THEY DO", (40, 230), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0))
    assert find(frames)[1:] == ([], [])


def reduced(shared: Path, file: str, start: int = 0, end: int | None = None) -> Iterable[Frame]:
    with SourceReader(shared / "media" / file) as reader:
        info, times = reader.info(), reader.frame_times()
        width = min(info.width, 640)
        size = (width, round(info.height * width / info.width))
        for _, rgb in reader.frames(times.pts[start:end], size):
            yield rgb


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "start", "end", "cuts"),
    [
        ("a_dyadic/hd_pairs_open.mp4", 150, 250, [50]),
        ("a_dyadic/msdwild_BC_dialogue.mp4", 0, 154, [83]),
        ("a_dyadic/talkshow_cuts_352x288.mp4", 100, 360, [26, 103, 246]),
        ("a_dyadic/debate_ca_trudeau_singh.avi", 100, 151, [47]),
        ("e_robustness/movie_vfr_cuts.mp4", 0, 160, [60, 140]),
        ("e_robustness/concert_cuts.mp4", 0, 275, [20, 82, 211]),
    ],
)
def test_real_cuts_are_found_at_their_frames(file: str, start: int, end: int, cuts: list[int], shared: Path) -> None:
    assert find(reduced(shared, file, start, end))[0] == cuts


@pytest.mark.shared
def test_the_hard_to_see_jump_of_a_real_head_is_found(shared: Path) -> None:
    """Left tile: the same person at the end of a sentence, then at its beginning, in front of the same blue wall."""
    finder = CutFinder()
    for frame in reduced(shared, "a_dyadic/grid_pair1_bbaf2n_brbk7n.mp4", 50, 110):
        finder.add(frame)
    assert [cut.frame for cut in finder.head_cuts(np.array([0.1, 0.27, 0.31, 0.84], np.float32))] == [25]


@pytest.mark.shared
@pytest.mark.parametrize(
    "file",
    [
        "vico/cte53x3i02lo.mp4",
        "vico/d336vte2a17j.mp4",  # stutters: frames were lost
        "vico/fd21te30h4a7.mp4",
        "vico/ek3utk9fn46v.mp4",
        "b_heads/smiling_woman_noaudio.mp4",
        "b_heads/vox_christie.mp4",
    ],
)
def test_people_who_talk_and_laugh_are_not_cut(file: str, shared: Path) -> None:
    assert find(reduced(shared, file)) == ([], [], [])
