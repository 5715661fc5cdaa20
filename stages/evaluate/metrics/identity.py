"""Identity (CSIM): whether the predicted listener is the same person as the reference.

Conventions: Embeddings are (frame, dimension); their lengths do not matter, only their directions. Which network makes
them, and whether the face was aligned before, changes the value.

Source: ``compute_csim.py`` of dc3ea9f/vico_challenge_baseline: frame by frame since commit 16424c0, before that the
mean of all pairs of frames, which the numbers of 2022 use. MFR-Net (MM 2023), section 4.2.1 and Table 2: "cosine
similarity" of VGGFace2 features, with an arrow downwards and values of a distance.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from stages.evaluate.metrics.definition import Definition, Direction, Pooling, Quantity
from stages.evaluate.metrics.validation import check_pair


def validate(predicted: np.ndarray, reference: np.ndarray) -> None:
    """Two arrays (frame, dimension) of the same shape, none of whose rows is 0."""
    check_pair(predicted, reference, ndim=2)
    if not (predicted.any(axis=1).all() and reference.any(axis=1).all()):
        raise ValueError("expected embeddings with a direction, found one that is 0 in every dimension")


def cosine_similarity(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Mean over frames of the cosine between the two embeddings of a frame."""
    validate(predicted, reference)
    return float((_unit(predicted) * _unit(reference)).sum(axis=1).mean())


def cosine_distance(predicted: np.ndarray, reference: np.ndarray) -> float:
    """1 - `cosine_similarity`."""
    return 1 - cosine_similarity(predicted, reference)


def cosine_of_all_pairs(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Mean cosine between every predicted and every reference frame of a clip."""
    validate(predicted, reference)
    return float(_unit(predicted).mean(axis=0) @ _unit(reference).mean(axis=0))


def _unit(embeddings: np.ndarray) -> np.ndarray:
    values = embeddings.astype(np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


_cosine = partial(Definition, scale=1.0, pooling=Pooling.FRAMES, min_frames=1)
_of_frames = partial(_cosine, direction=Direction.HIGHER, function=cosine_similarity, perfect=1.0)
_OF_FRAMES = "mean over frames of the cosine"
_VICO, _MFR = "compute_csim.py of the ViCo baseline", "MFR-Net (MM 2023), section 4.2.1"

DEFINITIONS = (
    _of_frames(
        id="csim_arcface",
        name="CSIM",
        published_as="CSIM, ViCo challenge 2023; HSP Table 1",
        formula=_OF_FRAMES,
        source=_VICO,
        inputs=Quantity.ARCFACE.pair,
    ),
    _cosine(
        id="csim_arcface_all_pairs",
        name="CSIM (all pairs)",
        published_as="CSIM, ViCo challenge 2022",
        formula="mean cosine of all pairs of frames of a clip",
        source=_VICO,
        direction=Direction.HIGHER,
        inputs=Quantity.ARCFACE.pair,
        function=cosine_of_all_pairs,
        perfect=None,
    ),
    _of_frames(
        id="csim_vggface2", name="CSIM (VGGFace2)", formula=_OF_FRAMES, source=_MFR, inputs=Quantity.VGGFACE2.pair
    ),
    _cosine(
        id="csim_distance_vggface2",
        name="CSIM distance (VGGFace2)",
        published_as="CSIM, MFR-Net Table 2 (lower is better)",
        formula=f"1 - {_OF_FRAMES}",
        source=_MFR,
        direction=Direction.LOWER,
        inputs=Quantity.VGGFACE2.pair,
        function=cosine_distance,
        perfect=0.0,
    ),
    _of_frames(
        id="identity_cosine_3dmm",
        name="Identity cosine (3DMM)",
        formula=f"{_OF_FRAMES} of fitted identity coefficients",
        source="this project: the shape of the head alone, no network of recognition",
        inputs=Quantity.IDENTITY.pair,
        warning="not CSIM: it sees the geometry of the head, neither skin nor hair, and people look alike to it",
    ),
)
