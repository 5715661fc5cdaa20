"""Look at a clip: ``python -m jobs.preview OUT/media/CLIP_ID --out x.png`` (six frames) or ``--out x.mp4`` (all).

Draws over both face videos what the data set says of them: the box and mesh of the landmarks, or the fitted model where
landmark_gn fitted one, the head's axes (x red, y green, z blue), the error of the fit and closed eyes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from jobs.command import command, option
from jobs.viewer.fitted import fit_error, fitted_points, is_fitted, mesh_edges
from pipeline.dataset.read import read_description
from pipeline.dataset.store import Store
from pipeline.media.encode import VideoWriter, read_video
from schemas.column import ROLES
from schemas.dataset import Description
from schemas.errors import UserError
from stages.morphable.rotation import rotation_matrix

SHEET_FRAMES = 6  # of a picture
LANDMARK, MODEL, CLOSED = (255, 255, 0), (120, 220, 255), (255, 60, 60)  # RGB
TEXT, SHADOW = (255, 255, 255), (0, 0, 0)
AXES = {(255, 0, 0): (1.0, 0.0, 0.0), (0, 255, 0): (0.0, 1.0, 0.0), (60, 60, 255): (0.0, 0.0, 1.0)}
AXIS_SHARE = 0.35  # length of an axis, of the face box's diagonal
NOSE_TIP = 4


@dataclass(frozen=True)
class Shown:
    """What is drawn over one role, an entry a frame: None where the data set says nothing."""

    landmarks: np.ndarray  # (frame, 478, 2) in px, NaN where not valid, as the model's
    model: np.ndarray | None
    rotation: np.ndarray | None  # (frame, 3, 3) for column vectors, y up
    closed: np.ndarray | None  # bool (frame,)


def clip_columns(folder: Path) -> tuple[dict[str, Any], Description]:
    """All columns of the clip whose media folder this is, and the description of its data set.

    Raises
    ------
    UserError : the folder is none of a data set's, or the clip has no landmarks there.
    """
    root, clip_id = folder.resolve().parents[1], folder.resolve().name
    description, store = read_description(root), Store(root)
    columns: dict[str, Any] = {}
    for path in store.column_files():
        columns |= store.columns_of_clip(path, clip_id)
    if f"{ROLES[0]}_landmarks" not in columns:
        raise UserError(
            f"{folder}: expected OUT/media/CLIP_ID of a built data set, found no landmarks of a clip {clip_id!r} in "
            f"{root} ({description.kind}): python -m jobs.check {root}"
        )
    return columns, description


def shown(columns: dict[str, Any], description: Description, role: str) -> Shown:
    """What can be drawn over a role."""
    landmarks = columns[f"{role}_landmarks"][..., :2]
    angle = columns.get(f"{role}_angle")
    rotation = None if angle is None else rotation_matrix(torch.from_numpy(angle.copy())).numpy()
    model = fitted_points(columns, description, role) if is_fitted(description) and rotation is not None else None
    return Shown(landmarks, model, rotation, columns.get(f"{role}_blink"))


def draw(rgb: np.ndarray, what: Shown, frame: int) -> np.ndarray:
    """A copy of one frame with all that is known of it drawn over."""
    picture = rgb.copy()
    points = what.landmarks[frame]
    if not np.isfinite(points).all():
        return _labelled(picture, "no landmarks", CLOSED)
    low, high = points.min(axis=0), points.max(axis=0)
    cv2.rectangle(picture, _pixel(low), _pixel(high), LANDMARK, 1)
    model = points if what.model is None else what.model[frame]
    if np.isfinite(model).any():
        _mesh(picture, model, LANDMARK if what.model is None else MODEL)
    label = ""
    if what.rotation is not None and np.isfinite(what.rotation[frame]).all():
        _axes(picture, points[NOSE_TIP], what.rotation[frame], AXIS_SHARE * float(np.linalg.norm(high - low)))
    if what.model is not None:
        label = f"fit {fit_error(what.model[frame : frame + 1], points[None])[0]:.2%}"
    if what.closed is not None and what.closed[frame]:
        return _labelled(picture, f"{label}  eyes closed", CLOSED)
    return _labelled(picture, label, TEXT)


def _mesh(picture: np.ndarray, points: np.ndarray, colour: tuple[int, int, int]) -> None:
    mesh = mesh_edges()
    layer = picture.copy()
    for first, second in mesh["tesselation"]:
        _line(layer, points[first], points[second], colour)
    cv2.addWeighted(layer, 0.35, picture, 0.65, 0, dst=picture)
    for first, second in (*mesh["contours"], *mesh["irises"]):
        _line(picture, points[first], points[second], colour)


def _axes(picture: np.ndarray, origin: np.ndarray, rotation: np.ndarray, length_px: float) -> None:
    for colour, axis in AXES.items():
        x, y, _ = rotation @ np.array(axis) * length_px
        _line(picture, origin, origin + np.array([x, -y]), colour, 2)


def _line(picture: np.ndarray, start: np.ndarray, end: np.ndarray, colour: tuple[int, ...], width: int = 1) -> None:
    if np.isfinite(start).all() and np.isfinite(end).all():
        cv2.line(picture, _pixel(start), _pixel(end), colour, width, cv2.LINE_AA)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _labelled(picture: np.ndarray, text: str, colour: tuple[int, int, int]) -> np.ndarray:
    for ink, width in ((SHADOW, 3), (colour, 1)):
        cv2.putText(picture, text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, width, cv2.LINE_AA)
    return picture


def drawn_frames(folder: Path) -> Iterator[np.ndarray]:
    """All frames of a clip, drawn over, speaker on the left: uint8 (side, 2 side, 3)."""
    columns, description = clip_columns(folder)
    both = [shown(columns, description, role) for role in ROLES]
    videos = [read_video(folder / f"{role}.mp4") for role in ROLES]
    for frame, pictures in enumerate(zip(*videos, strict=True)):
        yield np.hstack([draw(rgb, what, frame) for rgb, what in zip(pictures, both, strict=True)])


def write_film(folder: Path, out: Path) -> None:
    """All frames as a video."""
    frames = drawn_frames(folder)
    first = next(frames)
    with VideoWriter(out, (first.shape[1], first.shape[0])) as writer:
        for frame in chain([first], frames):
            writer.write(frame)


def write_sheet(folder: Path, out: Path) -> None:
    """`SHEET_FRAMES` frames, evenly spread over the clip, as a picture."""
    columns, _ = clip_columns(folder)
    last = len(columns[f"{ROLES[0]}_landmarks"]) - 1
    chosen = np.linspace(0, last, SHEET_FRAMES).round().astype(int).tolist()
    kept = {k: frame for k, frame in enumerate(drawn_frames(folder)) if k in chosen}
    rows = np.array_split([kept[k] for k in chosen], 2)
    cv2.imwrite(str(out), np.vstack([np.hstack(row) for row in rows])[..., ::-1])


@command(
    option("clip", type=Path, help="the clip's folder, OUT/media/CLIP_ID"),
    option("--out", type=Path, required=True, help="picture (.png) or video (.mp4) to write"),
)
def main(options: argparse.Namespace) -> None:
    """Draw a clip with its columns."""
    write = write_film if options.out.suffix == ".mp4" else write_sheet
    write(options.clip, options.out)
    print(f"{options.out}: {options.clip.resolve().name}")
