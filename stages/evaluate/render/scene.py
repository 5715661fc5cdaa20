"""Scenes: one picture of a person and how that person is to move; what renderers are given.

They are made of a data set and a prediction for it: coefficients of the one beside reference pictures of the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.dataset.read import media_file, one_fitter, read_clips, read_description
from pipeline.media.encode import read_video
from schemas.column import LISTENER
from schemas.errors import UserError

MOTION = ("exp", "angle", "trans")
OPTIONAL = ("crop", "blink")  # of predictions
YAW = 1  # of the angles
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


class TurnedAway(UserError):
    """A picture, or all of a clip, shows a head that is turned so far that one side of its face is not seen."""

    def __init__(self, what: str, turn_rad: float, most_rad: float) -> None:
        found, most = (f"{math.degrees(angle):.0f} degrees" for angle in (turn_rad, most_rad))
        remedy = "choose a picture that shows the whole face"
        super().__init__(f"{what}: expected a head turned by less than {most} from the camera, found {found}; {remedy}")
        self.turn_rad = turn_rad


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


class Restoration(Protocol):
    """Makes the frames of rendered videos better, one video after the other."""

    def restored(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """As many frames, uint8 RGB (side, side, 3), in order."""
        ...


@dataclass(frozen=True)
class ClipToRender:
    """One clip to render: its row in the data set and in the predictions, and whose motion these hold."""

    data: Path
    role: str
    truth: ClipRow
    predicted: ClipRow

    @property
    def clip_id(self) -> str:
        return str(self.truth["clip_id"])

    @property
    def sound(self) -> Path:
        return media_file(self.data, str(self.truth["audio"]))

    def reference(self, most_turn_rad: float = math.inf) -> int:
        """The number of the frame that is the reference; `TurnedAway` where none can be."""
        return reference_frame(self.truth, most_turn_rad, self.role)

    def scene(self, most_turn_rad: float = math.inf) -> Scene:
        """What a renderer needs; decodes the reference picture.

        `TurnedAway` where no frame of the person is turned less than ``most_turn_rad`` from the camera.
        """
        count = self.truth["num_frames"]
        truth, predicted = of_role(self.truth, self.role), of_role(self.predicted, self.role)
        frame = self.reference(most_turn_rad)
        video = media_file(self.data, truth["video"])
        (picture,) = islice(read_video(video), frame, frame + 1)
        pose = {name: truth[name][frame : frame + 1] for name in (*MOTION, "crop")}
        motion = {name: held(predicted[name]) for name in MOTION}
        motion["crop"] = held(predicted.get("crop", pose["crop"].repeat(count, 0)))
        blink = predicted.get("blink")
        closed = np.zeros(count) if blink is None else closing(blink)
        identity = truth["identity"]
        of_frames = identity.ndim > 1  # Deep3DFaceRecon has one a frame
        still = {"identity": identity[frame : frame + 1].repeat(count, 0) if of_frames else identity}
        return Scene(picture, Motion(**still, **pose), Motion(**still, **motion), closed)


def clips_to_render(predictions: Path, data: Path, split: str | None) -> list[ClipToRender]:
    """The clips of a prediction data set, each beside its row in the data set.

    `UserError` where a clip is not in the data set, has another length there, or has no coefficients, or none is left;
    `MixedCoefficientsError` where the two hold coefficients of different making.
    """
    described = read_description(predictions)
    role, packed = described.role, described.packed
    one_fitter([data, predictions])
    optional = [f"{role}_{name}" for name in OPTIONAL if f"{role}_{name}" in packed]
    blink = [f"{role}_blink"] if f"{role}_blink" in read_description(data).packed else []
    columns = [f"{role}_{name}" for name in TRUTH]
    rows = read_clips(data, [*columns, *blink, "audio"], portraits="take")
    truths = {row["clip_id"]: row for row in rows}
    rows = read_clips(predictions, [*(f"{role}_{name}" for name in MOTION), *optional])
    chosen = [row for row in rows if split in (None, row["split"])]
    if problems := [problem for row in chosen for problem in _wrong(row, truths.get(row["clip_id"]), role)]:
        remedy = "predict anew from that data set: python -m jobs.predict"
        raise UserError(f"{predictions} against {data}: {'; '.join(problems)}; {remedy}")
    if f"{role}_crop" not in optional:
        _check_place(predictions, data, [truths[row["clip_id"]] for row in chosen], role)
    if not chosen:
        of_split = "" if split is None else f" of the split {split!r}"
        raise UserError(f"{predictions}: expected clips{of_split}, found none; choose another --split")
    return [ClipToRender(data, role, truths[row["clip_id"]], row) for row in chosen]


def of_role(row: ClipRow, role: str) -> dict[str, Any]:
    """One person's columns of a row, by their names without the role."""
    return {name.removeprefix(f"{role}_"): value for name, value in row.items() if name.startswith(f"{role}_")}


