"""Head angles of two data sets side by side: ``python -m jobs.study.compare_fitters OUT_A OUT_B``, a table in Markdown.

Both were built from one manifest with different fitters (``--set threedmm.fitter=...``). A row a role of a clip: how
the angles correlate, how far the head turns by the second data set, and by how much they differ throughout.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobs.command import command, option
from pipeline.dataset.read import provenance_of, read_clips
from pipeline.tables import markdown_table
from schemas.column import ROLES
from schemas.errors import UserError

ANGLES = ("pitch", "yaw", "roll")
MOVING_DEG = 3.0  # range of an angle from which its correlation says something: below it is mostly noise
MIDDLE = (2.5, 97.5)  # percentiles between which the range is taken, so that one bad frame makes no motion


@dataclass(frozen=True)
class Agreement:
    """One face in one clip: motion by the second fitter, correlation and median difference, of three angles."""

    face: str
    motion_deg: np.ndarray
    correlation: np.ndarray
    offset_deg: np.ndarray

    def cells(self) -> list[str]:
        """The row of the table; correlations of angles that hardly move stand in brackets."""
        row = [self.face]
        for motion, correlation, offset in zip(self.motion_deg, self.correlation, self.offset_deg, strict=True):
            shown = f"{correlation:.2f}" if motion >= MOVING_DEG else f"({correlation:.2f})"
            row.append(f"{shown}, {motion:.1f}°, {offset:+.1f}°")
        return row


def agreement(face: str, first: np.ndarray, second: np.ndarray) -> Agreement:
    """Compare two tracks of angles (frame, 3) in rad; frames that are NaN in either are left out."""
    both = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
    ours, theirs = np.degrees(first[both]), np.degrees(second[both])
    with np.errstate(invalid="ignore", divide="ignore"):  # an angle that does not move at all correlates with nothing
        correlation = np.array([np.corrcoef(ours[:, k], theirs[:, k])[0, 1] for k in range(len(ANGLES))])
    low, high = np.percentile(theirs, MIDDLE, axis=0)
    return Agreement(face, high - low, correlation, np.median(ours - theirs, axis=0))


def table(rows: Sequence[Agreement]) -> str:
    """All faces, and the medians over those whose angle moves."""
    last = ["**median** of those that move"]
    for k in range(len(ANGLES)):
        moving = [row.correlation[k] for row in rows if row.motion_deg[k] >= MOVING_DEG]
        offset = np.median([row.offset_deg[k] for row in rows])
        last.append(f"**{np.median(moving):.3f}** of {len(moving)}, {offset:+.1f}°" if moving else "none moves")
    header = ["face", *(f"{angle}: correlation, range, offset" for angle in ANGLES)]
    return markdown_table(header, [*(row.cells() for row in rows), last])


def angles_of(root: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Face and angles (frame, 3) of every role of every published clip."""
    for row in read_clips(root, [f"{role}_angle" for role in ROLES]):
        for role in ROLES:
            yield f"{row['clip_id']} {role}", row[f"{role}_angle"]


@command(option("datasets", nargs=2, type=Path, help="two data sets of the same clips"))
def main(options: argparse.Namespace) -> None:
    """Compare head angles."""
    first, second = options.datasets
    theirs = dict(angles_of(second))
    rows = [agreement(face, angles, theirs[face]) for face, angles in angles_of(first) if face in theirs]
    if not rows:
        raise UserError(f"{first} and {second} have no clip in common; build both from one manifest")
    print(f"{provenance_of(first)} against {provenance_of(second)}\n\n{table(rows)}")
