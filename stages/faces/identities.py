"""Who is who: face tracks of many films as people, with a name each that stays when films are added.

A track is one face over a shot, known by the embeddings (dlib's, 128 numbers) of some of its frames. Two steps:

1. Tracks of one film that look alike come together as *looks* (complete linkage: no two tracks of a look are further
   apart than `LOOK_CUT`): the same chair and light again after every cut. What people read and mend are looks, a few a
   person and film instead of hundreds of tracks.
2. Looks come together as people across films (average linkage, Sokal and Michener 1958, up to `ONE_PERSON`).

Two faces that are on the screen at the same time are never one person. A look that the table of an earlier run names
(`Known`) keeps that name, be it the run's or a correction by hand; names are never joined or parted again behind the
user's back. What is left over is named p0001, p0002, ... in order of films and times, after the highest number in use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UserError
from schemas.identity import ONE_PERSON

Floats = NDArray[np.float64]
Key = tuple[str, str]  # a track: its film and its name there

LOOK_CUT = 0.3  # distances of means of 3 to 5 faces: one person within a shot or film
WITHDRAWN_CUT = 0.45  # nearer than this to a withdrawn person is too near: a mistake should hide, not show
DOUBT = 0.05  # pairs of people this little beyond the cut, and looks this little within, are told
ENOUGH = 5  # faces behind a mean, for which the cut holds; of fewer it is blurred by
FACE_NOISE = 0.03  # squared distance of one face from its track's mean: .042 at the median of the open media, .019 in
# the calmest quarter; what fewer faces add to a squared distance is taken off it
FAR = 1e9  # stands for "never": an average of any number of distances that holds one stays beyond every cut
TOGETHER = 2000  # tracks of a film that are compared at once: 16 MB of distances
BLOCK = 512  # looks that are compared with all others at once
NUMBERED = re.compile(r"p(\d{4,})")


@dataclass(frozen=True, eq=False)
class Track:
    """One face over a shot of a film.

    Tracks of one film whose times overlap are different people, so a film that is read in overlapping windows must
    give each stretch of time once.
    """

    film: str
    name: str  # unique in its film and the same in every run
    start_s: float  # in the film
    end_s: float  # the first moment at which it is gone
    x: float  # where: centre of the face in widths of the picture, 0 at its left edge
    faces: NDArray[np.floating[Any]]  # (face, 128), 3 to 5 of its best frames

    @property
    def key(self) -> Key:
        return self.film, self.name

    @property
    def mean(self) -> Floats:
        return np.asarray(np.mean(self.faces, axis=0, dtype=np.float64))

    @property
    def num_faces(self) -> int:
        return len(self.faces)


@dataclass(frozen=True, eq=False)
class Look:
    """Tracks of one film that look alike; a row of the table."""

    person: str
    film: str
    tracks: tuple[str, ...]  # names, the longest first: it stands for the look
    at_s: float  # middle of the longest track: the place to look at
    x: float  # where its face is then
    seconds: float  # on the screen in all
    num_faces: int  # behind the mean
    mean: NDArray[np.float32] | None  # (128,) of all faces; None where no embedding may be kept

    @property
    def keys(self) -> list[Key]:
        return [(self.film, track) for track in self.tracks]


@dataclass(frozen=True)
class Person:
    """Somebody, and how sure that is."""

    name: str
    looks: tuple[Look, ...]
    spread: float  # largest mean distance of a look from the person's others; 0 of a single look
    nearest: str  # the other person who looks most alike; empty where there is none
    distance: float  # mean distance between the looks of the two; inf where there is none

    @property
    def margin(self) -> float:
        """By how much the nearest other person is further than the person's own looks."""
        return self.distance - self.spread


MERGE, SPLIT = "merge", "split"  # kinds of doubt: these two may be one person, this one may be two


