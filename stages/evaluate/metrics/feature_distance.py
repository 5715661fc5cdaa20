"""Feature distance: how far predicted coefficients lie from the reference, frame by frame.

Conventions
-----------
Coefficients are (frame, dimension), raw: neither normalised nor whitened; frame t is compared with frame t. The value
depends on the fitter whose coefficients they are.

Source
------
Zhou et al., "Responsive Listening Head Generation", ECCV 2022, section 5.3 and Table 3; the author's answer in issue 15
of dc3ea9f/vico_challenge_baseline; Song et al., "Emotional Listener Portrait", ICCV 2023, section 4.1.
"""

from __future__ import annotations

import numpy as np

from stages.evaluate.metrics.definition import Definition, Direction, Pooling, pair
from stages.evaluate.metrics.validation import check_pair

_ECCV2022 = "Zhou et al., ECCV 2022 (ViCo), Table 3"
_ELP = "Song et al., ICCV 2023 (ELP), section 4.1: 'the L2 distance', although it is called Frechet distance"


def validate(predicted: np.ndarray, reference: np.ndarray) -> None:
    """Two arrays (frame, dimension) of the same shape."""
    check_pair(predicted, reference, ndim=2)


def mean_absolute_difference(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Mean of ``|predicted - reference|`` over frames and dimensions."""
    validate(predicted, reference)
    return float(np.abs(predicted.astype(np.float64) - reference).mean())


def mean_squared_difference(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Mean of ``(predicted - reference)^2`` over frames and dimensions."""
    validate(predicted, reference)
    return float(np.square(predicted.astype(np.float64) - reference).mean())


def mean_euclidean_distance(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Mean over frames of the Euclidean norm of ``predicted - reference``."""
    validate(predicted, reference)
    return float(np.linalg.norm(predicted.astype(np.float64) - reference, axis=1).mean())


def _l1(id: str, name: str, published_as: str, quantity: str, scale: float) -> Definition:
    return Definition(
        id=id,
        name=name,
        published_as=published_as,
        formula=f"mean of |predicted - reference| over frames and dimensions of {quantity}, times {scale:g}",
        source=f"{_ECCV2022}; issue 15 of dc3ea9f/vico_challenge_baseline",
        unit="",
        scale=scale,
        pooling=Pooling.FRAMES,
        direction=Direction.LOWER,
        inputs=pair(quantity),
        min_frames=1,
        function=mean_absolute_difference,
        perfect=0.0,
    )


def _l2(quantity: str, norm: bool) -> Definition:
    formula = "mean over frames of the Euclidean norm" if norm else "mean over frames and dimensions of the square"
    return Definition(
        id=f"fd_{quantity}_elp_{'norm' if norm else 'squared'}",
        name=f"FD {quantity} (ELP, {'norm' if norm else 'squared'})",
        published_as="FD x10^3, ELP Table 1",
        formula=f"{formula} of predicted - reference, times 1000",
        source=_ELP,
        unit="",
        scale=1000.0,
        pooling=Pooling.FRAMES,
        direction=Direction.LOWER,
        inputs=pair(quantity),
        min_frames=1,
        function=mean_euclidean_distance if norm else mean_squared_difference,
        perfect=0.0,
        warning="the paper gives no formula: this is one of two readings, of coefficients that are not the paper's",
    )


DEFINITIONS = (
    *(
        _l1(f"fd_{quantity}_eccv2022", f"FD {quantity}", "FD x100, ViCo Table 3, MFR-Net Table 1", quantity, 100.0)
        for quantity in ("angle", "exp", "trans")
    ),
    *(
        _l1(f"{quantity}fd_l1_2022", f"{quantity.title()}FD (2022, L1)", "ViCo challenge 2022", quantity, 1.0)
        for quantity in ("angle", "exp", "trans")
    ),
    _l1("expl1_2023", "ExpL1", "ViCo challenge 2023; HSP Table 1", "exp", 1.0),
    _l1("posel1_2023", "PoseL1", "ViCo challenge 2023; HSP Table 1", "pose", 1.0),
    *(_l2(quantity, norm) for quantity in ("exp", "pose") for norm in (False, True)),
)
