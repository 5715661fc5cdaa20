"""Variety: how much a listener moves (V-D) and how many different things it does (SI-D).

Conventions
-----------
Coefficients are (frame, dimension). Both are properties of one data set; the reference's own value is the goal.

Source
------
Ng et al., "Learning to Listen", CVPR 2022; Song et al., ICCV 2023 (ELP), section 4.1. V-D circulates in
three definitions: ``mymetrics.py`` and ``eval_utils.py`` of Boese0601/Dyadic-Interaction-Modeling, and
``evaluate_listener.py`` of sanjayss34/lm-listener. SI-D: ``eval_utils.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np

from stages.evaluate.metrics.definition import PREDICTED, Definition, Direction, Pooling, pair
from stages.evaluate.metrics.validation import MismatchError, check, check_sets

LOG_FLOOR = 1e-6  # inside the logarithm of SI-D, as published; one cluster gives -1.4e-6 and not 0
SI_D_PRESETS = {  # quantity, number of clusters -> who publishes numbers with it
    ("exp", 40): "SI-D of Dyadic-Interaction-Modeling",
    ("pose", 20): "SI-D of Dyadic-Interaction-Modeling",
    ("exp", 15): "SI-D of Learning to Listen",
    ("pose", 9): "SI-D of Learning to Listen",
}


def validate(clips: Sequence[np.ndarray]) -> None:
    """Clips (frame, dimension) of the same dimension."""
    for clip in clips:
        check(clip, ndim=2)
        if clip.shape[1] != clips[0].shape[1]:
            raise MismatchError(f"expected {clips[0].shape[1]} dimensions as in the first clip, found {clip.shape[1]}")


def flat_variance(clips: Sequence[np.ndarray]) -> float:
    """Variance of all values of all frames and dimensions: differences between dimensions' means count as well."""
    validate(clips)
    return float(np.concatenate(clips).astype(np.float64).var())


def summed_variance(clips: Sequence[np.ndarray]) -> float:
    """Sum over dimensions of the variance over the frames of all clips."""
    validate(clips)
    return float(np.concatenate(clips).astype(np.float64).var(axis=0).sum())


def mean_variance(clip: np.ndarray) -> float:
    """Mean over dimensions of the variance along the time of one clip."""
    validate([clip])
    return float(clip.astype(np.float64).var(axis=0).mean())


def cluster_entropy(predicted: Sequence[np.ndarray], reference: Sequence[np.ndarray], k: int) -> float:
    """SI-D in bit: entropy of how often each of the reference's k clusters is the nearest to a predicted frame."""
    check_sets(predicted, reference)
    return entropy_in_clusters(predicted, reference, k)


def entropy_in_clusters(predicted: Sequence[np.ndarray], reference: Sequence[np.ndarray], k: int) -> float:
    """`cluster_entropy` of any clips, such as those that a bootstrap draws, in the clusters of others."""
    validate([*predicted, *reference])
    centres = cluster_centres(np.concatenate(reference).astype(np.float64), k)
    return entropy_bit(nearest(np.concatenate(predicted).astype(np.float64), centres), k)


def cluster_centres(frames: np.ndarray, k: int) -> np.ndarray:
    """Centres (cluster, dimension) of k-means as the published code calls it; the same frames are clustered once."""
    if len(frames) < k:
        raise ValueError(f"expected at least {k} frames for {k} clusters, found {len(frames)}")
    return _cluster(np.ascontiguousarray(frames, np.float64).tobytes(), frames.shape[1], k)


@lru_cache(maxsize=4 * len(SI_D_PRESETS))  # test and ood, of all attitudes and of each
def _cluster(frames: bytes, dimensions: int, k: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    values = np.frombuffer(frames).reshape(-1, dimensions)
    return KMeans(n_clusters=k, random_state=0, n_init="auto").fit(values).cluster_centers_


def nearest(frames: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Number of the nearest centre for every frame."""
    squares = np.square(centres).sum(axis=1) - 2 * frames @ centres.T
    return squares.argmin(axis=1)


def entropy_bit(labels: np.ndarray, k: int) -> float:
    """Entropy of labels 0 to k - 1, with the published floor inside the logarithm; at most log2 k."""
    share = np.bincount(labels, minlength=k) / len(labels)
    return float(-(share * np.log2(share + LOG_FLOOR)).sum())


def _v_d(quantity: str, kind: str) -> Definition:
    formula, pooling, function, source = {
        "flat": ("all values of all clips as one sequence", Pooling.DATA_SET, flat_variance, "mymetrics.py"),
        "sum": ("the sum over dimensions, all clips together", Pooling.DATA_SET, summed_variance, "eval_utils.py"),
        "per_clip": ("mean over dimensions, mean over clips", Pooling.CLIPS, mean_variance, "evaluate_listener.py"),
    }[kind]
    code = "sanjayss34/lm-listener" if kind == "per_clip" else "Boese0601/Dyadic-Interaction-Modeling"
    return Definition(
        id=f"vd_{quantity}_{kind}",
        name=f"V-D {quantity} ({kind.replace('_', ' ')})",
        published_as=f"Var of {code}",
        formula=f"variance of {quantity}: {formula}",
        source=f"Ng et al., CVPR 2022; {source} of {code}",
        unit="",
        scale=1.0,
        pooling=pooling,
        direction=Direction.REFERENCE,
        inputs=(f"{PREDICTED}.{quantity}",),
        min_frames=2,
        function=function,
        perfect=None,
        warning="one of three definitions in circulation; ELP does not say which it prints",
    )


def si_d(quantity: str, k: int, published_as: str) -> Definition:
    """SI-D with k clusters; `SI_D_PRESETS` are those with published numbers."""
    return Definition(
        id=f"sid_{quantity}_k{k}",
        name=f"SI-D {quantity} (k={k})",
        published_as=published_as,
        formula=f"entropy in bit of the nearest of {k} clusters of the reference's {quantity}, frames of all clips",
        source="Ng et al., CVPR 2022; eval_utils.py of Boese0601/Dyadic-Interaction-Modeling",
        unit="bit",
        scale=1.0,
        pooling=Pooling.DATA_SET,
        direction=Direction.REFERENCE,
        inputs=pair(quantity),
        min_frames=k,
        function=partial(cluster_entropy, k=k),
        perfect=None,
        unpaired=partial(entropy_in_clusters, k=k),
        warning=f"cannot exceed log2({k}) = {np.log2(k):.2f}",
    )


DEFINITIONS = (
    *(_v_d(quantity, kind) for quantity in ("exp", "pose") for kind in ("flat", "sum", "per_clip")),
    *(si_d(quantity, k, published_as) for (quantity, k), published_as in SI_D_PRESETS.items()),
)
