"""What is compared: the clips of the reference, and for each the prediction of every run.

A run is a listener's predictions: a data set of the same schema as the reference (with several samples one a sample)
and, where it was rendered, a folder of videos named after the clips. Clips that are missing and lengths that differ are
errors, unless a `Policy` says otherwise; nothing is padded in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset.read import media_file, read_clips, read_description, sample_names
from schemas.column import other_role
from schemas.dataset import Predicted
from schemas.errors import UserError
from schemas.score import REFERENCE_RUN
from stages.evaluate.metrics.definition import Clip, Definition, Input, Quantity, Whose

LENGTH_POLICIES = {
    "error": "stop, and list the clips with both lengths",
    "truncate": "cut both to the shorter",
    "repeat-last": "cut or repeat the last predicted frame to the reference's length, as the challenge of 2022 did",
    "skip": "leave the clip out",
}
SIZE_POLICIES = {"error": "stop, with both sizes", "resize": "bring predicted pictures to the reference's size"}
FIRST_FRAME_POLICIES = {
    "count": "it counts, for all runs alike, though some hold the frame that they were given",
    "leave-out": "it counts for none: no paper says so of its numbers",
}
MISSING_POLICIES = {"error": "stop, and list the clips", "skip": "leave them out"}


class Misfit(Enum):
    """How a prediction can fail to fit the reference, in words, and what a person can do then."""

    MISSING = ("misses", "predict them, choose other --split, or say --on-missing-clip skip")
    LENGTH = ("has other lengths than", "predict at its length, or say with --on-length-mismatch what to do")
    SIZE = ("has other sizes than", "render at the reference's size, or say --on-size-mismatch resize")
    UNREADABLE = ("has broken videos of", "render them again, or say --on-missing-clip skip")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What to do where prediction and reference do not fit."""

    length: str = "error"
    size: str = "error"
    missing: str = "error"
    first_frame: str = "count"

    def on(self, misfit: Misfit) -> str:
        """What to do about one kind."""
        return {Misfit.LENGTH: self.length, Misfit.SIZE: self.size}.get(misfit, self.missing)


@dataclass(frozen=True)
class Sample:
    """One prediction for every clip: coefficients, videos, or both."""

    data: Path | None
    videos: Path | None


@dataclass(frozen=True)
class Run:
    """A listener's predictions under a name; ``about`` is what its ``dataset.json`` says of them."""

    name: str
    samples: tuple[Sample, ...]
    about: Predicted | None = None


@dataclass(frozen=True, kw_only=True)
class ClipFacts:
    """What the reference says of a clip."""

    clip_id: str
    split: str
    attitude: str | None
    num_frames: int


FACTS = tuple(field.name for field in fields(ClipFacts))


@dataclass(frozen=True, kw_only=True)
class ReferenceClip(ClipFacts):
    """A clip of the reference: its arrays, its videos (of `Whose.REFERENCE` and `Whose.SPEAKER`) and its sound."""

    arrays: Clip
    video: Path | None
    speaker_video: Path | None
    sound: Path | None
    is_portrait: bool  # whether all that there is of the listener is a picture


def open_run(name: str, predicted: Path | None, videos: Path | None) -> Run:
    """A run from a folder of predictions, a folder of videos, or both; with their samples where they have several."""
    if name == REFERENCE_RUN:
        raise UserError(f"run {name!r}: the name is the reference's own; give another: NAME=FOLDER")
    folders = [folder for folder in (predicted, videos) if folder is not None]
    if not folders:
        raise UserError(f"run {name!r}: expected predictions or videos, found neither")
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise UserError(f"run {name!r}: {missing[0]}: no such folder; name one that jobs.predict or jobs.render wrote")
    samples = next(filter(None, map(sample_names, folders)), [""])
    found = tuple(Sample(*(folder and _inside(folder, sample) for folder in (predicted, videos))) for sample in samples)
    first = found[0].data
    return Run(name, found, read_description(first).predicted if first else None)


def _inside(folder: Path, sample: str) -> Path | None:
    """The folder of a sample; videos without such folders are the first sample's."""
    if not sample or (folder / sample).is_dir():
        return folder / sample
    return folder if sample.endswith("-00") else None


def _columns(inputs: Iterable[Input], packed: Sequence[str], role: str) -> list[str]:
    """The columns behind the inputs of metrics, as far as the data set has them."""
    return list(dict.fromkeys(name for one in inputs for name in one.columns(role) if name in packed))


