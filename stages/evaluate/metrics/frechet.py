"""Frechet distance between two Gaussians: of coefficients (ExpFD, PoseFD, P-FD) and of Inception features (FID).

``|m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2))`` with covariances that divide by n - 1, in float64.

Conventions: Samples are (sample, dimension); a sample is a frame. Whether frames of all clips are pooled before the
distance is taken, or distances of single clips are averaged, changes the value several times over: the estimate falls
with the number of frames, and for a clip of ViCo's length it measures the sample size more than the motion (two
sequences of the same distribution, 64 dimensions, autocorrelation .95: 4.07 at 90 frames, 1.31 at 1000, .18 at 10 000).

Source: Heusel et al., NeurIPS 2017; Dowson and Landau, J. Multivariate Analysis 1982. Per clip: ``mymetrics.py`` of
Boese0601/Dyadic-Interaction-Modeling. Newton-Schulz: ``fid.py`` of photosynthesis-team/piq, which the challenge ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from stages.evaluate.metrics.definition import Definition, Direction, Pooling, Quantity
from stages.evaluate.metrics.validation import MismatchError, check, check_pair, check_sets

NEWTON_SCHULZ_STEPS = 100
NEWTON_SCHULZ_STOP = 1e-5  # piq's: relative Frobenius error that counts as converged; too early where ill-conditioned


def validate(first: np.ndarray, second: np.ndarray) -> None:
    """Two arrays (sample, dimension) of the same dimension, with at least two samples each."""
    check(first, ndim=2)
    check(second, ndim=2)
    if first.shape[1] != second.shape[1]:
        raise MismatchError(f"expected {second.shape[1]} dimensions as the other set has, found {first.shape[1]}")
    if min(len(first), len(second)) < 2:
        raise ValueError(f"expected two samples or more for a covariance, found {len(first)} and {len(second)}")


def _moments(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (dimension,) and covariance (dimension, dimension) of samples (sample, dimension)."""
    values = samples.astype(np.float64)
    return values.mean(axis=0), np.cov(values, rowvar=False).reshape(values.shape[1], values.shape[1])


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Exact distance of two sets of samples, by symmetric eigenvalues.

    With ``S = C1^(1/2)`` the trace of ``(C1 C2)^(1/2)`` is the sum of the roots of the eigenvalues of ``S C2 S``, which
    are real and not negative at any rank. Roundings in directions without samples make the value of sets with fewer
    samples than dimensions smaller by about 1e-5 of it.
    """
    validate(first, second)
    one, other = _moments(first), _moments(second)
    values, vectors = np.linalg.eigh(one[1])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ other[1] @ root)
    return max(_distance(one, other, float(np.sqrt(np.maximum(eigenvalues, 0)).sum())), 0.0)


def _distance(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], trace_of_root: float) -> float:
    apart = np.square(one[0] - other[0]).sum()
    return float(apart + np.trace(one[1]) + np.trace(other[1]) - 2 * trace_of_root)


def frechet_distance_piq(first: np.ndarray, second: np.ndarray) -> float:
    """The distance as piq computes it: its matrix root stops early, so the value is too large.

    Where covariances are ill-conditioned, as they are with fewer samples than dimensions, by a factor of two and more.
    """
    validate(first, second)
    one, other = _moments(first), _moments(second)
    return _distance(one, other, float(np.trace(newton_schulz_root(one[1] @ other[1]))))


def newton_schulz_root(matrix: np.ndarray) -> np.ndarray:
    """Root of a matrix by the coupled Newton-Schulz iteration, with piq's criterion to stop."""
    size = np.linalg.norm(matrix)
    if size == 0:
        return matrix
    identity = np.eye(len(matrix))
    root, inverse = matrix / size, identity
    for _ in range(NEWTON_SCHULZ_STEPS):
        step = 0.5 * (3 * identity - inverse @ root)
        root, inverse = root @ step, step @ inverse
        found = root * np.sqrt(size)
        if np.linalg.norm(matrix - found @ found) / size <= NEWTON_SCHULZ_STOP:
            break
    return root * np.sqrt(size)


