"""Learns a linear morphable model from landmarks: Procrustes alignment, then PCA between and within people.

Two PCAs as in Blanz and Vetter, SIGGRAPH 1999 (identity) and Cao et al., "FaceWarehouse", TVCG 2014 (expression).
What is rigid motion and what is expression is a choice (a gauge): here a head moves as its stillest points move, so
points weigh by the inverse of how much they move within clips. Every face counts twice, as it is and mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from schemas.errors import UserError
from stages.morphable.basis import FIVE_POINTS, FIVE_POINTS_DM, NUM_POINTS, UNIT_DM, Basis

ROUNDS = 4  # alignment, mean shape and weights depend on each other and settle in three
FRAMES_A_TRACK = 60  # taken of a longer track, evenly spread, so that long clips do not outvote short ones
MIN_MOVING = 3  # frames that a track needs to teach expression


@dataclass(frozen=True)
class PersonTrack:
    """One face in one clip or picture: points float (frame, 478, 3), x right, y up, z towards the viewer, all valid."""

    person: str
    points: np.ndarray


def upright(landmarks: np.ndarray) -> np.ndarray:
    """MediaPipe's points (..., 3), y down and z away from the viewer, in the axes of a model."""
    return landmarks.astype(np.float64) * np.array([1.0, -1.0, -1.0])


def learn(tracks: Sequence[PersonTrack], name: str, num_identity: int = 80, num_expression: int = 64) -> Basis:
    """The basis of these faces.

    Raises
    ------
    UserError : there are fewer people or frames than components.
    """
    shapes = Shapes.of(_taken(tracks))
    return replace(basis_of(shapes, name, num_identity, num_expression), noise=jitter(tracks, shapes))


def held_out(
    tracks: Sequence[PersonTrack], folds: int, num_identity: int = 80, num_expression: int = 64
) -> list[Explained]:
    """What bases learnt without a fold of the people explain of that fold, fold by fold."""
    people = list(dict.fromkeys(track.person for track in tracks))
    results = []
    for fold in range(folds):
        out = set(people[fold::folds])
        shapes = Shapes.of(_taken([track for track in tracks if track.person not in out]))
        basis = basis_of(shapes, "", num_identity, num_expression)
        others = [replace(track, points=_spread(track.points)) for track in tracks if track.person in out]
        unseen = Shapes.of(others, shapes.mean, shapes.weight)
        shares = explained(unseen.within(), basis.expression), explained(unseen.between(), basis.identity)
        results.append(Explained(len(out), *shares))
    return results


@dataclass(frozen=True)
class Explained:
    """Shares of the variance of people whom a basis has not seen."""

    people: int
    expression: float
    identity: float


@dataclass(frozen=True)
class Shapes:
    """Faces aligned with each other, in dm: tracks (frame, 478, 3) around people (478, 3) around the mean."""

    mean: np.ndarray
    weight: np.ndarray
    people: dict[str, np.ndarray]
    tracks: list[PersonTrack]

    @staticmethod
    def of(tracks: Sequence[PersonTrack], mean: np.ndarray | None = None, weight: np.ndarray | None = None) -> Shapes:
        """Align frames with their person and people with the mean; with a given mean and weight only that."""
        fixed = mean is not None
        start = tracks[0].points[0] if mean is None else mean
        mean = placed(start) if mean is None else mean
        weight = np.full(len(mean), 1 / len(mean)) if weight is None else weight
        for _ in range(ROUNDS):
            aligned = [replace(track, points=align(track.points, mean, weight)) for track in tracks]
            people = _person_means(aligned)
            aligned = [replace(track, points=align(track.points, people[track.person], weight)) for track in aligned]
            people = {name: align(shape[None], mean, weight)[0] for name, shape in _person_means(aligned).items()}
            aligned = [replace(track, points=align(track.points, people[track.person], weight)) for track in aligned]
            if not fixed:
                mean = placed(np.mean(list(people.values()), axis=0))
                weight = _stillness(aligned)
        return Shapes(mean, weight, people, aligned)

    def between(self) -> np.ndarray:
        """Offsets of people from the mean, (person, 1434), without what a similarity transform could do."""
        return self._without_similarity(np.stack(list(self.people.values())) - self.mean)

    def within(self) -> np.ndarray:
        """Offsets of frames from their own track's mean, (frame, 1434), of tracks that have three frames or more."""
        moving = [track.points - track.points.mean(axis=0) for track in self.tracks if len(track.points) >= MIN_MOVING]
        return self._without_similarity(np.concatenate(moving))

    def _without_similarity(self, offsets: np.ndarray) -> np.ndarray:
        weight = np.repeat(self.weight, 3)
        tangents = similarity_tangents(self.mean)  # (7, 1434)
        gram = (tangents * weight) @ tangents.T
        flat = offsets.reshape(len(offsets), -1)
        return flat - np.linalg.solve(gram, (tangents * weight) @ flat.T).T @ tangents


