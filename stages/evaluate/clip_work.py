"""The work on one clip: what each metric says of it, and the embeddings that metrics of a data set need later.

A `ClipTask` is a parcel: it holds the arrays and the names of the videos, goes to whatever worker is free, and comes
back as a `ClipResult`. Videos are decoded once, a chunk of frames at a time, by the sandboxed reader.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.media.reader import MediaError, SourceReader
from stages.evaluate.metrics.definition import PREDICTED, REFERENCE, Definition, Pooling
from stages.evaluate.metrics.embeddings import Embedding
from stages.evaluate.metrics.registry import find_definition
from stages.evaluate.metrics.validation import MismatchError
from stages.evaluate.runs import COLUMNS, Policy

FRAMES = "frames"
CHUNK_FRAMES = 64  # decoded at a time: two chunks of 384x384 pictures are 57 MB


@dataclass(frozen=True)
class ClipTask:
    """One clip of one sample of one run.

    Attributes
    ----------
    videos : whose -> file, for `PREDICTED` and `REFERENCE`; empty where no metric looks at pictures.
    metrics : ids of the metrics to be computed of this clip, or for which it has to bring embeddings.
    of_reference : the reference takes the prediction's place.
    """

    clip_id: str
    num_frames: int
    arrays: Mapping[str, np.ndarray]
    videos: Mapping[str, Path]
    metrics: tuple[str, ...]
    of_reference: bool
    policy: Policy

    def definitions(self) -> list[Definition]:
        """The metrics, bound to the inputs of this task."""
        found = [find_definition(name) for name in self.metrics]
        return [definition.of_reference() for definition in found] if self.of_reference else found


@dataclass
class ClipResult:
    """What came out: per metric its value, frames that count and frames left out.

    ``arrays`` are embeddings by ``whose.what``; ``problems`` say why pictures could not be compared, by the rule of
    `Policy` that decides what then happens.
    """

    values: dict[str, tuple[float, int, int]] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    resolution: str = ""
    problems: dict[str, str] = field(default_factory=dict)


class VideoMismatch(MismatchError):
    """Two videos do not fit; ``rule`` is the field of `Policy` that says what to do."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def work_on(task: ClipTask) -> ClipResult:
    """Compute everything that the task asks for."""
    result = ClipResult()
    definitions = task.definitions()
    inputs = {name for definition in definitions for name in definition.inputs}
    if seen := {name for name in inputs if name.split(".")[1] not in COLUMNS}:
        try:
            _look(task, definitions, seen, result)
        except (MediaError, VideoMismatch) as error:
            rule = error.rule if isinstance(error, VideoMismatch) else "missing"
            return ClipResult(problems={rule: f"{task.clip_id}: {error}"})
    arrays = {**task.arrays, **result.arrays}
    for definition in definitions:
        if definition.pooling is not Pooling.DATA_SET and definition.id not in result.values:
            chosen, left_out = valid_frames(definition, arrays)
            frames = definition.num_frames(chosen)
            value = definition.clip_score(chosen) if frames >= definition.min_frames else math.nan
            result.values[definition.id] = (value, frames if math.isfinite(value) else 0, left_out)
    return result


def valid_frames(definition: Definition, arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], int]:
    """The inputs of a metric without frames that hold NaN in any of them, and how many those were."""
    inputs = {name: arrays[name] for name in definition.inputs}
    floats = [values.reshape(len(values), -1) for values in inputs.values() if values.dtype.kind == "f"]
    if len({len(values) for values in inputs.values()}) != 1 or not floats:
        return inputs, 0
    valid = np.logical_and.reduce([np.isfinite(values).all(axis=1) for values in floats])
    if valid.all():
        return inputs, 0
    return {name: values[valid] for name, values in inputs.items()}, int((~valid).sum())