@dataclass(frozen=True)
class Doubt:
    """Something to be looked at: two people who may be one, by their nearest looks, or one who may be two, by the look
    that lies furthest from the others and the one furthest from it."""

    kind: str
    one: Look
    other: Look
    distance: float


@dataclass(frozen=True)
class People:
    """Who is who in some films, and in those of the table that was given."""

    persons: tuple[Person, ...]  # by name
    doubts: tuple[Doubt, ...]  # nearest to the cut first

    def names(self) -> dict[Key, str]:
        """The person of every track."""
        return {key: look.person for person in self.persons for look in person.looks for key in look.keys}


@dataclass(frozen=True)
class Known:
    """What an earlier run and its reader have decided; see `stages.faces.people_table`."""

    looks: tuple[Look, ...] = ()
    withdrawn: tuple[Look, ...] = ()  # of people who must not appear; whoever looks like one of them gets that name
    taken: frozenset[str] = frozenset()  # names that nobody else may get


NOBODY = Known()


def who_is_who(tracks: Sequence[Track], known: Known = NOBODY, cut: float = ONE_PERSON) -> People:
    """People among the tracks and the known looks; the same for every order of them.

    Raises
    ------
    UserError : the table gives one name to two faces that are on the screen at the same time.
    """
    ordered = sorted(tracks, key=lambda track: (track.film, track.start_s, track.name))
    assert len({track.key for track in ordered}) == len(ordered), "two tracks of a film share a name"
    named = {key: look for look in known.looks for key in look.keys}
    fresh = [track for track in ordered if track.key not in named]
    looks = sorted(known.looks, key=lambda look: (look.film, look.at_s, look.tracks))
    seen = [look for look in looks if look.mean is not None]
    new = [look for _, of_film in groupby(fresh, lambda track: track.film) for look in _looks(list(of_film))]
    items = [*seen, *new]
    apart = _together(ordered, items)
    for i, j in apart.T:
        if items[i].person and items[i].person == items[j].person:
            raise UserError(
                f"people.csv: {items[i].person!r} stands beside track {items[i].tracks[0]!r} of {items[i].film!r} and "
                f"beside {items[j].tracks[0]!r}, which are seen at the same time; give one another name"
            )
    labels = _clusters(items, apart, cut)
    taken = known.taken | {look.person for look in (*looks, *known.withdrawn)}
    named_items = _withdrawn(_named(items, labels, taken), known.withdrawn)
    return _people(named_items, [look for look in looks if look.mean is None], apart, cut)


def _looks(tracks: list[Track]) -> Iterator[Look]:
    """Tracks of one film, in order of time, as looks without a name."""
    for first in range(0, len(tracks), TOGETHER):
        some = tracks[first : first + TOGETHER]
        distances = _distances(some)
        i, j = _overlapping(some)
        distances[i, j] = distances[j, i] = FAR
        labels = _linked(distances, "complete", LOOK_CUT)
        for label in range(labels.max() + 1):
            yield _look([some[row] for row in np.flatnonzero(labels == label)])


def _look(tracks: list[Track]) -> Look:
    longest = sorted(tracks, key=lambda track: (track.start_s - track.end_s, track.start_s, track.name))
    first = longest[0]
    return Look(
        person="",
        film=first.film,
        tracks=tuple(track.name for track in longest),
        at_s=(first.start_s + first.end_s) / 2,
        x=first.x,
        seconds=sum(track.end_s - track.start_s for track in longest),
        num_faces=sum(track.num_faces for track in longest),
        mean=np.concatenate([np.asarray(track.faces, np.float64) for track in longest])
        .mean(axis=0)
        .astype(np.float32),  # as it is kept: the next run counts with the same numbers
    )


def _overlapping(tracks: Sequence[Track]) -> NDArray[np.intp]:
    """Pairs (2, pair) of tracks of one film, in order of their beginnings, that are on the screen together."""
    starts = np.array([track.start_s for track in tracks])
    last = np.searchsorted(starts, [track.end_s for track in tracks])  # tracks that begin before this one ends
    counts = np.maximum(last - np.arange(len(tracks)) - 1, 0)
    first = np.repeat(np.arange(len(tracks)), counts)
    step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([first, first + 1 + step])


