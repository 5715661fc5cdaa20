"""Leaks that ids do not show: one person under two ids, two people under one, one film under two source ids.

Told by the faces and the sound that a build keeps: the columns of the stage ``face_identity`` (its backend dlib) and
``audio``. Nothing is asked of a network.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset.read import media_file, read_clips
from pipeline.dataset.storage import Location, local_file
from pipeline.media.fingerprint import fingerprint, same_sounds
from schemas.column import ROLES
from schemas.dataset import Description
from schemas.errors import UserError
from schemas.identity import COLUMN, DIMENSIONS, ONE_PERSON, TWO_PEOPLE

Floats = NDArray[np.floating]

PERSON, PEOPLE, FILM = "one person under two ids", "two people under one id", "one film under two source ids"
BLOCK = 1024  # faces that are compared with all others at once
MOST_FACES = 4096  # of one id that are compared with each other: 134 MB of distances


@dataclass(frozen=True)
class Row:
    """A clip, or one of its two people."""

    clip_id: str
    source_id: str
    split: str
    role: str = ""  # empty where the clip as a whole is meant
    person: str | None = None

    def __str__(self) -> str:
        who = f"{self.role} {self.person or 'unnamed'} of " if self.role else ""
        return f"{who}clip {self.clip_id} ({', '.join(filter(None, (f'source {self.source_id}', self.split)))})"


@dataclass(frozen=True)
class Leak:
    """Two rows that show the same person or film although their ids say otherwise, or two people that one id names."""

    kind: str  # `PERSON`, `PEOPLE` or `FILM`
    one: Row
    other: Row
    distance: float  # of the faces; of the sounds the share of bits of their fingerprints

    def __str__(self) -> str:
        measure = "bits of the sound differ" if self.kind == FILM else "between the faces"
        return f"{self.kind}: {self.one} and {self.other}: {self.distance:.3f} {measure}"

    @property
    def crosses(self) -> bool:
        """Whether what ood must not show to any other split stands on both sides."""
        return (self.one.split == "ood") != (self.other.split == "ood")


def has_faces(description: Description) -> bool:
    """Whether a data set holds faces that can be compared: dlib's, of both roles."""
    columns = {entry.name: entry.axes for entry in description.columns if entry.name in description.packed}
    return all(columns.get(COLUMN.format(role=role)) == f"({DIMENSIONS})" for role in ROLES)


def find_leaks(root: Location, description: Description) -> Iterator[Leak]:
    """What faces and sounds say against the ids of a data set, whatever the splits; nothing where it holds neither.

    `UserError` as `read_clips`.
    """
    if has_faces(description):
        yield from leaks_by_face(root)
    if "audio" in description.packed:
        yield from _one_film(root, description)


def leaks_by_face(root: Location, clips: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Leak]:
    """What the faces of a data set say against its ids.

    With ``clips``, columns of a manifest by clip id, against those, as far as they name clips of the data set.
    """
    columns = [COLUMN.format(role=role) for role in ROLES]
    rows, faces = [], []
    for clip in read_clips(root, columns):
        ids = clip if clips is None else clips.get(clip["clip_id"])
        for role, column in zip(ROLES, columns, strict=True):
            if ids and clip[column] is not None:
                rows.append(Row(clip["clip_id"], ids["source_id"], ids["split"], role, ids[f"{role}_id"]))
                faces.append(clip[column])
    order = sorted(range(len(rows)), key=lambda row: (_name(rows[row]), rows[row].clip_id))  # the unnamed are one each
    rows, points = [rows[row] for row in order], np.array([faces[row] for row in order], np.float64)
    yield from _one_person(rows, points)
    yield from _two_people(rows, points)


def _name(row: Row) -> tuple[str, str, str]:
    return ("", row.clip_id, row.role) if row.person is None else (row.person, "", "")


