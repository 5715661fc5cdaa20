"""Variety: how much a listener moves (V-D, diversity), how many things it does (SI-D), how far its answers lie apart.

Conventions: Coefficients and embeddings are (frame, dimension), several samples of them (frame, sample, dimension). All
are properties of one data set. A still listener has none; noise has a lot: the reference's own value is the goal.

Source: Ng et al., "Learning to Listen", CVPR 2022; Song et al., ICCV 2023 (ELP), section 4.1. FDD: Xing et al.,
"CodeTalker", CVPR 2023. V-D circulates in three
definitions: ``mymetrics.py`` and ``eval_utils.py`` of Boese0601/Dyadic-Interaction-Modeling, and
``evaluate_listener.py`` of sanjayss34/lm-listener. SI-D: ``eval_utils.py``. Diversity: Zhang et al., "SadTalker", CVPR
2023, whose method MFR-Net (MM 2023, section 4.2.1) follows: "standard deviation of the head motion feature embeddings
extracted from the generated frames using Hopenet". Neither published the code; that the embeddings are the pooled
features before Hopenet's three heads is our reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial

import numpy as np

from stages.evaluate.metrics.definition import Definition, Direction, Pooling, Quantity
from stages.evaluate.metrics.validation import MismatchError, check, check_pair, check_sets

LOG_FLOOR = 1e-6  # inside the logarithm of SI-D, as published; one cluster gives -1.4e-6 and not 0
SI_D_PRESETS = {  # quantity, number of clusters -> who publishes numbers with it
    (Quantity.EXP, 40): "SI-D of Dyadic-Interaction-Modeling",
    (Quantity.POSE, 20): "SI-D of Dyadic-Interaction-Modeling",
    (Quantity.EXP, 15): "SI-D of Learning to Listen",
    (Quantity.POSE, 9): "SI-D of Learning to Listen",
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


def spread(embeddings: Sequence[np.ndarray]) -> float:
    """Standard deviation over all frames, mean over dimensions."""
    validate(embeddings)
    return float(np.concatenate(embeddings).astype(np.float64).std(axis=0).mean())


def sample_spread(samples: np.ndarray) -> float:
    """Standard deviation over samples (frame, sample, dimension), mean over frames and dimensions."""
    check(samples, ndim=3)
    return float(samples.astype(np.float64).std(axis=1).mean())


def dynamics_difference(predicted: np.ndarray, reference: np.ndarray) -> float:
    """FDD of one clip: how much the deviation along time of the numbers' squares differs, mean over dimensions."""
    check_pair(predicted, reference, ndim=2)
    moved = [np.square(clip.astype(np.float64)).std(axis=0) for clip in (reference, predicted)]
    return float(abs((moved[0] - moved[1]).mean()))


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


_property = partial(Definition, scale=1.0, min_frames=2, perfect=None)
_DIM, _LML = "Boese0601/Dyadic-Interaction-Modeling", "sanjayss34/lm-listener"
_V_D = (  # end of the id, what is averaged, pooling, function, file and code
    ("flat", "all values of all clips as one sequence", Pooling.DATA_SET, flat_variance, "mymetrics.py", _DIM),
    ("sum", "the sum over dimensions, all clips together", Pooling.DATA_SET, summed_variance, "eval_utils.py", _DIM),
    ("per_clip", "mean over dimensions, mean over clips", Pooling.CLIPS, mean_variance, "evaluate_listener.py", _LML),
)


def _v_d(quantity: Quantity) -> Iterator[Definition]:
    for kind, formula, pooling, function, file, code in _V_D:
        yield _property(
            id=f"vd_{quantity}_{kind}",
            name=f"V-D {quantity} ({kind.replace('_', ' ')})",
            published_as=f"Var of {code}",
            formula=f"variance of {quantity}: {formula}",
            source=f"Ng et al., CVPR 2022; {file} of {code}",
            pooling=pooling,
            direction=Direction.REFERENCE,
            inputs=(quantity.predicted,),
            function=function,
            warning="one of three definitions in circulation; ELP does not say which it prints",
        )


def si_d(quantity: Quantity, k: int, published_as: str) -> Definition:
    """SI-D with k clusters; `SI_D_PRESETS` are those with published numbers."""
    return _property(
        id=f"sid_{quantity}_k{k}",
        name=f"SI-D {quantity} (k={k})",
        published_as=published_as,
        formula=f"entropy in bit of the nearest of {k} clusters of the reference's {quantity}, frames of all clips",
        source=f"Ng et al., CVPR 2022; eval_utils.py of {_DIM}",
        unit="bit",
        pooling=Pooling.DATA_SET,
        direction=Direction.REFERENCE,
        inputs=quantity.pair,
        min_frames=k,
        function=partial(cluster_entropy, k=k),
        unpaired=partial(entropy_in_clusters, k=k),
        warning=f"cannot exceed log2({k}) = {np.log2(k):.2f}",
    )


def _diversity(quantity: Quantity, *, id: str, published_as: str = "", unit: str = "") -> Definition:
    return _property(
        id=id,
        name=f"Diversity ({quantity})",
        published_as=published_as,
        formula=f"standard deviation of {quantity} over all generated frames, mean over dimensions",
        source="Zhang et al., CVPR 2023 (SadTalker); MFR-Net (MM 2023), section 4.2.1",
        unit=unit,
        pooling=Pooling.DATA_SET,
        direction=Direction.HIGHER,
        inputs=(quantity.predicted,),
        function=spread,
        warning="noise is diverse: compare with the reference's own value",
    )


def _sample_spread(quantity: Quantity, samples: Quantity) -> Definition:
    return _property(
        id=f"sample_spread_{quantity}",
        name=f"Spread of samples ({quantity})",
        formula=f"standard deviation of {quantity} over the samples of a clip, frame by frame, mean over dimensions",
        source="this project",
        pooling=Pooling.FRAMES,
        direction=Direction.HIGHER,
        inputs=(samples.predicted,),
        min_frames=1,
        function=sample_spread,
        warning="noise spreads too, and there is one truth a clip to compare with, which has no spread",
    )


def _fdd(quantity: Quantity) -> Definition:
    return Definition(
        id=f"fdd_{quantity}_squared",
        name=f"FDD {quantity} (absolute)",
        formula=f"|mean over dimensions of {quantity} of the difference of std along time of the numbers' squares|, "
        "mean over clips",
        source="Xing et al., CVPR 2023 (CodeTalker), section 4.1; cal_metric.py of Doubiiu/CodeTalker",
        scale=1.0,
        pooling=Pooling.CLIPS,
        direction=Direction.LOWER,
        inputs=quantity.pair,
        min_frames=2,
        function=dynamics_difference,
        perfect=0.0,
        warning="the paper's is of the upper face's vertices less a neutral face's, with a sign: here dimensions stand "
        "for vertices, and 0 for neutral",
    )


DEFINITIONS = (
    *_v_d(Quantity.EXP),
    *_v_d(Quantity.POSE),
    *(si_d(quantity, k, published_as) for (quantity, k), published_as in SI_D_PRESETS.items()),
    _diversity(Quantity.HOPENET, id="diversity_hopenet", published_as="Diversity, MFR-Net Table 2"),
    _diversity(Quantity.ANGLE, id="diversity_fitted_angle", unit="rad"),
    _sample_spread(Quantity.EXP, Quantity.EXP_SAMPLES),
    _sample_spread(Quantity.POSE, Quantity.POSE_SAMPLES),
    _fdd(Quantity.EXP),
)
