"""Heads that somebody has cropped already: published pairs, brought to the clip's grid and size without detection."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.clip import Clip
from pipeline.clock import map_to_grid
from pipeline.media.encode import VideoWriter
from schemas.column import ROLES
from stages.faces.boxes import Floats


def take_over(clip: Clip, size_px: int) -> dict[str, Any]:
    """The columns of stage ``face`` for a pair; boxes are the whole picture of each role's own file, none detected.

    Raises
    ------
    MediaError : a file does not give its frames.
    """
    columns: dict[str, Any] = {}
    for role in ROLES:
        reader = clip.reader(role)
        info, pts = reader.info(), map_to_grid(clip.span, reader.frame_times()).pts
        square = whole_picture(info.width, info.height)
        track = np.tile(square, (clip.num_frames, 1))
        path = clip.output(f"{role}.mp4")
        with VideoWriter(path, (size_px, size_px), pixels="yuv420p") as writer:
            for _, heads in reader.crops(pts, track[:, None], size_px, pixels="yuv420p"):
                writer.write(heads[0])
        columns[f"{role}_video"] = path
        columns[f"{role}_box"] = track
        columns[f"{role}_box_detected"] = np.zeros(clip.num_frames, bool)
        columns[f"{role}_crop_box"] = square
        columns[f"{role}_crop_track"] = track
    return columns


def whole_picture(width_px: int, height_px: int) -> Floats:
    """The smallest square around a picture, float32 (4,): x1, y1, x2, y2; published crops are square already."""
    half = max(width_px, height_px) / 2
    x, y = width_px / 2, height_px / 2
    return np.array([x - half, y - half, x + half, y + half], np.float32)