def _together(ordered: Sequence[Track], items: Sequence[Look]) -> NDArray[np.intp]:
    """Pairs (2, pair), each once, of looks that are on the screen together."""
    place = {key: row for row, look in enumerate(items) for key in look.keys}
    pairs = [np.empty((2, 0), np.intp)]
    for _, group in groupby(ordered, lambda track: track.film):
        of_film = [track for track in group if track.key in place]
        rows = np.array([place[track.key] for track in of_film], np.intp)
        pairs.append(rows[_overlapping(of_film)])
    return np.unique(np.sort(np.concatenate(pairs, axis=1), axis=0), axis=1)


def _clusters(items: Sequence[Look], apart: NDArray[np.intp], cut: float) -> NDArray[np.intp]:
    """A number (item,) for each look, equal for looks of one person."""
    if not items:
        return np.empty(0, np.intp)
    distances = _distances(items)
    distances[apart[0], apart[1]] = distances[apart[1], apart[0]] = FAR
    names = np.array([look.person for look in items])
    decided = np.flatnonzero(names != "")
    same = names[decided, None] == names[decided]
    distances[np.ix_(decided, decided)] = np.where(same, 0.0, FAR)
    return _linked(distances, "average", cut)


def _linked(distances: Floats, linkage: str, cut: float) -> NDArray[np.intp]:
    """Labels (item,) from 0 of the clusters that hierarchical clustering leaves at a cut of the distances."""
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    if len(distances) < 2:
        return np.zeros(len(distances), np.intp)
    tree = hierarchy.linkage(squareform(distances, checks=False), linkage)
    return np.asarray(hierarchy.fcluster(tree, cut, "distance") - 1, np.intp)


def _distances(ones: Sequence[Track | Look], others: Sequence[Track | Look] | None = None) -> Floats:
    """Euclidean distances (one, other) between means, as if `ENOUGH` faces stood behind each."""
    from scipy.spatial.distance import cdist

    others = ones if others is None else others
    squares = cdist(_means(ones), _means(others), "sqeuclidean") - _noise(ones)[:, None] - _noise(others)
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def _means(some: Sequence[Track | Look]) -> Floats:
    return np.stack([one.mean for one in some if one.mean is not None]).astype(np.float64)


def _noise(some: Sequence[Track | Look]) -> Floats:
    """By how much the mean of so few faces lies, squared, further from another than that of `ENOUGH` would."""
    return FACE_NOISE * np.maximum(1 / np.array([one.num_faces for one in some]) - 1 / ENOUGH, 0)


def _named(items: Sequence[Look], labels: NDArray[np.intp], taken: Collection[str]) -> list[Look]:
    """The looks with a name each: the known one of their cluster or the next number."""
    names: dict[int, str] = {
        label: look.person for look, label in zip(items, labels.tolist(), strict=True) if look.person
    }
    numbers = [int(found[1]) for name in taken if (found := NUMBERED.fullmatch(name))]
    number = max(numbers, default=0)
    order = sorted(range(len(items)), key=lambda row: (items[row].film, items[row].at_s, items[row].tracks))
    for row in order:
        if int(labels[row]) not in names:
            number += 1
            names[int(labels[row])] = f"p{number:04d}"
    return [replace(look, person=names[label]) for look, label in zip(items, labels.tolist(), strict=True)]


def _withdrawn(looks: list[Look], gone: Sequence[Look]) -> list[Look]:
    """The looks, where people of whom one look is near one of a withdrawn person have that one's name."""
    if not looks or not gone:
        return looks
    distances = _distances(looks, gone)
    names: dict[str, str] = {}
    for row in np.argsort(distances.min(axis=1), kind="stable").tolist():
        if distances[row].min() < WITHDRAWN_CUT:
            names.setdefault(looks[row].person, gone[int(distances[row].argmin())].person)
    return [replace(look, person=names.get(look.person, look.person)) for look in looks]


