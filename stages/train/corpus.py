"""The corpus: the frames of many clips end to end in flat arrays, from which windows are gathered.

Parquet shards are compressed and cannot be mapped into memory, so they are decoded once, clip by clip through views on
Arrow's buffers, into ``.npy`` files that can: all processes of a machine share their pages. A frame without valid
coefficients is a row of NaN, and so is one row after the last, which stands for padding.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset.read import read_clips
from schemas.column import ROLES
from schemas.errors import UserError
from stages.train.inputs import ACOUSTIC, ACOUSTIC_WIDTH, FRAME_TOKEN, NO_LABEL, TOKEN_AXIS, Inputs

DTYPES = {"bool": np.bool_, "int32": np.int64, "int64": np.int64, "float": np.float32, "double": np.float32}


@dataclass(frozen=True)
class ClipFrames:
    """Where a clip's frames stand: the first row and how many; ``place`` is its row in arrays with one a clip."""

    clip_id: str
    listener_id: str
    attitude: str
    split: str
    first: int
    num_frames: int
    place: int


@dataclass(frozen=True)
class Corpus:
    """Arrays by name: ``speaker``, ``listener`` (frame, coefficients), ``audio`` (frame, 45), and the extra columns.

    Attributes
    ----------
    per_clip : the extra columns with one row a clip instead of one a frame.
    """

    clips: Sequence[ClipFrames]
    arrays: Mapping[str, np.ndarray]
    per_clip: frozenset[str]

    @property
    def padding(self) -> int:
        """The row that stands for no frame."""
        return len(self.arrays["audio"]) - 1


def open_corpus(roots: Sequence[Path], inputs: Inputs, splits: Sequence[str], folder: Path | None = None) -> Corpus:
    """Read the clips of some splits, withdrawn ones left out; in memory, or mapped from files in ``folder``.

    A folder that holds the arrays already is not written again: remove it when the data change.

    Raises
    ------
    UserError : the splits hold no clips.
    """
    clips = list(_list_clips(roots, splits))
    if not clips:
        raise UserError(
            f"{', '.join(map(str, roots))}: no clips in the split {' or '.join(splits)}; name some in the manifest"
        )
    per_clip = frozenset(name for name in inputs.extra if not inputs.runs_along_frames(name))
    shapes = _array_shapes(inputs, clips, per_clip)
    if folder is None:
        arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes.items()}
        _fill(arrays, per_clip, _read(roots, splits, inputs))
    else:
        if not folder.is_dir():
            _write(folder, shapes, lambda arrays: _fill(arrays, per_clip, _read(roots, splits, inputs)))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in shapes}  # torch wants to write
    return Corpus(clips, arrays, per_clip)


def one_clip(clip_id: str, attitude: str, arrays: Mapping[str, np.ndarray], inputs: Inputs) -> Corpus:
    """A corpus of one clip from what `clip_arrays` returned."""
    per_clip = frozenset(name for name in inputs.extra if not inputs.runs_along_frames(name))
    extra = {name: np.asarray(arrays[name], DTYPES[inputs.shapes[name].dtype]) for name in inputs.extra}
    extra = {name: array[None] if name in per_clip else array for name, array in extra.items()}
    own = {name: np.require(array, requirements="CW") for name, array in {**arrays, **extra}.items()}
    clip = ClipFrames(
        clip_id=clip_id, listener_id="", attitude=attitude, split="", first=0, num_frames=len(arrays["audio"]), place=0
    )
    return Corpus([clip], own, per_clip)


def _list_clips(roots: Sequence[Path], splits: Sequence[str]) -> Iterator[ClipFrames]:
    first = 0
    for row in _rows(roots, splits, ()):
        place, label = row["place"], row["attitude"] or NO_LABEL
        yield ClipFrames(
            clip_id=row["clip_id"], listener_id=row["listener_id"], attitude=label, split=row["split"], first=first,
            num_frames=row["num_frames"], place=place,
        )  # fmt: skip
        first += row["num_frames"]


def _rows(roots: Sequence[Path], splits: Sequence[str], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    place = 0
    for root in roots:
        for row in read_clips(root, columns):
            if row["split"] in splits:
                yield {**row, "place": place}
                place += 1


def _array_shapes(
    inputs: Inputs, clips: Sequence[ClipFrames], per_clip: frozenset[str]
) -> dict[str, tuple[tuple[int, ...], Any]]:
    rows = sum(clip.num_frames for clip in clips) + 1
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {role: ((rows, inputs.layout.width), np.float32) for role in ROLES}
    shapes["audio"] = ((rows, ACOUSTIC_WIDTH), np.float32)
    for name in inputs.extra:
        shape = inputs.shapes[name]
        shapes[name] = ((len(clips) if name in per_clip else rows, *shape.fixed), DTYPES[shape.dtype])
    return shapes


def _read(roots: Sequence[Path], splits: Sequence[str], inputs: Inputs) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of one clip after the other."""
    for row in _rows(roots, splits, inputs.columns):
        yield clip_arrays(row, inputs)


def clip_arrays(row: Mapping[str, Any], inputs: Inputs) -> dict[str, np.ndarray]:
    """A clip's arrays by the corpus's names, from the columns of its row."""
    arrays = {"audio": row[ACOUSTIC]}
    for role in ROLES:
        motion = inputs.layout.join({part: row[f"{role}_{part}"] for part in inputs.layout.parts})
        arrays[role] = np.where(row[f"{role}_coeffs_valid"][:, None], motion, np.float32(np.nan))
    for name in inputs.extra:
        value = np.asarray(row[name])
        if inputs.shapes[name].axes[:1] == (TOKEN_AXIS,):
            value = _spread(value, row[FRAME_TOKEN])
        arrays[name] = np.nan_to_num(value) if value.dtype.kind == "f" else value
    return arrays


def _spread(values: np.ndarray, frame_token: np.ndarray) -> np.ndarray:
    """Tokens' values (token, ...) in the frames in which each is spoken, zeros in pauses: (frame, ...)."""
    silent = np.zeros((1, *values.shape[1:]), values.dtype)
    return np.concatenate([values, silent])[frame_token]  # the index of a pause is -1


def _fill(arrays: Mapping[str, np.ndarray], per_clip: frozenset[str], clips: Iterator[dict[str, np.ndarray]]) -> None:
    first = 0
    for place, clip in enumerate(clips):
        end = first + len(clip["audio"])
        for name, value in clip.items():
            arrays[name][slice(first, end) if name not in per_clip else place] = value
        first = end
    for name, array in arrays.items():
        if name not in per_clip:
            array[first] = np.nan if name in (*ROLES, "audio") else 0


def _write(folder: Path, shapes: Mapping[str, tuple[tuple[int, ...], Any]], fill: Callable[..., None]) -> None:
    """Fill mapped files beside ``folder`` and put them there in one step."""
    scratch = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    arrays = {
        name: np.lib.format.open_memmap(scratch / f"{name}.npy", "w+", dtype, shape)
        for name, (shape, dtype) in shapes.items()
    }
    fill(arrays)
    for array in arrays.values():
        array.flush()
    scratch.rename(folder)
