"""The comparison of one clip: what each metric says of it, and the embeddings that metrics of a data set need later.

A `Comparison` is a parcel: it holds the arrays and the names of the videos, goes to whatever worker is free, and comes
back as a `Measurement`. Videos are decoded once, a chunk of frames at a time, by the sandboxed reader.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline import clock
from pipeline.media.reader import MediaError, SourceReader
from pipeline.weights import find_weights
from stages.evaluate.metrics.definition import Clip, Definition, Input, Pooling, Quantity, Whose
from stages.evaluate.metrics.embeddings import Embedding
from stages.evaluate.metrics.registry import find_definition
from stages.evaluate.runs import ClipFacts, Misfit, Policy, frames_at

if TYPE_CHECKING:
    from stages.faces.detector import FaceDetector
    from stages.speakers.syncnet import SyncNet

CHUNK_FRAMES = 64  # decoded at a time: two chunks of 384x384 pictures are 57 MB


@dataclass(frozen=True, kw_only=True)
class Comparison(ClipFacts):
    """One clip of one sample of one run."""

    sample: int  # number of the prediction among several for the same clip
    arrays: Clip
    videos: Mapping[Whose, Path]  # of those people of whom there is one
    sound: Path | None  # of the reference
    metrics: tuple[str, ...]  # ids of those to be computed of this clip, or for which it has to bring embeddings
    of_reference: bool  # the reference takes the prediction's place
    policy: Policy

    def definitions(self) -> list[Definition]:
        """The metrics, bound to the inputs of this clip."""
        found = [find_definition(name) for name in self.metrics]
        return [definition.of_reference() for definition in found] if self.of_reference else found

    def runs_networks(self) -> bool:
        """Whether a GPU would help."""
        return any(definition.weights for definition in self.definitions())


@dataclass(frozen=True)
class Measured:
    """What one metric says of a clip, of how many frames, and how many were left out."""

    value: float
    num_frames: int
    left_out: int


@dataclass
class Measurement:
    """What came out: values by metric, embeddings for metrics of the data set, and what did not fit, if anything."""

    values: dict[str, Measured] = field(default_factory=dict)
    arrays: dict[Input, np.ndarray] = field(default_factory=dict)
    resolution: str = ""
    misfit: tuple[Misfit, str] | None = None


class VideoMismatch(ValueError):
    """Two videos do not fit: how, and in words."""


def work_on(task: Comparison) -> Measurement:
    """Compute everything that the task asks for."""
    result = Measurement()
    definitions = task.definitions()
    if seen := {one for definition in definitions for one in definition.inputs if one.quantity.is_seen}:
        try:
            heard = {one for one in seen if one.quantity.value.heard}
            if seen - heard:
                _look(task, definitions, seen - heard, result)
            for one in heard:
                result.arrays[one], result.resolution = _with_sound(task, one.whose)
        except (MediaError, VideoMismatch) as error:
            misfit, words = error.args if isinstance(error, VideoMismatch) else (Misfit.UNREADABLE, error)
            return Measurement(misfit=(misfit, f"{task.clip_id}: {words}"))
    arrays = {**task.arrays, **result.arrays}
    for definition in definitions:
        if definition.pooling is not Pooling.DATA_SET and definition.id not in result.values:
            chosen, left_out = valid_frames(definition, arrays)
            value = definition.clip_score(chosen)
            frames = definition.num_frames(chosen) if math.isfinite(value) else 0
            result.values[definition.id] = Measured(value, frames, left_out)
    return result


def valid_frames(definition: Definition, arrays: Clip) -> tuple[dict[Input, np.ndarray], int]:
    """The inputs of a metric without frames that hold NaN in any of them, and how many those were."""
    inputs = {one: arrays[one] for one in definition.inputs}
    floats = [values.reshape(len(values), -1) for values in inputs.values() if values.dtype.kind == "f"]
    if len({len(values) for values in inputs.values()}) != 1 or not floats:
        return inputs, 0
    valid = np.logical_and.reduce([np.isfinite(values).all(axis=1) for values in floats])
    return {one: values[valid] for one, values in inputs.items()}, int((~valid).sum())


def _look(task: Comparison, definitions: list[Definition], seen: set[Input], result: Measurement) -> None:
    """Go through the videos: metrics of frames at once, embeddings for later."""
    of_frames = [d for d in definitions if any(one.quantity is Quantity.FRAMES for one in d.inputs)]
    assert all(d.pooling is Pooling.FRAMES for d in of_frames), "chunks of other metrics cannot be added up"
    sums: dict[str, float] = defaultdict(float)
    pieces: dict[Input, list[np.ndarray]] = defaultdict(list)
    total = 0
    for chunk in _chunks(task, sorted({one.whose for one in seen}, key=str)):
        first = next(iter(chunk.values()))
        total += len(first)
        result.resolution = f"{first.shape[2]}x{first.shape[1]}"
        for definition in of_frames:
            sums[definition.id] += definition.clip_score(chunk) * len(first)
        for one in seen:
            if one.quantity is not Quantity.FRAMES:
                pieces[one].append(network(one.quantity)(chunk[Input(one.whose, Quantity.FRAMES)]))
    result.values.update({name: Measured(value / total, total, 0) for name, value in sums.items()})
    result.arrays.update({one: np.concatenate(parts) for one, parts in pieces.items()})


def _with_sound(task: Comparison, whose: Whose) -> tuple[np.ndarray, str]:
    """What SyncNet sees and hears in a video with the reference's sound, (place, 2048), and the pictures' size.

    NaN in one row where no face is found. The first frame always counts: without it the sound would begin early.
    """
    assert task.sound is not None, "`what_it_lacks` says so"
    from stages.speakers import syncnet
    from stages.speakers.mfcc import read_sound

    network, detector = _syncnet()
    with SourceReader(task.videos[whose]) as reader:
        pts = reader.frame_times().pts
        whole = replace(task, policy=replace(task.policy, first_frame="count"))
        shown = _positions({whose: len(pts)}, whole)[whose]
        pts = pts[shown[clock.frames_at(len(shown), syncnet.FILM_HZ)]]
        boxes = syncnet.face_boxes((rgb for _, rgb in reader.frames(pts)), detector)
        resolution = f"{reader.info().width}x{reader.info().height}"
        if not np.isfinite(boxes).all():
            return np.full((1, 2 * syncnet.EMBEDDING), np.nan, np.float32), resolution
        faces = syncnet.squares((rgb for _, rgb in reader.frames(pts)), boxes)
        return network.embeddings(faces, len(pts), read_sound(task.sound)), resolution


@lru_cache(maxsize=1)
def _syncnet() -> tuple[SyncNet, FaceDetector]:
    """SyncNet, and who finds the faces for it; once a process."""
    import torch

    from stages.faces.detector import FaceDetector
    from stages.speakers.syncnet import SyncNet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    (checkpoint,) = find_weights(Quantity.SYNCNET.value.network).paths()
    return SyncNet(checkpoint, device), FaceDetector(device)


def _chunks(task: Comparison, people: list[Whose]) -> Iterator[dict[Input, np.ndarray]]:
    """Chunks of frames of one or both videos, of one length and size; `VideoMismatch` as the policy has it."""
    with ExitStack() as opened:
        readers = {whose: opened.enter_context(SourceReader(task.videos[whose])) for whose in people}
        positions = _positions({whose: len(reader.frame_times().pts) for whose, reader in readers.items()}, task)
        streams = {
            whose: (rgb for _, rgb in reader.frames(reader.frame_times().pts[positions[whose]]))
            for whose, reader in readers.items()
        }
        while True:
            taken = {whose: list(islice(stream, CHUNK_FRAMES)) for whose, stream in streams.items()}
            if not all(taken.values()):
                return
            yield _one_size({Input(whose, Quantity.FRAMES): np.stack(rgb) for whose, rgb in taken.items()}, task)


def _positions(lengths: dict[Whose, int], task: Comparison) -> dict[Whose, np.ndarray]:
    """Which frames of each video are compared: the frame clock, or what the policy makes of another length."""
    if any(length == 0 for length in lengths.values()):
        raise VideoMismatch(Misfit.UNREADABLE, "a video without a frame")
    wrong = {whose: length for whose, length in lengths.items() if length != task.num_frames}
    if wrong and task.policy.length in ("error", "skip"):
        found = ", ".join(f"{whose.value} video {length}" for whose, length in wrong.items())
        raise VideoMismatch(Misfit.LENGTH, f"reference {task.num_frames} frames, {found}")
    goal = min(task.num_frames, *lengths.values()) if task.policy.length == "truncate" else task.num_frames
    first = 0 if task.policy.first_frame == "count" else 1
    return {whose: frames_at(goal, length)[first:] for whose, length in lengths.items()}


def _one_size(chunk: dict[Input, np.ndarray], task: Comparison) -> dict[Input, np.ndarray]:
    predicted, reference = (chunk.get(one) for one in Quantity.FRAMES.pair)
    if predicted is None or reference is None or predicted.shape[1:] == reference.shape[1:]:
        return chunk
    (height, width), (wanted_height, wanted_width) = predicted.shape[1:3], reference.shape[1:3]
    if task.policy.size == "error":
        raise VideoMismatch(Misfit.SIZE, f"reference {wanted_width}x{wanted_height} px, predicted {width}x{height}")
    import cv2

    way = cv2.INTER_AREA if width > wanted_width else cv2.INTER_CUBIC
    resized = [cv2.resize(frame, (wanted_width, wanted_height), interpolation=way) for frame in predicted]
    return {**chunk, Quantity.FRAMES.predicted: np.stack(resized)}


@lru_cache(maxsize=4)
def network(quantity: Quantity) -> Embedding:
    """The network behind a quantity, loaded once a process; on the GPU where this process sees one."""
    import torch

    return Embedding.load(quantity, "cuda" if torch.cuda.is_available() else "cpu")