def _look(task: ClipTask, definitions: list[Definition], seen: set[str], result: ClipResult) -> None:
    """Go through the videos: metrics of frames at once, embeddings for later."""
    whose = sorted({name.split(".")[0] for name in seen})
    of_frames = [d for d in definitions if any(name.endswith(f".{FRAMES}") for name in d.inputs)]
    wanted = sorted(name for name in seen if not name.endswith(f".{FRAMES}"))
    sums: dict[str, float] = defaultdict(float)
    pieces: dict[str, list[np.ndarray]] = defaultdict(list)
    total = 0
    for chunk in _chunks(task, whose):
        first = chunk[f"{whose[0]}.{FRAMES}"]
        total += len(first)
        result.resolution = f"{first.shape[2]}x{first.shape[1]}"
        for definition in of_frames:  # their value is a mean over frames: see `_check_of_frames`
            sums[definition.id] += definition.clip_score(chunk) * len(first)
        for name in wanted:
            owner, quantity = name.split(".")
            pieces[name].append(network(quantity)(chunk[f"{owner}.{FRAMES}"]))
    _check_of_frames(of_frames)
    result.values.update({name: (value / total, total, 0) for name, value in sums.items()})
    result.arrays.update({name: np.concatenate(parts) for name, parts in pieces.items()})


def _check_of_frames(definitions: list[Definition]) -> None:
    """Metrics of whole frames must be means over frames, or chunks could not be added up."""
    assert all(definition.pooling is Pooling.FRAMES for definition in definitions)


def _chunks(task: ClipTask, whose: list[str]) -> Iterator[dict[str, np.ndarray]]:
    """Chunks of frames of one or both videos, by ``whose.frames``, of one length and size.

    Raises
    ------
    VideoMismatch : lengths or sizes differ and the policy does not say what to do.
    """
    readers = {owner: SourceReader(task.videos[owner]) for owner in whose}
    try:
        positions = _positions({owner: len(reader.frame_times().pts) for owner, reader in readers.items()}, task)
        streams = {
            owner: (rgb for _, rgb in reader.frames(reader.frame_times().pts[positions[owner]]))
            for owner, reader in readers.items()
        }
        while True:
            taken = {owner: list(islice(stream, CHUNK_FRAMES)) for owner, stream in streams.items()}
            if not all(taken.values()):
                return
            yield _one_size({f"{owner}.{FRAMES}": np.stack(frames) for owner, frames in taken.items()}, task)
    finally:
        for reader in readers.values():
            reader.close()


def _positions(lengths: dict[str, int], task: ClipTask) -> dict[str, np.ndarray]:
    """Which frames of each video are compared: the frame clock, or what the policy makes of another length."""
    if any(length == 0 for length in lengths.values()):
        raise VideoMismatch("missing", "a video without a frame")
    wrong = {owner: length for owner, length in lengths.items() if length != task.num_frames}
    if wrong and task.policy.length in ("error", "skip"):
        found = ", ".join(f"{owner} video {length}" for owner, length in wrong.items())
        raise VideoMismatch("length", f"reference {task.num_frames} frames, {found}")
    goal = min(task.num_frames, *lengths.values()) if task.policy.length == "truncate" else task.num_frames
    return {owner: np.minimum(np.arange(goal), length - 1) for owner, length in lengths.items()}


def _one_size(chunk: dict[str, np.ndarray], task: ClipTask) -> dict[str, np.ndarray]:
    predicted, reference = chunk.get(f"{PREDICTED}.{FRAMES}"), chunk.get(f"{REFERENCE}.{FRAMES}")
    if predicted is None or reference is None or predicted.shape[1:] == reference.shape[1:]:
        return chunk
    (height, width), (wanted_height, wanted_width) = predicted.shape[1:3], reference.shape[1:3]
    if task.policy.size == "error":
        raise VideoMismatch("size", f"reference {wanted_width}x{wanted_height} px, predicted {width}x{height}")
    import cv2

    way = cv2.INTER_AREA if width > wanted_width else cv2.INTER_CUBIC
    resized = [cv2.resize(frame, (wanted_width, wanted_height), interpolation=way) for frame in predicted]
    return {**chunk, f"{PREDICTED}.{FRAMES}": np.stack(resized)}


@lru_cache(maxsize=4)
def network(quantity: str) -> Embedding:
    """The network behind a quantity, loaded once a process; on the GPU where this process sees one."""
    import torch

    return Embedding.load(quantity, "cuda" if torch.cuda.is_available() else "cpu")
