"""What is compared: the clips of the reference, and for each the prediction of every run.

A run is a listener's predictions: a data set of the same schema as the reference (with several samples one a sample)
and, where it was rendered, a folder of videos named after the clips. Clips that are missing and lengths that differ are
errors, unless a `Policy` says otherwise; nothing is padded in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset.read import media_file, read_clips, read_description, sample_names
from schemas.dataset import Predicted
from schemas.errors import UserError
from schemas.score import REFERENCE_RUN
from stages.evaluate.metrics.definition import PREDICTED, REFERENCE, SPEAKER, Definition

COLUMNS = {  # quantity -> columns that make it up, side by side
    "exp": ("{role}_exp",),
    "angle": ("{role}_angle",),
    "trans": ("{role}_trans",),
    "pose": ("{role}_angle", "{role}_trans"),
    "exp_samples": ("{role}_exp",),
    "pose_samples": ("{role}_angle", "{role}_trans"),
    "identity": ("{role}_identity",),
    "blink": ("{role}_blink",),
    "landmarks": ("{role}_landmarks",),
}
OF_SAMPLES = ("exp_samples", "pose_samples")  # of all samples of a run together
COEFFICIENTS = ("exp", "angle", "trans", "pose", "identity", *OF_SAMPLES)  # mean something in one fitter's space
ROLE_OF = {PREDICTED: "listener", REFERENCE: "listener", SPEAKER: "speaker"}
VALID = "listener_coeffs_valid"

LENGTH_POLICIES = {
    "error": "stop, and list the clips with both lengths",
    "truncate": "cut both to the shorter",
    "repeat-last": "cut or repeat the last predicted frame to the reference's length, as the challenge of 2022 did",
    "skip": "leave the clip out",
}
SIZE_POLICIES = {"error": "stop, with both sizes", "resize": "bring predicted pictures to the reference's size"}
MISSING_POLICIES = {"error": "stop, and list the clips", "skip": "leave them out"}


@dataclass(frozen=True)
class Policy:
    """What to do where prediction and reference do not fit."""

    length: str = "error"
    size: str = "error"
    missing: str = "error"


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


@dataclass(frozen=True)
class ReferenceClip:
    """A clip of the reference: arrays by ``whose.what``, and its videos."""

    clip_id: str
    split: str
    attitude: str | None
    num_frames: int
    arrays: Mapping[str, np.ndarray]
    video: Path | None
    speaker_video: Path | None


def open_run(name: str, predicted: Path | None, videos: Path | None) -> Run:
    """A run from a folder of predictions, a folder of videos, or both; with their samples where they have several."""
    if name == REFERENCE_RUN:
        raise UserError(f"run {name!r}: the name is the reference's own; give another: NAME=FOLDER")
    for folder in (predicted, videos):
        if folder is not None and not folder.is_dir():
            raise UserError(f"run {name!r}: {folder}: no such folder")
    folders = [folder for folder in (predicted, videos) if folder is not None]
    samples = next(filter(None, map(sample_names, folders)), [""])
    found = tuple(
        Sample(predicted and _inside(predicted, sample), videos and _inside(videos, sample)) for sample in samples
    )
    if predicted is None and videos is None:
        raise UserError(f"run {name!r}: expected predictions or videos, found neither")
    first = found[0].data
    return Run(name, found, read_description(first).predicted if first else None)


def _inside(folder: Path, sample: str) -> Path | None:
    """The folder of a sample; videos without such folders are the first sample's."""
    if not sample or (folder / sample).is_dir():
        return folder / sample
    return folder if sample.endswith("-00") else None


def columns_of(inputs: Iterable[str], whose: Sequence[str]) -> list[str]:
    """The columns behind the inputs of metrics that are read from shards."""
    found = [name.split(".") for name in inputs]
    wanted = [c.format(role=ROLE_OF[w]) for w, what in found if w in whose and what in COLUMNS for c in COLUMNS[what]]
    return list(dict.fromkeys(wanted))


