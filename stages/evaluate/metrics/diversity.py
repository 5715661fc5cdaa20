"""Diversity: how different the poses of generated heads are, and how far apart several answers to one speaker lie.

Conventions
-----------
Embeddings are (frame, dimension). A still listener has no spread; one that always answers the same has no spread of
samples, which are (frame, sample, dimension).

Source
------
Zhang et al., "SadTalker", CVPR 2023, whose method MFR-Net (MM 2023, section 4.2.1) follows: "standard
deviation of the head motion feature embeddings extracted from the generated frames using Hopenet". Neither published
the code; that the embeddings are the pooled features before Hopenet's three heads is our reading.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.evaluate.metrics.definition import PREDICTED, Definition, Direction, Pooling
from stages.evaluate.metrics.validation import MismatchError, check


def validate(embeddings: Sequence[np.ndarray]) -> None:
    """Clips (frame, dimension) of the same dimension."""
    for clip in embeddings:
        check(clip, ndim=2)
        if clip.shape[1] != embeddings[0].shape[1]:
            raise MismatchError(f"expected {embeddings[0].shape[1]} dimensions, found {clip.shape[1]}")


def spread(embeddings: Sequence[np.ndarray]) -> float:
    """Standard deviation over all frames, mean over dimensions."""
    validate(embeddings)
    return float(np.concatenate(embeddings).astype(np.float64).std(axis=0).mean())


def sample_spread(samples: np.ndarray) -> float:
    """Standard deviation over samples (frame, sample, dimension), mean over frames and dimensions."""
    check(samples, ndim=3)
    return float(samples.astype(np.float64).std(axis=1).mean())


def _diversity(id: str, quantity: str, published_as: str, weights: str, unit: str) -> Definition:
    return Definition(
        id=id,
        name=f"Diversity ({quantity})",
        published_as=published_as,
        formula=f"standard deviation of {quantity} over all generated frames, mean over dimensions",
        source="Zhang et al., CVPR 2023 (SadTalker); MFR-Net (MM 2023), section 4.2.1",
        unit=unit,
        scale=1.0,
        pooling=Pooling.DATA_SET,
        direction=Direction.HIGHER,
        inputs=(f"{PREDICTED}.{quantity}",),
        min_frames=2,
        function=spread,
        perfect=None,
        weights=weights,
        warning="noise is diverse: compare with the reference's own value",
    )


def _sample_spread(quantity: str) -> Definition:
    return Definition(
        id=f"sample_spread_{quantity}",
        name=f"Spread of samples ({quantity})",
        published_as="",
        formula=f"standard deviation of {quantity} over the samples of a clip, frame by frame, mean over dimensions",
        source="this project",
        unit="",
        scale=1.0,
        pooling=Pooling.FRAMES,
        direction=Direction.HIGHER,
        inputs=(f"{PREDICTED}.{quantity}_samples",),
        min_frames=1,
        function=sample_spread,
        perfect=None,
        warning="noise spreads too, and there is one truth a clip to compare with, which has no spread",
    )


DEFINITIONS = (
    _diversity("diversity_hopenet", "hopenet", "Diversity, MFR-Net Table 2", weights="hopenet_robust_alpha1", unit=""),
    _diversity("diversity_fitted_angle", "angle", "", weights="", unit="rad"),
    _sample_spread("exp"),
    _sample_spread("pose"),
)
