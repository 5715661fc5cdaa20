"""The corpus: the frames of many clips end to end in flat arrays, from which windows are gathered.

Parquet shards are compressed and cannot be mapped into memory, so they are decoded once, clip by clip through views on
Arrow's buffers, into ``.npy`` files that can: all processes of a machine share their pages. A frame without valid
coefficients is a row of NaN, and so is one row after the last, which stands for padding. Beside the files stand
checksums of every clip: what lies there when an epoch ends must still be what was decoded.

z-scores are every coefficient and acoustic feature relative to its mean and spread in the training clips. As in the
ViCo baseline, motion has one mean and deviation for speakers and listeners together; unlike there, only the training
clips count, and a deviation has a floor: 26 of the 45 features of the preset ``vico45-code`` are rounding noise, which
division by their own deviation would blow up to the size of a signal.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pipeline.dataset.read import read_clips
from pipeline.sources.takedown import takedown_ids
from schemas.column import ROLES, other_role
from schemas.errors import UserError
from stages.train.inputs import ACOUSTIC, ACOUSTIC_WIDTH, FRAME_TOKEN, MIX, NO_LABEL, TOKEN_AXIS, Inputs

DTYPES = {"bool": np.bool_, "int32": np.int64, "int64": np.int64, "float": np.float32, "double": np.float32}
STD_FLOOR = 1e-4  # in the feature's own unit; rounding noise lies below 1e-6, the smallest signal at about 1e-3
CHECKSUMS = "checksums.json"
NAMED = 10  # clips that a message names
Shapes = dict[str, tuple[tuple[int, ...], Any]]  # array -> its shape and type


DAMAGED = "is not what was decoded, damaged since; go on from the last whole epoch with --resume, which decodes anew"


@dataclass(frozen=True)
class ClipFrames:
    """Where a clip's frames stand: the first row and how many; ``place`` is its row in arrays with one a clip."""

    clip_id: str
    person_id: str  # who is predicted
    attitude: str
    split: str
    first: int
    num_frames: int
    place: int


@dataclass(frozen=True)
class Corpus:
    """Arrays by name: ``speaker``, ``listener`` (frame, coefficients), ``audio`` (frame, 45), and the extra columns.

    As in a `Batch`, ``listener`` is the person who is predicted, whatever the role in the data set.

    Attributes
    ----------
    per_clip : the extra columns with one row a clip instead of one a frame.
    folder : where the arrays lie in files; None if they are in memory alone.
    checksums : of the files: CRC-32 of each clip's rows of an array, and of the padding.
    """

    clips: Sequence[ClipFrames]
    arrays: Mapping[str, np.ndarray]
    per_clip: frozenset[str]
    folder: Path | None = None
    checksums: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def padding(self) -> int:
        """The row that stands for no frame."""
        return len(self.arrays["audio"]) - 1

    @property
    def clip_ids(self) -> list[str]:
        return [clip.clip_id for clip in self.clips]

    def verify(self) -> None:
        """Raise `UserError` with file and clip where a file of the arrays is not what was decoded."""
        for name, wanted in self.checksums.items():
            for place, found in enumerate(_sums(self.arrays[name], self.clips, name in self.per_clip)):
                if wanted[place : place + 1] != [found]:
                    where = f"clip {self.clips[place].clip_id!r}" if place < len(self.clips) else "the padding"
                    raise UserError(f"{self.folder}/{name}.npy: {where} {DAMAGED}")


def open_corpus(roots: Sequence[Path], inputs: Inputs, splits: Sequence[str], folder: Path | None = None) -> Corpus:
    """Read the clips of some splits, withdrawn ones left out; in memory, or mapped from files in ``folder``.

    A folder that holds the arrays already is not written again: remove it when the data change.

    Raises
    ------
    UserError : the splits hold no clips, or files in ``folder`` are not what was decoded from them.
    """
    clips = _list_clips(roots, splits, inputs.role)
    if not clips:
        found = f"no clips in the split {' or '.join(splits)}"
        raise UserError(f"{', '.join(map(str, roots))}: {found}; name some in the manifest")
    shapes = _array_shapes(inputs, clips)
    decoded = (clip_arrays(row, inputs) for row in _rows(roots, splits, inputs.columns))
    if folder is None:
        arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes.items()}
        _fill(arrays, inputs.per_clip, decoded)
        return Corpus(clips, arrays, inputs.per_clip)
    if not folder.is_dir():
        _write(folder, shapes, clips, inputs.per_clip, decoded)
    arrays = {name: _mapped(folder / f"{name}.npy", *wanted) for name, wanted in shapes.items()}
    try:
        corpus = Corpus(clips, arrays, inputs.per_clip, folder, json.loads((folder / CHECKSUMS).read_text("utf-8")))
        if corpus.checksums.keys() != arrays.keys():
            raise ValueError(f"found {', '.join(corpus.checksums)}")
        corpus.verify()
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{folder / CHECKSUMS}: {DAMAGED}: {error}") from None
    return corpus