def _arrays(row: Mapping[str, Any], role: str, *people: Whose) -> dict[Input, np.ndarray]:
    arrays = {}
    for one in (Input(whose, quantity) for whose in people for quantity in Quantity if not quantity.is_seen):
        values = [row.get(name) for name in one.columns(role)]
        if all(value is not None for value in values):
            joined = np.concatenate(values, axis=-1) if len(values) > 1 else np.asarray(values[0])
            once = one.quantity is Quantity.IDENTITY and joined.ndim == 1
            arrays[one] = joined[None] if once else joined
    return arrays


def read_reference(root: Path, splits: Sequence[str], metrics: Sequence[Definition], role: str) -> list[ReferenceClip]:
    """The clips of some splits, in order of their ids, with all columns that the metrics can use and that are there.

    ``role`` is the one that is predicted.
    """
    packed = read_description(root).packed
    wanted = _columns((one.of_reference() for metric in metrics for one in metric.inputs), packed, role)
    own, others = (f"{one}_video" for one in (role, other_role(role)))
    media = [name for name in (own, others, "portrait_video", "audio") if name in packed]
    clips = [
        ReferenceClip(
            **{name: row[name] for name in FACTS},
            arrays=_arrays(row, role, Whose.REFERENCE, Whose.SPEAKER),
            video=_media(root, row.get(own)),
            speaker_video=_media(root, row.get(others)),
            sound=_media(root, row.get("audio")),
            is_portrait=row.get("portrait_video") is not None,
        )
        for row in read_clips(root, [*wanted, *media], splits, portraits="leave")
    ]
    if not clips:
        raise UserError(f"{root}: no clip in {' or '.join(splits)}; choose others with --split")
    return sorted(clips, key=lambda clip: clip.clip_id)


def _media(root: Path, name: str | None) -> Path | None:
    """A media file of the data set; None where it came without its media."""
    return media_file(root, name) if name is not None and (root / name).is_file() else None


def read_predictions(root: Path, metrics: Sequence[Definition], role: str) -> dict[str, dict[Input, np.ndarray]]:
    """Arrays of every predicted clip, by its id; `UserError` where frames not declared invalid are not finite."""
    packed = read_description(root).packed
    inputs = (one for metric in metrics for one in metric.inputs if one.whose is Whose.PREDICTED)
    valid = f"{role}_coeffs_valid"
    names = [*_columns(inputs, packed, role), *([valid] if valid in packed else [])]
    predictions = {}
    for row in read_clips(root, names):
        arrays = _arrays(row, role, Whose.PREDICTED)
        declared = row.get(valid)
        for one, values in arrays.items():
            bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if (bad & declared if declared is not None and len(declared) == len(bad) else bad).any():
                found = f"{bad.sum()} of {len(bad)} frames are not finite"
                raise UserError(f"{root}: clip {row['clip_id']}: {one}: {found}; such a prediction has no score")
        predictions[row["clip_id"]] = arrays
    return predictions


def fit_lengths(clip: ReferenceClip, predicted: Clip, policy: str) -> tuple[dict[Input, np.ndarray], str]:
    """All arrays of a clip at one length, and what does not fit; empty arrays where the clip is to be left out."""
    lengths = {len(values) for one, values in predicted.items() if one.quantity is not Quantity.IDENTITY}
    arrays = {**clip.arrays, **predicted}
    if not lengths - {clip.num_frames}:
        return arrays, ""
    problem = f"{clip.clip_id}: reference {clip.num_frames} frames, predicted {', '.join(map(str, sorted(lengths)))}"
    if policy in ("error", "skip"):
        return {}, problem
    goal = min(clip.num_frames, *lengths) if policy == "truncate" else clip.num_frames
    still = Quantity.IDENTITY
    return {i: v if i.quantity is still else v[frames_at(goal, len(v))] for i, v in arrays.items()}, problem


def counted(values: np.ndarray, one: Input, policy: Policy) -> np.ndarray:
    """The frames of an array that count; identity is of the clip, whatever its frames."""
    left_out = policy.first_frame == "leave-out" and one.quantity is not Quantity.IDENTITY
    return values[1:] if left_out else values


def frames_at(goal: int, length: int) -> np.ndarray:
    """The first frames of a sequence; the last one again and again where there are too few."""
    return np.minimum(np.arange(goal), length - 1)
