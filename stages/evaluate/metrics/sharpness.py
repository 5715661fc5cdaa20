"""CPBD: how sharp a picture looks, without a reference: the share of edges that are not blurred noticeably.

An edge is as wide as the row's grey levels rise or fall without a break through its pixel. Its blur is noticed with a
probability of ``1 - exp(-(width / w)^3.6)``, w = 5 px in blocks of low contrast and 3 px in others; CPBD is the share
of edges whose probability, rounded to whole percent, is below 64. Widths are whole and a width of w has 63 %, so that
is the share of widths up to w.

Conventions: Pictures are 8 bit grey, (height, width), by OpenCV's conversion from RGB; what is left beside the blocks
of 64 px does not count. As in python-cpbd: the square of the gradient is compared with the root of its mean, an ideal
step has no edge since both its columns are equally strong, and a pixel without horizontal gradient counts as one that
rises.

Source: Narvekar and Karam, "A No-Reference Image Blur Metric Based on the Cumulative Probability of Blur Detection
(CPBD)", TIP 2011, of the Image, Video and Usability Lab, Arizona State University; Marziliano et al., ICIP 2002, for
the widths; Canny, PAMI 1986, for the blocks that count. Written from descriptions of python-cpbd 1.0.7, no code of
which is here.
"""

from __future__ import annotations

import cv2
import numpy as np

from stages.evaluate.metrics.definition import Definition, Direction, Pooling, Quantity
from stages.evaluate.metrics.validation import check, check_pictures

BLOCK_PX = 64
LOW_CONTRAST = 50  # grey levels between a block's darkest and brightest pixel
LOW_CONTRAST_WIDTH_PX, WIDTH_PX = 5, 3  # the widest edge whose blur is not noticed
MIN_EDGE_PIXELS = int(0.002 * BLOCK_PX**2) + 1  # Canny's, for a block to count
LONGEST_RUN_PX = 100  # to either side of an edge
GREYS_TO_GRADIENT = 8  # sum of the Sobel kernel's weights, regardless of their signs
STEEPEST = np.tan(np.pi / 8)  # a gradient up to 22.5 degrees from the horizontal has a width

CANNY_HIGH = 0.2  # scikit-image's default, meant for [0, 1], here in grey levels: nearly everything is an edge
STRIPS_PX = (8, 52)  # rows in the middle of every block in which Canny's edges are looked for, first few, then most
STRIP_MARGIN_PX = 6  # 4 of the Gaussian, 1 of the gradient, 1 of the neighbours
SURELY_EDGE_PIXELS = 4 * MIN_EDGE_PIXELS  # in the strip: roundings of a few pixels do not matter


def cpbd(frames: np.ndarray) -> float:
    """Mean CPBD of frames, uint8 RGB (frame, height, width, 3)."""
    check(frames, ndim=4)
    check_pictures(frames)
    return float(np.mean([cpbd_of_picture(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) for frame in frames]))


