"""Fits a linear morphable model to landmarks: batched Gauss-Newton with priors, identity shared by the clip.

Blanz and Vetter, SIGGRAPH 1999 (maximum a posteriori fit with the variances of the PCA as prior), for the scaled-
orthographic camera of MediaPipe's points. In a frame the points are ``p = scale M (shape - centre) + mean(p)`` plus
noise of equal size in all three coordinates. So translation drops out by centring, and data enter only through their
3x3 cross-moments with the components of the basis, computed once a clip: the iterations never touch the points again,
and the Gram matrix of expressions is factorised once for all frames.

All of it is float64: the steps end before the weakest directions of the basis have settled, and carry rounding into
them a million times enlarged. In float32 an expression moved by up to .05 with the order in which a processor, or a
batch, adds; now it is the same to the last digit of its float32 column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.morphable.basis import Basis
from stages.morphable.camera import Placement
from stages.morphable.rotation import angles_of, small_rotation

ROUNDS = 3  # of identity; pose and expression take STEPS Gauss-Newton steps in each
STEPS = 2
MAX_STEP_RAD = 0.5  # a longer turn in one step is cut to this: only frames far from any face take one


@dataclass(frozen=True)
class Track:
    """One face in one clip: points float32 (frame, 478, 3) as the landmark columns have them, valid bool (frame,)."""

    points: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Fit:
    """Coefficients of one track; the placement has y up but counted from the picture's upper border, hence negative.

    The error is the mean distance of the model's points from the landmarks, in the picture plane, as a share of the
    diagonal of the landmarks' box.
    """

    identity: Tensor  # (80,)
    expression: Tensor  # (frame, 64)
    angle: Tensor  # (frame, 3) in rad
    placement: Placement
    error: Tensor  # (frame,)


@dataclass
class _State:
    """What the iterations move."""

    rotation: Tensor  # (frame, 3, 3)
    scale: Tensor  # (frame,)
    identity: Tensor  # (track, 80)
    expression: Tensor  # (frame, 64)


@dataclass(frozen=True)
class _Batch:
    """Frames of all tracks in one row, and their moments with the basis."""

    centred: Tensor  # (frame, point, 3) around the mean
    mean: Tensor  # (frame, 3)
    owner: Tensor  # int (frame,), the track of a frame
    share: Tensor  # (frame,), weight of a frame in the mean of its track: 0 where not valid, 1 in sum for a track
    num_valid: Tensor  # (track,)
    moments: Tensor  # (frame, 1 + 80 + 64, 3, 3), of mean shape and components with the points: mean of b p'
    neighbours: Tensor  # int (2, frame), the frames before and after in the same track; ends are their own


class LandmarkFitter:
    """The fitter for one basis on one device.

    The smoothness is the weight of the differences of neighbouring frames' expression, in their standard deviations,
    against the prior's weight of the expression itself; 0 fits every frame by itself.
    """

    def __init__(self, basis: Basis, device: str = "cpu", smoothness: float = 0.0) -> None:
        self.point = torch.as_tensor(basis.point, device=device)
        shapes = np.concatenate([basis.mean[None], basis.identity, basis.expression]).astype(np.float64)
        self.centre = torch.as_tensor(shapes.mean(1), device=device)  # (145, 3)
        centred = shapes - shapes.mean(1, keepdims=True)
        products = np.einsum("kvi,lvj->klij", centred, centred, optimize=True) / len(basis.mean)
        gram = np.trace(products, axis1=2, axis2=3)
        ridge = basis.noise**2 / len(basis.mean) / np.concatenate([basis.identity_std, basis.expression_std]) ** 2
        self.shapes = torch.as_tensor(centred, device=device)  # (145, point, 3)
        self.products = torch.as_tensor(products, device=device)  # (145, 145, 3, 3)
        self.num_identity = len(basis.identity)
        own = slice(1 + self.num_identity, None)
        self.ridge = torch.as_tensor(ridge[self.num_identity :], device=device)
        self.coupling = smoothness * self.ridge
        stiff = gram[own, own] + np.diag(ridge[self.num_identity :] * (1 + 2 * smoothness))
        self.inverse = torch.as_tensor(np.linalg.inv(stiff), device=device)  # (64, 64)
        self.gram = torch.as_tensor(gram, device=device)  # (145, 145)
        self.whole_ridge = torch.as_tensor(ridge, device=device)  # (144,)

    @torch.inference_mode()
    def fit(self, tracks: Sequence[Track]) -> list[Fit]:
        """Fits of all tracks, which share nothing but the time it takes.

        Each has at least one valid frame, and in its valid frames every point is finite.
        """
        batch = self._batch(tracks)
        state = self._start(batch, len(tracks))
        for _ in range(ROUNDS):
            self._identify(batch, state)
            for _ in range(STEPS):
                self._step(batch, state)
        return self._fits(batch, state, [len(track.valid) for track in tracks])

    def _batch(self, tracks: Sequence[Track]) -> _Batch:
        lengths = [len(track.valid) for track in tracks]
        device = self.shapes.device
        points = np.concatenate([filled(track) for track in tracks])
        upright = torch.from_numpy(points).to(device)[:, self.point].double() * self.point.new_tensor([1, -1, -1])
        mean = upright.mean(1)
        centred = upright - mean[:, None]
        moments = torch.einsum("kvi,tvj->tkij", self.shapes, centred) / len(self.point)
        share = np.concatenate([track.valid / max(1, track.valid.sum()) for track in tracks])
        starts = np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
        stops = np.repeat(np.cumsum(lengths), lengths)
        frame = np.arange(len(points))
        neighbours = np.stack([np.maximum(frame - 1, starts), np.minimum(frame + 1, stops - 1)])
        return _Batch(
            centred,
            mean,
            torch.from_numpy(np.repeat(np.arange(len(tracks)), lengths)).to(device),
            torch.from_numpy(share).to(device),
            torch.tensor([float(track.valid.sum()) for track in tracks], dtype=torch.float64, device=device),
            moments,
            torch.from_numpy(neighbours).to(device),
        )

    def _start(self, batch: _Batch, num_tracks: int) -> _State:
        """The mean face turned onto every frame (Umeyama, PAMI 1991)."""
        u, sizes, vt = torch.linalg.svd(batch.moments[:, 0].mT)
        sign = torch.ones_like(sizes)
        sign[:, 2] = torch.linalg.det(u @ vt)
        scale = (sizes * sign).sum(1) / self.products[0, 0].trace()
        still = (batch.moments.new_zeros(size) for size in ((num_tracks, self.num_identity), (len(u), len(self.ridge))))
        return _State((u * sign[:, None]) @ vt, scale, *still)

    def _identify(self, batch: _Batch, state: _State) -> None:
        """Identity from the mean of a track's frames in the model's axes, beside the mean expression.

        Of n frames whose expressions follow the prior one by one, the mean has an n-th of its variance: a face that is
        held throughout a clip belongs to its identity.
        """
        turned = state.rotation / state.scale[:, None, None]
        seen = torch.einsum("tkij,tji->tk", batch.moments[:, 1:], turned)
        mean = seen.new_zeros(len(state.identity), seen.shape[1])
        mean.index_add_(0, batch.owner, seen * batch.share[:, None])
        ridge = self.whole_ridge.expand(len(mean), -1).clone()
        ridge[:, : self.num_identity] /= batch.num_valid[:, None]
        stiff = self.gram[1:, 1:] + torch.diag_embed(ridge)
        found = torch.linalg.solve(stiff, mean - self.gram[1:, 0])
        state.identity = found[:, : self.num_identity]

    def _step(self, batch: _Batch, state: _State) -> None:
        """One Gauss-Newton step of rotation, scale and expression of every frame, with identity held."""
        own = slice(1 + self.num_identity, None)
        person = torch.cat([torch.ones_like(state.identity[:, :1]), state.identity], 1)  # (track, 81)
        whole = torch.cat([person[batch.owner], state.expression], 1)  # (frame, 145)
        with_shape = torch.einsum("klij,tl->tkij", self.products[own], whole)  # components times shape
        own_shape = self._shape_moment(person, batch.owner, state.expression, with_shape)
        seen = batch.moments @ (state.rotation / state.scale[:, None, None])[:, None]
        residual = seen[:, own] - with_shape  # (frame, 64, 3, 3)
        shape_residual = torch.einsum("tk,tkij->tij", whole, seen) - own_shape
        pull = residual.diagonal(dim1=2, dim2=3).sum(2) - self.ridge * state.expression
        for neighbour in batch.neighbours:
            pull = pull + self.coupling * (state.expression[neighbour] - state.expression)
        cross = _turns_and_scale(with_shape.mT)  # (frame, 64, 4)
        solved = torch.einsum("kl,tlm->tkm", self.inverse, torch.cat([cross, pull[..., None]], 2))
        normal = _turn_gram(own_shape) - cross.mT @ solved[..., :4]
        right = _turns_and_scale(shape_residual) - (cross.mT @ solved[..., 4:])[..., 0]
        move = torch.linalg.solve_ex(normal, right).result  # (frame, 4); not finite where there is no solution
        state.expression = state.expression + solved[..., 4] - (solved[..., :4] @ move[..., None])[..., 0]
        length = move[:, :3].norm(dim=1, keepdim=True).clamp(min=MAX_STEP_RAD)
        state.rotation = state.rotation @ small_rotation(move[:, :3] * (MAX_STEP_RAD / length))
        state.scale = state.scale * move[:, 3].clamp(-0.5, 0.5).exp()

    def _shape_moment(self, person: Tensor, owner: Tensor, expression: Tensor, with_shape: Tensor) -> Tensor:
        """Mean over points of shape times shape, (frame, 3, 3)."""
        split = 1 + self.num_identity
        neutral = torch.einsum("nk,klij,nl->nij", person, self.products[:split, :split], person)
        mixed = torch.einsum("nk,klij->nlij", person, self.products[:split, split:])
        moved = torch.einsum("tk,tkij->tij", expression, mixed[owner])
        return neutral[owner] + moved + torch.einsum("tk,tkij->tij", expression, with_shape)

    def _fits(self, batch: _Batch, state: _State, lengths: list[int]) -> list[Fit]:
        person = torch.cat([torch.ones_like(state.identity[:, :1]), state.identity], 1)
        whole = torch.cat([person[batch.owner], state.expression], 1)
        turned = state.rotation * state.scale[:, None, None]
        origin = batch.mean - (turned @ (whole @ self.centre)[..., None])[..., 0]
        shape = (whole @ self.shapes.flatten(1)).unflatten(1, (-1, 3))
        distance = (shape @ turned.mT - batch.centred)[..., :2].norm(dim=2).mean(1)
        diagonal = (batch.centred.amax(1) - batch.centred.amin(1))[:, :2].norm(dim=1)
        columns = (state.expression, angles_of(state.rotation), state.scale, origin[:, :2], distance / diagonal)
        parts = zip(state.identity, *(column.split(lengths) for column in columns), strict=True)
        return [Fit(a, e, angle, Placement(scale, o), error) for a, e, angle, scale, o, error in parts]


def filled(track: Track) -> np.ndarray:
    """Points (frame, 478, 3) whose missing frames are interpolated in time, for the solver only."""
    if track.valid.all():
        return track.points
    frames, seen = np.arange(len(track.valid)), np.flatnonzero(track.valid)
    after = np.searchsorted(seen, frames).clip(max=len(seen) - 1)
    before = np.where(seen[after] == frames, after, (after - 1).clip(min=0))
    before = np.where(frames > seen[-1], len(seen) - 1, before)
    first, second = seen[before], seen[after]
    share = ((frames - first) / np.maximum(second - first, 1)).astype(np.float32)[:, None, None]
    return track.points[first] * (1 - share) + track.points[second] * share


def _turns_and_scale(moments: Tensor) -> Tensor:
    """(..., 4) from moments x y' (..., 3, 3): the mean of x cross y, and of x times y."""
    m = moments
    turns = [m[..., 1, 2] - m[..., 2, 1], m[..., 2, 0] - m[..., 0, 2], m[..., 0, 1] - m[..., 1, 0]]
    return torch.stack([*turns, m.diagonal(dim1=-2, dim2=-1).sum(-1)], -1)


def _turn_gram(moment: Tensor) -> Tensor:
    """Normal matrix (frame, 4, 4) of turning and scaling a shape with this moment (frame, 3, 3)."""
    eye = torch.eye(3, dtype=moment.dtype, device=moment.device)
    trace = moment.diagonal(dim1=1, dim2=2).sum(1)
    gram = moment.new_zeros(len(moment), 4, 4)
    gram[:, :3, :3] = trace[:, None, None] * eye - moment
    gram[:, 3, 3] = trace
    return gram