def _one_person(rows: Sequence[Row], faces: Floats) -> Iterator[Leak]:
    """Pairs of ids of which the faces of one lie, at the mean, within the cut of some face of the other.

    The mean keeps single odd pairs of two people with many clips from counting; the nearest face of the other finds a
    person whom a second person's id hides.
    """
    names = [_name(row) for row in rows]
    firsts = np.array([row for row in range(len(rows)) if not row or names[row] != names[row - 1]], np.intp)
    if len(firsts) < 2:
        return
    number = np.cumsum(np.isin(np.arange(len(rows)), firsts)) - 1
    counts = np.bincount(number)
    near = np.zeros((len(firsts), len(firsts)))  # mean distance of the faces of a name from the nearest of another's
    for start in range(0, len(rows), BLOCK):
        nearest = np.minimum.reduceat(_distances(faces[start : start + BLOCK], faces), firsts, axis=1)
        np.add.at(near, number[start : start + BLOCK], nearest)
    near /= counts[:, None]
    near = np.minimum(near, near.T)
    of_clip: dict[str, int] = {}
    for row, name in zip(rows, number.tolist(), strict=True):  # the two people of a clip are two
        other = of_clip.setdefault(row.clip_id, name)
        near[name, other] = near[other, name] = np.inf
    for one, other in np.argwhere(np.triu(near < ONE_PERSON, 1)).tolist():
        ours, theirs = (np.arange(firsts[name], firsts[name] + counts[name]) for name in (one, other))
        apart = _distances(faces[ours], faces[theirs])
        i, j = np.unravel_index(int(apart.argmin()), apart.shape)
        yield Leak(PERSON, rows[ours[i]], rows[theirs[j]], float(apart[i, j]))


def _two_people(rows: Sequence[Row], faces: Floats) -> Iterator[Leak]:
    """Ids whose faces fall into groups that lie apart: the two nearest faces of different groups."""
    for _, group in groupby(range(len(rows)), lambda row: _name(rows[row])):
        mine = list(group)[:MOST_FACES]
        apart = _distances(faces[mine], faces[mine])
        label = _groups(apart < TWO_PEOPLE)
        if label.any():
            apart[label[:, None] == label] = np.inf
            i, j = np.unravel_index(int(apart.argmin()), apart.shape)
            yield Leak(PEOPLE, rows[mine[min(i, j)]], rows[mine[max(i, j)]], float(apart[i, j]))


def _groups(near: NDArray[np.bool_]) -> NDArray[np.intp]:
    """A number (face,) for each face, equal for those that are near each other, directly or through others."""
    label = np.arange(len(near))
    while True:
        least = np.where(near, label, len(near)).min(axis=1)
        if (least == label).all():
            return label
        label = least


def _one_film(root: Location, description: Description) -> Iterator[Leak]:
    """Pairs of source ids of which two clips hold the same sound, unless they say that they were cut from one film."""
    rows, prints = [], []
    for clip in read_clips(root, ["audio"]):
        if clip["audio"] is None:
            continue
        samples = _samples(media_file(root, clip["audio"]))
        rows.append(Row(clip["clip_id"], clip["source_id"], clip["split"]))
        prints.append(fingerprint(samples))
    films = {source: entry.video or source for source, entry in description.sources.items()}
    numbers: dict[str, int] = {}
    groups = [numbers.setdefault(films.get(row.source_id, row.source_id), len(numbers)) for row in rows]
    best: dict[tuple[str, str], Leak] = {}
    for same in same_sounds(prints, groups):
        one, other = rows[same.one], rows[same.other]
        pair = min(one.source_id, other.source_id), max(one.source_id, other.source_id)
        leak = Leak(FILM, one, other, same.bit_errors)
        if pair not in best or leak.distance < best[pair].distance:
            best[pair] = leak
    yield from best.values()


def _samples(path: Location) -> NDArray[np.float32]:
    """The sound of a clip, 16 bits a sample as the stage ``clip`` writes it."""
    try:
        with local_file(path) as file, wave.open(str(file)) as sound:
            return np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float32)
    except (wave.Error, EOFError, ValueError) as error:
        raise UserError(f"{path}: no sound can be read: {error}; python -m jobs.repair finds what to do") from None


def _distances(points: Floats, others: Floats) -> Floats:
    """Euclidean distances (point, other)."""
    squares = (points**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * points @ others.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))
