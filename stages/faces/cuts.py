"""Shot cuts inside a clip: hard changes of the picture that no motion explains.

A cut is a step between two neighbouring frames that is larger than anything the picture does in the frames around it.
That comparison (after the adaptive detector of PySceneDetect, which takes the mean of the neighbours) needs no level
that suits every video: gestures, laughter, hand-held cameras, noise and low frame rates move the neighbours too, and
after a camera flash the picture returns. Two kinds of steps are looked at:

- colour: the distribution of colours in one half of the picture, which motion hardly changes and another shot does;
- structure: the share of the blocks of a head that change more than in any step nearby, for a jump between two takes
  of the same person in front of the same wall.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.faces.boxes import Floats

THUMB_WIDTH_PX = 240  # about: frames are shrunk by a whole factor
BLOCK_PX = 8  # of the thumb; a head of 1/8 of the picture's width has 9-16 of them
NEARBY_FRAMES = 6  # a step is compared with all that happens in so many frames before and after it, about 0.2 s
MIN_CONTEXT_FRAMES = 3  # fewer frames before or after do not tell how much the picture moves

COLOUR_BINS = 64
COLOUR_NOISE = 1.0  # grey levels of 255 by which still pictures differ
MIN_COLOUR_STEP = 6.0  # grey levels; recompression and automatic exposure stay below 4
COLOUR_RATIO = 2.0  # of the step and the largest change nearby: under 1.8 in continuous footage, 2.4 and more at cuts

BLOCK_NOISE = 0.8  # grey levels by which the blocks of still pictures differ
BLOCK_RATIO = 1.5  # a block jumps if its step is so many times the largest change nearby; lost frames make up to 1.3
MIN_BLOCKS = 9  # fewer blocks of a head do not tell
MIN_MOVING_SHARE = 0.6  # of a head's blocks count at least as moving: a blink or a caption under a head is no cut
HEAD_SHARE = 0.4  # of a head's moving blocks jump: under .3 in 10 000 frames of footage, .4 at half of all jump cuts


class ShotCut(NamedTuple):
    """A hard cut: the first frame after it and what gave it away."""

    frame: int
    evidence: str


class CutFinder:
    """Looks at all frames of a clip in their order and then tells where the cuts are.

    Only the distances between frames at most `NEARBY_FRAMES` apart are kept: 10 KB a frame.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[Floats, Floats]] = deque(maxlen=NEARBY_FRAMES)
        self._colour: list[Floats] = []  # a frame: (lag, half), grey levels to the frame `lag + 1` before
        self._blocks: list[Floats] = []  # a frame: (lag, block row, block column)

    def add(self, frame: NDArray[np.uint8]) -> None:
        """The next frame or its thumb, (height, width, 3) uint8 RGB; all of one size."""
        thumb = _thumb(frame)
        now = _colours(thumb), _structure(thumb)
        colour = np.zeros((NEARBY_FRAMES, 2), np.float32)
        blocks = np.zeros((NEARBY_FRAMES, thumb.shape[0] // BLOCK_PX, thumb.shape[1] // BLOCK_PX), np.float32)
        if self._recent:
            colour[: len(self._recent)] = _colour_steps(now[0], np.stack([before for before, _ in self._recent]))
        for lag, (_, before) in enumerate(self._recent):
            blocks[lag] = _block_differences(now[1], before)
        self._colour.append(colour)
        self._blocks.append(blocks)
        self._recent.appendleft(now)

    def picture_cuts(self) -> list[ShotCut]:
        """Cuts to another picture in the left or the right half."""
        if len(self._colour) < 2:
            return []
        step, nearby = _steps(np.stack(self._colour))
        is_cut = (step >= MIN_COLOUR_STEP) & (step >= COLOUR_RATIO * (nearby + COLOUR_NOISE))
        found = []
        for row in np.flatnonzero(is_cut.any(axis=1)):
            half = int(step[row].argmax())
            colours = f"colours change by {step[row, half]:.0f} of 255, nearby by at most {nearby[row, half]:.0f}"
            found.append(ShotCut(int(row) + 1, f"{('left', 'right')[half]} half: {colours}"))
        return found

    def head_cuts(self, head: Floats) -> list[ShotCut]:
        """Jumps of one head, whose square (4,) is x1, y1, x2, y2 in shares of the picture's width and height."""
        if len(self._blocks) < 2 * MIN_CONTEXT_FRAMES:
            return []
        blocks = np.stack(self._blocks)
        rows, columns = (_cells(head[axis], head[axis + 2], blocks.shape[3 - axis]) for axis in (1, 0))
        inside = blocks[:, :, rows, columns].reshape(len(blocks), NEARBY_FRAMES, -1)
        if inside.shape[2] < MIN_BLOCKS:
            return []
        share = _jumping_share(*_steps(inside))
        share[: MIN_CONTEXT_FRAMES - 1] = share[len(share) - MIN_CONTEXT_FRAMES + 1 :] = 0
        return [
            ShotCut(int(row) + 1, f"{share[row]:.0%} of the moving parts of a head jump at once")
            for row in np.flatnonzero(share >= HEAD_SHARE)
        ]


def thumb_factor(width_px: int) -> int:
    """By what frames of a width are shrunk; a whole factor takes a tenth of the time of another one."""
    return max(round(width_px / THUMB_WIDTH_PX), 1)


def _thumb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame shrunk by its factor; a thumb as it is."""
    import cv2

    factor = thumb_factor(frame.shape[1])
    if factor == 1:
        return frame
    height, width = frame.shape[0] // factor, frame.shape[1] // factor
    whole = frame[: height * factor, : width * factor]
    if factor % 2:  # the same means in two thirds of the time
        middles = cv2.blur(whole, (factor, factor))
        return np.asarray(cv2.resize(middles, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))


def _colours(thumb: NDArray[np.uint8]) -> Floats:
    """Cumulative distribution of each colour channel in each half, (half, 3, bin).

    Two of them differ by the mean number of grey levels by which pixels would have to change (earth mover's distance).
    """
    import cv2

    halves = np.array_split(thumb, 2, axis=1)
    counts = [[cv2.calcHist([half], [c], None, [COLOUR_BINS], [0, 256])[:, 0] for c in range(3)] for half in halves]
    cumulative = np.cumsum(counts, axis=-1)
    return (cumulative / cumulative[..., -1:]).astype(np.float32)


def _colour_steps(now: Floats, before: Floats) -> Floats:
    """Grey levels by which the colours of each half (..., half) differ."""
    return np.asarray(np.abs(now - before).sum(axis=-1).mean(axis=-1) * (256 / COLOUR_BINS))


def colours_of(frame: NDArray[np.uint8]) -> Floats:
    """The distribution of a frame's colours, for `colour_step`."""
    return _colours(_thumb(frame))


def colour_step(before: Floats, after: Floats) -> float:
    """Grey levels by which the colours of two frames differ, in the half that differs more; see `MIN_COLOUR_STEP`."""
    return float(_colour_steps(after, before).max())


def _structure(thumb: NDArray[np.uint8]) -> Floats:
    """Grey picture without its finest detail, which compression changes, and slow shades, which light changes."""
    import cv2

    grey = cv2.GaussianBlur(cv2.cvtColor(thumb, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), BLOCK_PX / 6)
    return np.asarray(grey - cv2.blur(grey, (5 * BLOCK_PX, 5 * BLOCK_PX)))


def _block_differences(first: Floats, second: Floats) -> Floats:
    """Mean absolute difference in every block, (block row, block column)."""
    import cv2

    rows, columns = first.shape[0] // BLOCK_PX, first.shape[1] // BLOCK_PX
    difference = cv2.absdiff(first, second)[: rows * BLOCK_PX, : columns * BLOCK_PX]
    return np.asarray(cv2.resize(difference, (columns, rows), interpolation=cv2.INTER_AREA))  # exact means


def _cells(low: float, high: float, count: int) -> slice:
    """The cells of ``count`` whose centres lie between two shares of the whole."""
    return slice(max(round(low * count), 0), min(round(high * count), count))


def _steps(lags: Floats) -> tuple[Floats, Floats]:
    """How far each frame is from the one before, and the largest distance found inside the frames before or after.

    From distances (frame, lag, cell) to the frame ``lag + 1`` before, 0 where there is none. Each is (frame - 1, cell);
    row t is the step from frame t to t + 1.
    """
    step = lags[1:, 0]
    nearby = lags[:-1].max(axis=1)  # from frame t back to t - 1, t - 2 ...
    for lag in range(NEARBY_FRAMES):
        from_after = lags[lag + 2 :, lag]  # from frame t + 1 on to t + 2 + lag
        nearby[: len(from_after)] = np.maximum(nearby[: len(from_after)], from_after)
    return step, nearby


def _jumping_share(step: Floats, nearby: Floats) -> Floats:
    """Share of the moving blocks (frame - 1,) that change far more in this step than in all that happens nearby."""
    moving = (np.maximum(step, nearby) > 2 * BLOCK_NOISE).sum(axis=1)
    jumping = (step > BLOCK_RATIO * nearby + BLOCK_NOISE).sum(axis=1)
    return jumping / np.maximum(moving, MIN_MOVING_SHARE * step.shape[1])