def frechet_pooled(predicted: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """Exact distance of the frames of all clips."""
    check_sets(predicted, reference)
    return frechet_distance(np.concatenate(predicted), np.concatenate(reference))


def frechet_pooled_piq(predicted: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> float:
    """`frechet_distance_piq` of the frames of all clips."""
    check_sets(predicted, reference)
    return frechet_distance_piq(np.concatenate(predicted), np.concatenate(reference))


def frechet_of_clip(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Exact distance of the frames of one clip."""
    check_pair(predicted, reference, ndim=2)
    return frechet_distance(predicted, reference)


def paired_frechet_distance(predicted: np.ndarray, reference: np.ndarray, speaker: np.ndarray) -> float:
    """Exact distance of predicted and reference listener, each beside the speaker of the same frame (P-FD)."""
    check_pair(predicted, reference, ndim=2)
    check_pair(reference, speaker, ndim=2)
    return frechet_distance(np.hstack([predicted, speaker]), np.hstack([reference, speaker]))


_PER_CLIP_WARNING = "grows as clips get shorter: compare only data sets with clips of the same lengths"
_distance_of = partial(Definition, scale=1.0, direction=Direction.LOWER, min_frames=2)


def _coefficients(quantity: Quantity) -> Iterator[Definition]:
    of_parts = partial(_distance_of, inputs=quantity.pair, perfect=0.0)
    yield of_parts(
        id=f"{quantity}fd_frechet_pooled",
        name=f"{str(quantity).title()}FD (Frechet, pooled)",
        published_as="ViCo challenge 2023; HSP Table 1",
        formula=f"Frechet distance of {quantity}, frames of all clips together",
        source="Chang et al., MM 2023 (HSP), section 3",
        pooling=Pooling.DATA_SET,
        function=frechet_pooled,
        warning="published code and pooling are unknown; falls with the number of frames",
    )
    yield of_parts(
        id=f"{quantity}fd_frechet_per_clip",
        name=f"{str(quantity).title()}FD (Frechet, per clip)",
        published_as="FD of Dyadic-Interaction-Modeling",
        formula=f"Frechet distance of {quantity}, mean over clips",
        source="mymetrics.py of Dyadic-Interaction-Modeling",
        pooling=Pooling.CLIPS,
        function=frechet_of_clip,
        warning=_PER_CLIP_WARNING,
    )


def _paired(quantity: Quantity) -> Definition:
    return _distance_of(
        id=f"pfd_{quantity}_frechet_per_clip",
        name=f"P-FD {quantity}",
        published_as="P-FD of Dyadic-Interaction-Modeling",
        formula=f"Frechet distance of {quantity} of listener and speaker side by side, mean over clips",
        source="Ng et al., CVPR 2022; mymetrics.py of Dyadic-Interaction-Modeling",
        pooling=Pooling.CLIPS,
        inputs=(*quantity.pair, quantity.speaker),
        function=paired_frechet_distance,
        perfect=0.0,
        warning=_PER_CLIP_WARNING,
    )


_FID = _distance_of(
    id="fid_exact",
    name="FID",
    formula="Frechet distance of Inception features of the frames of all clips together",
    source="Heusel et al., NeurIPS 2017; compute_fid.py of vico_challenge_baseline; fid.py of piq 0.8",
    pooling=Pooling.DATA_SET,
    inputs=Quantity.INCEPTION.pair,
    function=frechet_pooled,
    perfect=0.0,
    warning="falls with the number of frames; with fewer than 2048 its covariance has no full rank",
)

DEFINITIONS = (
    *_coefficients(Quantity.EXP),
    *_coefficients(Quantity.POSE),
    *(_paired(quantity) for quantity in (Quantity.EXP, Quantity.POSE)),
    _FID,
    replace(
        _FID,
        id="fid_piq",
        name="FID (piq)",
        published_as="ViCo Table 4; ViCo challenge; HSP Table 1",
        formula=f"{_FID.formula}, matrix root by piq's Newton-Schulz iteration",
        function=frechet_pooled_piq,
        perfect=None,
        warning=f"{_FID.warning}; too large where the covariance is ill-conditioned, as then",
    ),
)
