"""Identity (CSIM): whether the predicted listener is the same person as the reference.

Conventions
-----------
Embeddings are (frame, dimension); their lengths do not matter, only their directions. Which network makes them, and
whether the face was aligned before, changes the value.

Source
------
``compute_csim.py`` of dc3ea9f/vico_challenge_baseline: frame by frame since commit 16424c0, before that the mean of all
pairs of frames, which the numbers of 2022 use. MFR-Net (MM 2023), section 4.2.1 and Table 2: "cosine similarity" of
VGGFace2 features, with an arrow downwards and values of a distance.
"""

from __future__ import annotations

import numpy as np

from stages.evaluate.metrics.definition import Definition, Direction, Pooling, pair
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


def _csim(id: str, name: str, published_as: str, network: str, formula: str) -> Definition:
    distance = formula.startswith("1 -")
    pairs = formula.endswith("all pairs of frames of a clip")
    return Definition(
        id=id,
        name=name,
        published_as=published_as,
        formula=formula,
        source="MFR-Net (MM 2023), section 4.2.1" if network == "vggface2" else "compute_csim.py of the ViCo baseline",
        unit="",
        scale=1.0,
        pooling=Pooling.FRAMES,
        direction=Direction.LOWER if distance else Direction.HIGHER,
        inputs=pair(network),
        min_frames=1,
        function=cosine_distance if distance else cosine_of_all_pairs if pairs else cosine_similarity,
        perfect=None if pairs else 0.0 if distance else 1.0,
        weights={"arcface": "arcface_r100_ms1mv3", "vggface2": "facenet_vggface2"}[network],
    )


DEFINITIONS = (
    _csim(
        "csim_arcface", "CSIM", "CSIM, ViCo challenge 2023; HSP Table 1", "arcface", "mean over frames of the cosine"
    ),
    _csim(
        "csim_arcface_all_pairs",
        "CSIM (all pairs)",
        "CSIM, ViCo challenge 2022",
        "arcface",
        "mean cosine of all pairs of frames of a clip",
    ),
    _csim("csim_vggface2", "CSIM (VGGFace2)", "", "vggface2", "mean over frames of the cosine"),
    _csim(
        "csim_distance_vggface2",
        "CSIM distance (VGGFace2)",
        "CSIM, MFR-Net Table 2 (lower is better)",
        "vggface2",
        "1 - mean over frames of the cosine",
    ),
    Definition(
        id="identity_cosine_3dmm",
        name="Identity cosine (3DMM)",
        published_as="",
        formula="mean over frames of the cosine of fitted identity coefficients",
        source="this project: the shape of the head alone, no network of recognition",
        unit="",
        scale=1.0,
        pooling=Pooling.FRAMES,
        direction=Direction.HIGHER,
        inputs=pair("identity"),
        min_frames=1,
        function=cosine_similarity,
        perfect=1.0,
        warning="not CSIM: it sees the geometry of the head, neither skin nor hair, and people look alike to it",
    ),
)