def _wrong(predicted: ClipRow, truth: ClipRow | None, role: str) -> Iterator[str]:
    name = predicted["clip_id"]
    if truth is None:
        yield f"clip {name} is not in the data set"
        return
    expected = truth["num_frames"]
    lengths = {column: len(predicted[f"{role}_{column}"]) for column in MOTION}
    if any(length != expected for length in lengths.values()):
        yield f"clip {name}: expected {expected} frames, found {lengths}"
    for column in MOTION:
        if not np.isfinite(predicted[f"{role}_{column}"]).all(axis=1).any():
            yield f"clip {name}: {role}_{column} is finite in no frame"
    if not truth[f"{role}_coeffs_valid"].any():
        yield f"clip {name}: the data set has coefficients of no frame of its {role}"


def _check_place(predictions: Path, data: Path, truths: Sequence[ClipRow], role: str) -> None:
    """`UserError` if the data set's heads change their place by the crop, which the predictions do not hold.

    Deep3DFaceRecon places a head by the crop of every frame: without it the head would stand still. landmark_gn has one
    crop a clip and places the head by trans.
    """
    for truth in truths:
        moved = np.ptp(truth[f"{role}_crop"][truth[f"{role}_coeffs_valid"]], axis=0)
        if moved.any():
            said = read_description(predictions).predicted
            members = said.members if said else ()
            listener = members[0]["listener"] if members else "LISTENER"
            listener += "" if role == LISTENER else f" --role {role}"
            raise UserError(
                f"{predictions} against {data}: clip {truth['clip_id']}: expected {role}_crop, which places the head "
                f"here (it moves by {moved[1:].max():.1f} px), found predictions without it: the head would stand "
                f"still; train anew: python -m jobs.train {data} --listener {listener} --set order=baseline73 --out RUN"
            )


def reference_frame(truth: ClipRow, most_turn_rad: float = math.inf, role: str = LISTENER) -> int:
    """The frame that renderers start from: the first with coefficients, a face to the camera and, if any, open eyes.

    The ViCo challenge gave the first frame. One in the midst of a blink would leave a face without eyes, one in profile
    a face without its other half: `TurnedAway` where that is in every frame with coefficients.
    """
    turn = np.abs(truth[f"{role}_angle"][:, YAW])
    valid = truth[f"{role}_coeffs_valid"]
    frontal = valid & (turn < most_turn_rad)
    if not frontal.any():
        raise TurnedAway(str(truth["clip_id"]), float(turn[valid].min()), most_turn_rad)
    blink = truth.get(f"{role}_blink")
    awake = frontal if blink is None else frontal & ~blink
    return int(np.flatnonzero(awake if awake.any() else frontal)[0])


def held(values: np.ndarray) -> np.ndarray:
    """Values (frame, D) whose frames that are not finite show the one before them, the first ones the one after."""
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    before = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return values[known[before.clip(0)]]


def closing(blink: np.ndarray) -> np.ndarray:
    """How far labels bool (frame,) close the eyes: 1 in a blink, half in the frame before and after it."""
    padded = np.pad(blink, 1)
    return np.where(blink, 1.0, 0.5 * (padded[:-2] | padded[2:]))
