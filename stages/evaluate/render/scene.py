"""Scenes: one picture of a person and how that person is to move; what renderers are given.

They are made of a data set and a prediction for it: coefficients of the one beside reference pictures of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.dataset.read import media_file, one_fitter, read_clips, read_description
from pipeline.media.encode import read_video
from schemas.errors import UserError

MOTION = ("exp", "angle", "trans")
OPTIONAL = ("crop", "blink")  # of predictions
TRUTH = ("identity", *MOTION, "crop", "coeffs_valid", "video")

ClipRow = Mapping[str, Any]


@dataclass(frozen=True)
class Motion:
    """Coefficients of one face: columns of the stage ``threedmm`` without their role."""

    identity: np.ndarray  # (80,) or (frame, 80)
    exp: np.ndarray  # (frame, 64)
    angle: np.ndarray  # (frame, 3), as are the next two
    trans: np.ndarray
    crop: np.ndarray  # in pixels of the picture, y up


@dataclass(frozen=True)
class Scene:
    """One clip to render."""

    picture: np.ndarray  # uint8 RGB (side, side, 3), the reference
    pose: Motion  # the coefficients of that picture, one frame
    motion: Motion  # those to render, all finite
    closed: np.ndarray  # (frame,), how far a blink closes the eyes beyond what the expression says, 0 to 1

    @property
    def side_px(self) -> int:
        return len(self.picture)


class Renderer(Protocol):
    """Renders scenes, one after the other."""

    def render(self, scene: Scene) -> Iterator[np.ndarray]:
        """The frames of a scene: uint8 RGB (side, side, 3) each."""
        ...


@dataclass(frozen=True)
class ClipToRender:
    """One clip to render: its row in the data set and in the predictions."""

    data: Path
    truth: ClipRow
    predicted: ClipRow

    @property
    def clip_id(self) -> str:
        return str(self.truth["clip_id"])

    @property
    def sound(self) -> Path:
        return media_file(self.data, str(self.truth["audio"]))

    def scene(self) -> Scene:
        """What a renderer needs; decodes the reference picture."""
        truth, predicted, count = self.truth, self.predicted, self.truth["num_frames"]
        frame = reference_frame(truth)
        video = media_file(self.data, truth["listener_video"])
        (picture,) = islice(read_video(video), frame, frame + 1)
        pose = {name: truth[f"listener_{name}"][frame : frame + 1] for name in (*MOTION, "crop")}
        motion = {name: held(predicted[f"listener_{name}"]) for name in MOTION}
        motion["crop"] = held(predicted.get("listener_crop", pose["crop"].repeat(count, 0)))
        blink = predicted.get("listener_blink")
        closed = np.zeros(count) if blink is None else closing(blink)
        identity = truth["listener_identity"]
        of_frames = identity.ndim > 1  # Deep3DFaceRecon has one a frame
        still = {"identity": identity[frame : frame + 1].repeat(count, 0) if of_frames else identity}
        return Scene(picture, Motion(**still, **pose), Motion(**still, **motion), closed)


def clips_to_render(predictions: Path, data: Path, split: str | None) -> list[ClipToRender]:
    """The clips of a prediction data set, each beside its row in the data set.

    `UserError` where a clip is not in the data set, has another length there, or has no coefficients, or none is left;
    `MixedCoefficientsError` where the two hold coefficients of different making.
    """
    packed = read_description(predictions).packed
    one_fitter([data, predictions])
    optional = [f"listener_{name}" for name in OPTIONAL if f"listener_{name}" in packed]
    blink = ["listener_blink"] if "listener_blink" in read_description(data).packed else []
    columns = [f"listener_{name}" for name in TRUTH]
    truths = {row["clip_id"]: row for row in read_clips(data, [*columns, *blink, "audio"])}
    rows = read_clips(predictions, [*(f"listener_{name}" for name in MOTION), *optional])
    chosen = [row for row in rows if split in (None, row["split"])]
    if problems := [problem for row in chosen for problem in _wrong(row, truths.get(row["clip_id"]))]:
        remedy = "predict anew from that data set: python -m jobs.predict"
        raise UserError(f"{predictions} against {data}: {'; '.join(problems)}; {remedy}")
    if not chosen:
        of_split = "" if split is None else f" of the split {split!r}"
        raise UserError(f"{predictions}: expected clips{of_split}, found none; choose another --split")
    return [ClipToRender(data, truths[row["clip_id"]], row) for row in chosen]


def _wrong(predicted: ClipRow, truth: ClipRow | None) -> Iterator[str]:
    name = predicted["clip_id"]
    if truth is None:
        yield f"clip {name} is not in the data set"
        return
    expected = truth["num_frames"]
    lengths = {column: len(predicted[f"listener_{column}"]) for column in MOTION}
    if any(length != expected for length in lengths.values()):
        yield f"clip {name}: expected {expected} frames, found {lengths}"
    for column in MOTION:
        if not np.isfinite(predicted[f"listener_{column}"]).all(axis=1).any():
            yield f"clip {name}: listener_{column} is finite in no frame"
    if not truth["listener_coeffs_valid"].any():
        yield f"clip {name}: the data set has coefficients of no frame of its listener"


def reference_frame(truth: ClipRow) -> int:
    """The frame that renderers start from: the first with coefficients and, if any has, with open eyes.

    The ViCo challenge gave the first frame. One in the midst of a blink would leave a face without eyes.
    """
    valid = truth["listener_coeffs_valid"]
    awake = valid & ~truth["listener_blink"] if "listener_blink" in truth else valid
    return int(np.flatnonzero(awake if awake.any() else valid)[0])


def held(values: np.ndarray) -> np.ndarray:
    """Values (frame, D) whose frames that are not finite show the one before them, the first ones the one after."""
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    before = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return values[known[before.clip(0)]]


def closing(blink: np.ndarray) -> np.ndarray:
    """How far labels bool (frame,) close the eyes: 1 in a blink, half in the frame before and after it."""
    padded = np.pad(blink, 1)
    return np.where(blink, 1.0, 0.5 * (padded[:-2] | padded[2:]))
