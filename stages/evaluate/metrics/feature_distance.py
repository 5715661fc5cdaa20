"""Feature distance: how far predicted coefficients lie from the reference, frame by frame.

Conventions: Coefficients are (frame, dimension), raw: neither normalised nor whitened; frame t is compared with frame
t. The value depends on the fitter whose coefficients they are.

Source: Zhou et al., "Responsive Listening Head Generation", ECCV 2022, section 5.3 and Table 3; the author's answer in
issue 15 of dc3ea9f/vico_challenge_baseline; Song et al., "Emotional Listener Portrait", ICCV 2023, section 4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from stages.evaluate.metrics.definition import Definition, Direction, Pooling, Quantity
from stages.evaluate.metrics.validation import check_pair

_ECCV2022 = "Zhou et al., ECCV 2022 (ViCo), Table 3"
_DIM = "Boese0601/Dyadic-Interaction-Modeling"
_ELP = "Song et al., ICCV 2023 (ELP), section 4.1: 'the L2 distance', although it is called Frechet distance"


def mean_absolute_difference(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Mean of ``|predicted - reference|`` over frames and dimensions."""
    check_pair(predicted, reference, ndim=2)
    return float(np.abs(predicted.astype(np.float64) - reference).mean())


def mean_squared_difference(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Mean of ``(predicted - reference)^2`` over frames and dimensions."""
    check_pair(predicted, reference, ndim=2)
    return float(np.square(predicted.astype(np.float64) - reference).mean())


def mean_euclidean_distance(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Mean over frames of the Euclidean norm of ``predicted - reference``."""
    check_pair(predicted, reference, ndim=2)
    return float(np.linalg.norm(predicted.astype(np.float64) - reference, axis=1).mean())


_distance = partial(Definition, pooling=Pooling.FRAMES, direction=Direction.LOWER, min_frames=1, perfect=0.0)


def _l1(quantity: Quantity, scale: float, *, id: str, name: str, published_as: str) -> Definition:
    return _distance(
        id=id,
        name=name,
        published_as=published_as,
        formula=f"mean of |predicted - reference| over frames and dimensions of {quantity}, times {scale:g}",
        source=f"{_ECCV2022}; issue 15 of dc3ea9f/vico_challenge_baseline",
        scale=scale,
        inputs=quantity.pair,
        function=mean_absolute_difference,
    )


def _l2(quantity: Quantity, kind: str, meaning: str, function: Callable[..., float]) -> Definition:
    return _distance(
        id=f"fd_{quantity}_elp_{kind}",
        name=f"FD {quantity} (ELP, {kind})",
        published_as="FD x10^3, ELP Table 1",
        formula=f"mean over {meaning} of predicted - reference, times 1000",
        source=_ELP,
        scale=1000.0,
        inputs=quantity.pair,
        function=function,
        warning="the paper gives no formula: this is one of two readings, of coefficients that are not the paper's",
    )


def _mse(quantity: Quantity) -> Definition:
    return _distance(
        id=f"mse_{quantity}_per_clip",
        name=f"MSE {quantity}",
        published_as=f"MSE of {_DIM}",
        formula=f"mean over frames and dimensions of {quantity} of (predicted - reference)^2, mean over clips",
        source=f"mymetrics.py of {_DIM}; DualTalk (CVPR 2025) and UniLS print an MSE of FLAME's numbers",
        scale=1.0,
        pooling=Pooling.CLIPS,
        inputs=quantity.pair,
        function=mean_squared_difference,
        warning="of whose coefficients decides on the value: compare only the same space",
    )


_PARTS = (Quantity.ANGLE, Quantity.EXP, Quantity.TRANS)
_2022 = {"scale": 1.0, "published_as": "ViCo challenge 2022"}
_2023 = {"scale": 1.0, "published_as": "ViCo challenge 2023; HSP Table 1"}
_ECCV = {"scale": 100.0, "published_as": "FD x100, ViCo Table 3, MFR-Net Table 1"}
_NORMS = (
    ("squared", "frames and dimensions of the square", mean_squared_difference),
    ("norm", "frames of the Euclidean norm", mean_euclidean_distance),
)

DEFINITIONS = (
    *(_l1(q, id=f"fd_{q}_eccv2022", name=f"FD {q}", **_ECCV) for q in _PARTS),
    *(_l1(q, id=f"{q}fd_l1_2022", name=f"{str(q).title()}FD (2022, L1)", **_2022) for q in _PARTS),
    _l1(Quantity.EXP, id="expl1_2023", name="ExpL1", **_2023),
    _l1(Quantity.POSE, id="posel1_2023", name="PoseL1", **_2023),
    *(_l2(quantity, *norm) for quantity in (Quantity.EXP, Quantity.POSE) for norm in _NORMS),
    *(_mse(quantity) for quantity in (Quantity.EXP, Quantity.POSE)),
)