def _people(looks: list[Look], unseen: list[Look], apart: NDArray[np.intp], cut: float) -> People:
    """Everybody with their margins, and what to look at; pairs of looks that are seen together are no doubt."""
    order = sorted(range(len(looks)), key=lambda row: (looks[row].person, looks[row].film, looks[row].at_s))
    of_person = [list(group) for _, group in groupby(order, lambda row: looks[row].person)]
    counts = np.array([len(rows) for rows in of_person], np.intp)
    to_person = _mean_distances([looks[row] for row in order], counts)  # (look, person)
    firsts = np.cumsum(counts) - counts
    between = np.add.reduceat(to_person, firsts) / counts[:, None] if order else np.empty((0, 0))
    np.fill_diagonal(between, np.inf)
    number = np.repeat(np.arange(len(counts)), counts)
    own = to_person[np.arange(len(order)), number] * counts[number] / np.maximum(counts[number] - 1, 1)
    persons, doubts = [], []
    for i, rows in enumerate(of_person):
        mine = [looks[row] for row in rows]
        nearest = int(between[i].argmin())
        distance = float(between[i, nearest])
        other = looks[of_person[nearest][0]].person if np.isfinite(distance) else ""
        spreads = own[firsts[i] : firsts[i] + counts[i]]
        theirs = tuple(look for look in unseen if look.person == mine[0].person)
        persons.append(Person(mine[0].person, (*mine, *theirs), float(spreads.max()), other, distance))
        row = int(spreads.argmax())
        if spreads[row] > cut - DOUBT:
            doubts.append(Doubt(SPLIT, *_extreme([mine[row]], mine, np.argmax), float(spreads[row])))
    together = set(map(tuple, np.sort(_numbers(order, number)[apart], axis=0).T.tolist()))
    for i, j in np.argwhere(np.triu(between < cut + DOUBT)).tolist():
        if (i, j) not in together:
            mine, theirs = ([looks[row] for row in of_person[place]] for place in (i, j))
            doubts.append(Doubt(MERGE, *_extreme(mine, theirs, np.argmin), float(between[i, j])))
    names = {person.name for person in persons}
    for name, group in groupby(sorted(unseen, key=lambda look: look.person), lambda look: look.person):
        if name not in names:
            persons.append(Person(name, tuple(group), 0.0, "", np.inf))
    persons.sort(key=lambda person: person.name)
    doubts.sort(key=lambda doubt: (abs(doubt.distance - cut), doubt.one.keys, doubt.other.keys))
    return People(tuple(persons), tuple(doubts))


def _mean_distances(looks: Sequence[Look], counts: NDArray[np.intp]) -> Floats:
    """Mean distance (look, person) of looks, in order of people, from the looks (counts,) of everybody."""
    if not looks:
        return np.empty((0, 0))
    firsts = np.cumsum(counts) - counts
    blocks = [looks[row : row + BLOCK] for row in range(0, len(looks), BLOCK)]
    return np.concatenate([np.add.reduceat(_distances(block, looks), firsts, axis=1) for block in blocks]) / counts


def _numbers(order: Sequence[int], number: NDArray[np.intp]) -> NDArray[np.intp]:
    """The number of the person of each look from those of looks in another order."""
    numbers = np.empty(len(order), np.intp)
    numbers[list(order)] = number
    return numbers


def _extreme(ones: Sequence[Look], others: Sequence[Look], which: Callable[..., Any]) -> tuple[Look, Look]:
    """The pair of looks of two people that are nearest to each other, or furthest apart."""
    distances = _distances(ones, others)
    i, j = np.unravel_index(which(distances), distances.shape)
    return ones[int(i)], others[int(j)]