def _mapped(path: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="c")  # torch wants to write
    except (OSError, ValueError, EOFError, SyntaxError) as error:  # a header is an expression of Python
        raise UserError(f"{path}: {DAMAGED}: {error}") from None
    if (array.shape, array.dtype) != (shape, dtype):
        raise UserError(f"{path}: {DAMAGED}: expected {np.dtype(dtype)} {shape}, found {array.dtype} {array.shape}")
    return array


def _sums(array: np.ndarray, clips: Sequence[ClipFrames], per_clip: bool) -> Iterator[int]:
    """The CRC-32 of each clip's rows of an array, and of the padding."""
    for clip in clips:
        rows = slice(clip.place, clip.place + 1) if per_clip else slice(clip.first, clip.first + clip.num_frames)
        yield zlib.crc32(array[rows])
    if not per_clip:
        yield zlib.crc32(array[-1:])


def require_clips(learned: Collection[str], found: Collection[str], anew: str) -> None:
    """Raise `UserError` with the names of clips that a run learns from and that were withdrawn since, or came back.

    Without them it would still say what it has learned from them, so it does not go on at all; ``anew`` is what to do.
    """
    for told, ids in (
        ("were withdrawn since this run began to learn from them", set(learned) - set(found)),
        ("were withdrawn when this run began and are no longer", set(found) - set(learned)),
    ):
        if ids:
            more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
            raise UserError(f"clips {', '.join(sorted(ids)[:NAMED])}{more}: they {told}; {anew}")


class TakedownWatch:
    """Looks whether clips were withdrawn while a run learns from them; cheap where no list has changed."""

    def __init__(self, roots: Sequence[Path], learned: Collection[str], anew: str) -> None:
        self.roots, self.learned, self.anew = roots, set(learned), anew
        self._lists: list[set[str]] = []

    def check(self) -> None:
        """Raise as `require_clips` for those that are gone."""
        lists = [takedown_ids(root) for root in self.roots]
        if lists != self._lists:
            found = {row["clip_id"] for root in self.roots for row in read_clips(root)}
            require_clips(self.learned, found & self.learned, self.anew)
            self._lists = lists


def one_clip(clip_id: str, attitude: str, arrays: Mapping[str, np.ndarray], inputs: Inputs) -> Corpus:
    """A corpus of one clip from what `clip_arrays` returned."""
    extra = {name: np.asarray(arrays[name], DTYPES[inputs.shapes[name].dtype]) for name in inputs.extra}
    extra |= {name: extra[name][None] for name in inputs.per_clip}
    own = {name: np.require(array, requirements="CW") for name, array in {**arrays, **extra}.items()}
    nobody = {"person_id": "", "split": ""}
    clip = ClipFrames(clip_id, **nobody, attitude=attitude, first=0, num_frames=len(arrays["audio"]), place=0)
    return Corpus([clip], own, inputs.per_clip)


def _list_clips(roots: Sequence[Path], splits: Sequence[str], role: str) -> list[ClipFrames]:
    clips: list[ClipFrames] = []
    first = 0
    for row in _rows(roots, splits, ()):
        named = {name: row[name] for name in ("clip_id", "split", "num_frames")}
        said = {"person_id": row[f"{role}_id"], "attitude": row["attitude"] or NO_LABEL}
        clips.append(ClipFrames(**named, **said, first=first, place=len(clips)))
        first += row["num_frames"]
    return clips