def cpbd_of_picture(grey: np.ndarray) -> float:
    """CPBD of a grey picture, uint8 (height, width); 0 where there is no edge."""
    rows, columns = grey.shape[0] // BLOCK_PX, grey.shape[1] // BLOCK_PX
    inside = grey[: rows * BLOCK_PX, : columns * BLOCK_PX]
    y, x, widths = edge_widths(grey)
    block = np.where((y < inside.shape[0]) & (x < inside.shape[1]), y // BLOCK_PX * columns + x // BLOCK_PX, -1)
    widths, block = widths[block >= 0], block[block >= 0]
    if not len(block):
        return 0.0
    counts = _blocks_that_count(grey, np.unique(block), (rows, columns))[block]
    if not counts.any():
        return 0.0
    blocks = inside.reshape(rows, BLOCK_PX, columns, BLOCK_PX)
    contrast = (blocks.max(axis=1).max(axis=2) - blocks.min(axis=1).min(axis=2)).ravel()
    limit = np.where(contrast <= LOW_CONTRAST, LOW_CONTRAST_WIDTH_PX, WIDTH_PX)[block]
    return float((widths <= limit)[counts].mean())


def sobel_edges(grey: np.ndarray) -> np.ndarray:
    """Thinned edges of the horizontal gradient, bool (height, width)."""
    gradient = cv2.Sobel(grey, cv2.CV_16S, 1, 0, ksize=3, borderType=cv2.BORDER_REFLECT)
    squared = np.square(gradient, dtype=np.int32)
    threshold = 2 * np.sqrt(squared.mean() / GREYS_TO_GRADIENT**2) * GREYS_TO_GRADIENT**2
    squared[squared <= threshold] = 0
    framed = cv2.copyMakeBorder(squared, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    highest_in_row = (squared > framed[1:-1, :-2]) & (squared > framed[1:-1, 2:])
    return highest_in_row | ((squared > framed[:-2, 1:-1]) & (squared > framed[2:, 1:-1]))


def edge_widths(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and width in px of every edge whose gradient is horizontal to 22.5 degrees, (edge,) each."""
    edges = sobel_edges(grey)
    edges[[0, -1]] = edges[:, [0, -1]] = False
    place, level = np.flatnonzero(edges), grey.ravel()
    across = level[place + 1].astype(np.int16) - level[place - 1]
    down = level[place + grey.shape[1]].astype(np.int16) - level[place - grey.shape[1]]
    flat = np.abs(down) <= STEEPEST * np.abs(across)
    widths = np.zeros(len(place), np.int64)
    left, right = grey[:, :-1], grey[:, 1:]
    for steps, chosen in ((left < right, (flat & (across > 0)) | (across == 0)), (left > right, flat & (across < 0))):
        widths[chosen] = _run_widths(steps, place[chosen])
    if not _has_angles(grey):
        widths[:] = 0
    y, x = np.divmod(place[widths > 0], grey.shape[1])
    return y, x, widths[widths > 0]


def _run_widths(steps: np.ndarray, place: np.ndarray) -> np.ndarray:
    """2 + steps (height, width - 1) of one direction without a break up to the pixel before and from the one after.

    ``place`` counts pixels row by row.
    """
    framed = np.zeros((len(steps), steps.shape[1] + 2), bool)  # column c: the step from pixel c - 1 to c
    framed[:, 1:-1] = steps  # nothing runs past the border
    breaks = np.flatnonzero(~framed.ravel())
    place = place + place // (steps.shape[1] + 1)  # rows are longer by one
    to_left = place - 1 - breaks[np.searchsorted(breaks, place - 1, side="right") - 1]
    to_right = breaks[np.searchsorted(breaks, place + 2)] - (place + 2)
    return 2 + np.minimum(to_left, LONGEST_RUN_PX) + np.minimum(to_right, LONGEST_RUN_PX)


def _has_angles(grey: np.ndarray) -> bool:
    """Whether any gradient points elsewhere than to the right; else the published program finds no edge at all."""
    if (grey[:, 2:] < grey[:, :-2]).any():
        return True
    down, across = np.gradient(grey.astype(np.float64))
    return bool(((across < 0) | ((across != 0) & (down != 0))).any())


def canny_edges(grey: np.ndarray) -> np.ndarray:
    """Canny's edges, bool (height, width), with the published program's thresholds."""
    from skimage.feature import canny

    return canny(grey.astype(np.float64))


def _blocks_that_count(grey: np.ndarray, wanted: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Whether a block has enough of Canny's edges, bool (block,); only the wanted ones are looked at.

    Nearly every block has hundreds. So strips of it are looked at first, which can only say yes, and Canny's whole
    program runs where they leave a wanted block open.
    """
    rows, columns = grid
    inside = grey[: rows * BLOCK_PX, : columns * BLOCK_PX]
    for strip_px in STRIPS_PX:
        counts = strip_edges(inside, strip_px).reshape(rows, strip_px, columns, BLOCK_PX).sum(axis=(1, 3)).ravel()
        if (counts[wanted] >= SURELY_EDGE_PIXELS).all():
            return counts >= SURELY_EDGE_PIXELS
    edges = canny_edges(grey)[: inside.shape[0], : inside.shape[1]]
    return edges.reshape(rows, BLOCK_PX, columns, BLOCK_PX).sum(axis=(1, 3)).ravel() >= MIN_EDGE_PIXELS


def strip_edges(grey: np.ndarray, strip_px: int) -> np.ndarray:
    """Edges that Canny finds strong by themselves in the middle rows of every block, bool (strip rows, width).

    Without those near the left and right border, where the smoothing is another.
    """
    rows, width = len(grey) // BLOCK_PX, grey.shape[1]
    first = (BLOCK_PX - strip_px) // 2 - STRIP_MARGIN_PX
    height = strip_px + 2 * STRIP_MARGIN_PX
    strips = grey.reshape(rows, BLOCK_PX, width)[:, first : first + height].reshape(-1, width).astype(np.float32)
    smooth = cv2.GaussianBlur(strips, (9, 9), 1.0)
    gradient = [cv2.Sobel(smooth, cv2.CV_32F, *order) for order in ((0, 1), (1, 0))]
    rim = STRIP_MARGIN_PX - 1
    down, across = (values.reshape(rows, height, width)[:, rim:-rim, rim:-rim] for values in gradient)
    edges = np.zeros((rows, strip_px, width), bool)
    strength = np.sqrt(np.square(down) + np.square(across))
    edges[..., rim + 1 : -rim - 1] = _strongest_along_gradient(strength, down, across)
    return edges.reshape(-1, width)


def _strongest_along_gradient(strength: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Whether a pixel of (strip, row, column) is strong, and no weaker than both points that its gradient passes.

    Those lie between two neighbours each; the result is smaller by one pixel on every side.
    """

    def moved(rows: int, columns: int) -> np.ndarray:
        return strength[:, 1 + rows : strength.shape[1] - 1 + rows, 1 + columns : strength.shape[2] - 1 + columns]

    here, down, across = moved(0, 0), down[:, 1:-1, 1:-1], across[:, 1:-1, 1:-1]
    steep, same = np.abs(down) > np.abs(across), (down >= 0) == (across >= 0)
    larger, smaller = np.maximum(np.abs(down), np.abs(across)), np.minimum(np.abs(down), np.abs(across))
    share = np.divide(smaller, larger, out=np.zeros_like(larger), where=larger > 0)
    found = here >= CANNY_HIGH
    for sign in (1, -1):
        straight = np.where(steep, moved(sign, 0), np.where(same, moved(0, sign), moved(0, -sign)))
        diagonal = np.where(same, moved(sign, sign), moved(sign, -sign))
        found &= share * diagonal + (1 - share) * straight <= here
    return found


DEFINITIONS = (
    Definition(
        id="cpbd",
        name="CPBD",
        published_as="CPBD, ViCo Table 4; ViCo challenge; HSP Table 1; MFR-Net Table 2",
        formula="share of edge widths whose blur is noticed with a probability below 64 %, mean over frames",
        source="Narvekar and Karam, TIP 2011; python-cpbd 1.0.7, which compute_cpbd.py of the ViCo baseline runs",
        scale=1.0,
        pooling=Pooling.FRAMES,
        direction=Direction.HIGHER,
        inputs=(Quantity.FRAMES.predicted,),
        min_frames=1,
        function=cpbd,
        perfect=None,
        warning="one grey level of noise moves it by a fifth; an ideal step has 0",
    ),
)
