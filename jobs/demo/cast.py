"""The cast: four looks of one face, told apart by hair, skin, suit, wall, size and side."""

from __future__ import annotations

from jobs.demo.portrait import Colours, Look


def tint(red: float, green: float, blue: float) -> Colours:
    """A colour matrix that scales the three channels."""
    return ((red, 0, 0), (0, green, 0), (0, 0, blue))


def grey(red: float, green: float, blue: float) -> Colours:
    """A colour matrix that keeps brightness only, scaled to a tone."""
    first, second, third = ((0.299 * gain, 0.587 * gain, 0.114 * gain) for gain in (red, green, blue))  # BT.601
    return (first, second, third)


ORANGE_TO_BLUE: Colours = ((0, 0, 1), (0, 0.9, 0), (0.9, 0, 0))
ORANGE_TO_GREEN: Colours = ((0.3, 0.2, 0), (0.5, 0.2, 0), (0.3, 0.2, 0.1))

CAST = {
    "ada": Look(
        mirrored=False, zoom=2.35, width=1.0, head_px=(320, 262), wall=(150, 140, 130),
        hair=tint(1, 1, 1), skin=tint(1, 1, 1), clothes=tint(1, 1, 1),
    ),
    "bea": Look(
        mirrored=True, zoom=2.5, width=0.95, head_px=(325, 275), wall=(70, 105, 125),
        hair=tint(0.42, 0.32, 0.28), skin=tint(0.88, 0.76, 0.68), clothes=ORANGE_TO_BLUE,
    ),
    "cleo": Look(
        mirrored=True, zoom=2.25, width=1.05, head_px=(320, 255), wall=(165, 150, 110),
        hair=grey(1.39, 1.35, 1.31), skin=tint(1.02, 0.97, 0.95), clothes=ORANGE_TO_GREEN,
    ),
    "dora": Look(
        mirrored=False, zoom=2.45, width=0.98, head_px=(318, 268), wall=(95, 85, 120),
        hair=tint(0.95, 0.5, 0.25), skin=tint(1.05, 1, 1), clothes=grey(0.72, 0.8, 0.88),
    ),
}  # fmt: skip