def arrays_of(row: Mapping[str, Any], whose: str) -> dict[str, np.ndarray]:
    """The arrays of one row of a shard, by ``whose.what``."""
    arrays = {}
    for quantity, names in COLUMNS.items():
        values = [row.get(name.format(role=ROLE_OF[whose])) for name in names]
        if all(value is not None for value in values):
            joined = np.concatenate(values, axis=-1) if len(values) > 1 else np.asarray(values[0])
            arrays[f"{whose}.{quantity}"] = joined[None] if quantity == "identity" and joined.ndim == 1 else joined
    return arrays


def read_reference(root: Path, splits: Sequence[str], metrics: Sequence[Definition]) -> list[ReferenceClip]:
    """The clips of some splits, in order of their ids, with all columns that the metrics can use and that are there."""
    packed = read_description(root).packed
    inputs = [name for metric in metrics for name in metric.inputs]
    wanted = columns_of([*inputs, *(i.replace(PREDICTED, REFERENCE) for i in inputs)], (REFERENCE, SPEAKER))
    videos = [f"{role}_video" for role in ("listener", "speaker")]
    names = [name for name in (*wanted, *videos) if name in packed]
    clips = []
    for row in read_clips(root, names):
        if row["split"] in splits:
            files = [_media(root, row.get(name)) for name in videos]
            arrays = {**arrays_of(row, REFERENCE), **arrays_of(row, SPEAKER)}
            facts = (row["clip_id"], row["split"], row["attitude"], row["num_frames"])
            clips.append(ReferenceClip(*facts, arrays, *files))
    if not clips:
        raise UserError(f"{root}: no clip in {' or '.join(splits)}; choose others with --split")
    return sorted(clips, key=lambda clip: clip.clip_id)


def _media(root: Path, name: str | None) -> Path | None:
    """A media file of the data set; None where it came without its media."""
    return media_file(root, name) if name is not None and (root / name).is_file() else None


def read_predictions(root: Path, metrics: Sequence[Definition]) -> dict[str, dict[str, np.ndarray]]:
    """Arrays of every predicted clip, by ``predicted.what``.

    Raises
    ------
    UserError : a prediction holds numbers that are not finite in frames that it does not declare invalid.
    """
    packed = read_description(root).packed
    wanted = columns_of((name for metric in metrics for name in metric.inputs), (PREDICTED,))
    names = [name for name in (*wanted, VALID) if name in packed]
    predictions = {}
    for row in read_clips(root, names):
        arrays = arrays_of(row, PREDICTED)
        declared = row.get(VALID)
        for name, values in arrays.items():
            bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if (bad & declared if declared is not None and len(declared) == len(bad) else bad).any():
                found = f"{bad.sum()} of {len(bad)} frames are not finite"
                raise UserError(f"{root}: clip {row['clip_id']}: {name}: {found}; such a prediction has no score")
        predictions[row["clip_id"]] = arrays
    return predictions


def fit_lengths(
    clip: ReferenceClip, predicted: Mapping[str, np.ndarray], policy: str
) -> tuple[dict[str, np.ndarray], str]:
    """All arrays of a clip at one length, and what does not fit; empty arrays where the clip is to be left out."""
    lengths = {len(values) for name, values in predicted.items() if not name.endswith(".identity")}
    if not lengths - {clip.num_frames}:
        return {**clip.arrays, **predicted}, ""
    problem = f"{clip.clip_id}: reference {clip.num_frames} frames, predicted {', '.join(map(str, sorted(lengths)))}"
    if policy in ("error", "skip"):
        return {}, problem
    goal = min(clip.num_frames, *lengths) if policy == "truncate" else clip.num_frames
    arrays = {**clip.arrays, **predicted}
    return {k: v if k.endswith(".identity") else at_length(v, goal) for k, v in arrays.items()}, problem


def at_length(values: np.ndarray, num_frames: int) -> np.ndarray:
    """The first frames; the last one again and again where there are too few."""
    return values[np.minimum(np.arange(num_frames), len(values) - 1)]