def _rows(roots: Sequence[Path], splits: Sequence[str], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    return (row for root in roots for row in read_clips(root, columns, splits))


def _array_shapes(inputs: Inputs, clips: Sequence[ClipFrames]) -> Shapes:
    rows = sum(clip.num_frames for clip in clips) + 1
    shapes: Shapes = {role: ((rows, inputs.layout.width), np.float32) for role in ROLES}
    shapes["audio"] = ((rows, ACOUSTIC_WIDTH), np.float32)
    for name in inputs.extra:
        shape = inputs.shapes[name]
        shapes[name] = ((len(clips) if name in inputs.per_clip else rows, *shape.fixed), DTYPES[shape.dtype])
    return shapes


def clip_arrays(row: Mapping[str, Any], inputs: Inputs) -> dict[str, np.ndarray]:
    """A clip's arrays by the corpus's names, from the columns of its row."""
    if row[inputs.stored(ACOUSTIC)] is None:
        other = other_role(inputs.role)
        how = f"train with --set sound={MIX}, or build a data set of clips that have one"
        raise UserError(f"clip {row['clip_id']!r}: has no sound of the {other} alone; {how}")
    arrays = {"audio": row[inputs.stored(ACOUSTIC)]}
    for name, role in inputs.people.items():
        motion = inputs.layout.join({part: row[f"{role}_{part}"] for part in inputs.layout.parts})
        arrays[name] = np.where(row[f"{role}_coeffs_valid"][:, None], motion, np.float32(np.nan))
    for name in inputs.extra:
        value = np.asarray(row[inputs.stored(name)])
        if inputs.shapes[name].axes[:1] == (TOKEN_AXIS,):  # (token, ...) to (frame, ...), zeros in pauses
            silent = np.zeros((1, *value.shape[1:]), value.dtype)
            value = np.concatenate([value, silent])[row[inputs.stored(FRAME_TOKEN)]]  # the index of a pause is -1
        arrays[name] = np.nan_to_num(value) if value.dtype.kind == "f" else value
    return arrays


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


def _write(
    folder: Path,
    shapes: Shapes,
    clips: Sequence[ClipFrames],
    per_clip: frozenset[str],
    decoded: Iterator[dict[str, np.ndarray]],
) -> None:
    """Fill mapped files beside ``folder`` and put them there in one step."""
    scratch = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    files = ((name, scratch / f"{name}.npy", *wanted) for name, wanted in shapes.items())
    arrays = {name: np.lib.format.open_memmap(file, "w+", dtype, shape) for name, file, shape, dtype in files}
    _fill(arrays, per_clip, decoded)
    sums = {name: list(_sums(array, clips, name in per_clip)) for name, array in arrays.items()}
    (scratch / CHECKSUMS).write_text(json.dumps(sums), "utf-8")
    for array in arrays.values():
        array.flush()
    scratch.rename(folder)


@dataclass(frozen=True)
class Scale:
    """Mean and deviation (not under `STD_FLOOR`) of the features of a frame, as plain numbers for JSON."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_z(self, values: Tensor) -> Tensor:
        """Values (..., feature) as z-scores."""
        return (values - values.new_tensor(self.mean)) / values.new_tensor(self.std)

    def from_z(self, z: Tensor) -> Tensor:
        """The inverse of `to_z`."""
        return z * z.new_tensor(self.std) + z.new_tensor(self.mean)


@dataclass(frozen=True)
class ZScores:
    """The scales of motion and audio."""

    motion: Scale
    audio: Scale


def scores_of(corpus: Corpus, clips: Sequence[ClipFrames]) -> ZScores:
    """The z-scores of some clips; frames without valid coefficients do not count."""
    rows = np.concatenate([np.arange(clip.first, clip.first + clip.num_frames) for clip in clips])
    return ZScores(_scale([corpus.arrays[role][rows] for role in ROLES]), _scale([corpus.arrays["audio"][rows]]))


def _scale(parts: Sequence[np.ndarray]) -> Scale:
    finite = [part[np.isfinite(part).all(axis=1)].astype(np.float64) for part in parts]
    count = max(1, sum(map(len, finite)))
    mean = sum(part.sum(axis=0) for part in finite) / count
    variance = sum(((part - mean) ** 2).sum(axis=0) for part in finite) / max(1, count - 1)
    return Scale(tuple(mean.tolist()), tuple(np.maximum(np.sqrt(variance), STD_FLOOR).tolist()))