def similarity_tangents(shape: np.ndarray) -> np.ndarray:
    """Directions (7, 1434) in which moving, turning and scaling take a shape (478, 3)."""
    moves = [np.broadcast_to(axis, shape.shape) for axis in np.eye(3)]
    turns = [np.cross(axis, shape) for axis in np.eye(3)]
    return np.stack([*moves, *turns, shape]).reshape(7, -1)


def align(shapes: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Shapes (n, 478, 3), each moved, turned and scaled onto ``target`` (478, 3) by weighted least squares.

    Umeyama, "Least-Squares Estimation of Transformation Parameters Between Two Point Patterns", PAMI 1991.
    """
    weight = weight / weight.sum()
    source_mean, target_mean = np.einsum("v,nvi->ni", weight, shapes), weight @ target
    source, goal = shapes - source_mean[:, None], target - target_mean
    u, sizes, vt = np.linalg.svd(np.einsum("v,vi,nvj->nij", weight, goal, source))
    sign = np.ones_like(sizes)
    sign[:, 2] = np.linalg.det(u @ vt)
    rotation = (u * sign[:, None]) @ vt
    scale = (sizes * sign).sum(1) / np.einsum("v,nvi->n", weight, source**2)
    return scale[:, None, None] * source @ rotation.transpose(0, 2, 1) + target_mean


def placed(shape: np.ndarray) -> np.ndarray:
    """A shape (478, 3) brought to the five standard points, so that angle zero means what it does elsewhere."""
    five = np.stack([shape[list(indices)].mean(axis=0) for indices in FIVE_POINTS])
    weight = np.full(5, 0.2)
    moved = align(
        np.concatenate([five, shape])[None],
        np.concatenate([FIVE_POINTS_DM, shape]),
        np.r_[weight, np.zeros(len(shape))],
    )
    return moved[0, 5:]


def mirrored(points: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    """Points (frame, 478, 3) of the mirrored face."""
    return points[:, permutation] * np.array([-1.0, 1.0, 1.0])


def mirror_permutation(faces: Sequence[np.ndarray]) -> np.ndarray:
    """Which point is which in the mirror, int (478,): the best match of the mean face with its mirror image."""
    from scipy.optimize import linear_sum_assignment

    first = placed(faces[0][0])
    weight = np.full(len(first), 1 / len(first))
    mean = placed(np.mean([align(points[:1], first, weight)[0] for points in faces], axis=0))
    for _ in range(ROUNDS):
        flipped = mean * np.array([-1.0, 1.0, 1.0])
        distance = np.linalg.norm(mean[:, None] - flipped[None], axis=-1)
        permutation = linear_sum_assignment(distance)[1]
        symmetric = (mean + align(flipped[permutation][None], mean, weight)[0]) / 2
        mean = placed(symmetric)
    if not np.array_equal(permutation[permutation], np.arange(len(mean))):
        raise UserError("the mean face is too far from symmetric to be matched with its mirror image; use more faces")
    return permutation


def basis_of(shapes: Shapes, name: str, num_identity: int, num_expression: int) -> Basis:
    """PCA of aligned faces; components of unit size, their standard deviations apart. The noise is left at 1."""
    identity, identity_std = _principal(shapes.between(), num_identity, "people, mirrored ones included")
    expression, expression_std = _principal(shapes.within(), num_expression, "frames")
    return Basis(
        name=name,
        mean=shapes.mean.astype(np.float32),
        identity=identity.astype(np.float32),
        identity_std=identity_std.astype(np.float32),
        expression=expression.astype(np.float32),
        expression_std=expression_std.astype(np.float32),
        point=np.arange(NUM_POINTS),
        noise=1.0,
    )


def explained(offsets: np.ndarray, components: np.ndarray) -> float:
    """Share of the variance of ``offsets`` (n, 1434) within the span of ``components`` (k, 478, 3)."""
    axes = np.linalg.qr(components.reshape(len(components), -1).T.astype(np.float64))[0]
    return float(np.square(offsets @ axes).sum() / np.square(offsets).sum())


def jitter(tracks: Sequence[PersonTrack], shapes: Shapes) -> float:
    """Noise of a landmark's coordinate, in dm, from neighbouring frames, between which faces move evenly."""
    moving = [track.points[:FRAMES_A_TRACK] for track in tracks if len(track.points) >= MIN_MOVING]
    aligned = [align(points, shapes.mean, shapes.weight) for points in moving]
    bends = [np.square(points[2:] - 2 * points[1:-1] + points[:-2]).mean(axis=(1, 2)) for points in aligned]
    return float(np.sqrt(np.median(np.concatenate(bends)) / 6))  # 1 + 4 + 1: variance of the bend of white noise


def _principal(offsets: np.ndarray, count: int, of_what: str) -> tuple[np.ndarray, np.ndarray]:
    """Components (count, 478, 3) of `UNIT_DM` and the standard deviations (count,) of their coefficients."""
    if len(offsets) <= count:
        raise UserError(f"{count} components need more than {count} {of_what}, found {len(offsets)}")
    variance, axes = np.linalg.eigh(offsets.T @ offsets / len(offsets))
    unit = UNIT_DM * np.sqrt(NUM_POINTS)  # length of a displacement of UNIT_DM in root mean square
    components = axes[:, ::-1][:, :count].T * unit
    components *= np.sign(components[np.arange(count), np.abs(components).argmax(1)])[:, None]  # as eigh leaves it open
    return components.reshape(-1, NUM_POINTS, 3), np.sqrt(variance[::-1][:count]) / unit


def _taken(tracks: Sequence[PersonTrack]) -> list[PersonTrack]:
    """The frames to learn from, and their mirror images as other people."""
    taken = [replace(track, points=_spread(track.points)) for track in tracks]
    mirror = mirror_permutation([track.points for track in taken])
    return taken + [PersonTrack(f"{track.person} mirrored", mirrored(track.points, mirror)) for track in taken]


def _spread(points: np.ndarray) -> np.ndarray:
    return points[np.unique(np.linspace(0, len(points) - 1, FRAMES_A_TRACK).round().astype(int))]


def _person_means(tracks: Sequence[PersonTrack]) -> dict[str, np.ndarray]:
    means: dict[str, list[np.ndarray]] = {}
    for track in tracks:
        means.setdefault(track.person, []).append(track.points.mean(axis=0))
    return {person: np.mean(shapes, axis=0) for person, shapes in means.items()}


def _stillness(tracks: Sequence[PersonTrack]) -> np.ndarray:
    """Weights (478,) that sum to 1: the inverse of how much a point moves within tracks, at most 4 times the median."""
    moving = [track.points - track.points.mean(axis=0) for track in tracks if len(track.points) >= MIN_MOVING]
    variance = np.square(np.concatenate(moving)).sum(axis=2).mean(axis=0)
    weight = 1 / np.maximum(variance, np.median(variance) / 4)
    return weight / weight.sum()
