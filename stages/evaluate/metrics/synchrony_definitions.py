"""Definitions of the metrics of ``stages.evaluate.metrics.synchrony``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from stages.evaluate.metrics import synchrony
from stages.evaluate.metrics.definition import PREDICTED, SPEAKER, Definition, Direction, Pooling, pair

_DIM = "Boese0601/Dyadic-Interaction-Modeling"
_ELP = "Song et al., ICCV 2023 (ELP), section 4.1"
_GROWS = "grows with the square root of frames times dimensions: compare only the same frames"


def _rpcc(quantity: str) -> tuple[Definition, Definition]:
    flat = Definition(
        id=f"rpcc_{quantity}_flat",
        name=f"RPCC {quantity} (flat)",
        published_as=f"RPCC of {_DIM}",
        formula=f"|r(reference, speaker) - r(predicted, speaker)| of {quantity}; clips, frames, dimensions in one row",
        source=f"{_ELP}; mymetrics.py of {_DIM}",
        unit="",
        scale=1.0,
        pooling=Pooling.DATA_SET,
        direction=Direction.LOWER,
        inputs=(*pair(quantity), f"{SPEAKER}.{quantity}"),
        min_frames=2,
        function=synchrony.residual_correlation,
        perfect=0.0,
        warning="r of one row also sees that dimensions have different means",
    )
    of_dimensions = replace(
        flat,
        id=f"rpcc_{quantity}_per_dimension",
        name=f"RPCC {quantity} (per dimension)",
        published_as="",
        formula=f"difference of |mean over dimensions of r| with the speaker of {quantity}, mean over clips",
        source=f"{_ELP}; calc_pearson of sanjayss34/lm-listener",
        pooling=Pooling.CLIPS,
        function=synchrony.residual_correlation_of_dimensions,
        warning="",
    )
    return flat, of_dimensions


def _tlcc(quantity: str) -> Definition:
    return Definition(
        id=f"tlcc_{quantity}_react",
        name=f"TLCC {quantity} (REACT)",
        published_as="TLCC (FRSyn) of REACT 2023, there at 25 fps",
        formula=f"|lag| of the highest r with the speaker, mean over dimensions of {quantity}, lags below 2 s",
        source="TLCC.py of reactmultimodalchallenge/baseline_react2023",
        unit="frames",
        scale=1.0,
        pooling=Pooling.CLIPS,
        direction=Direction.REFERENCE,
        inputs=(f"{PREDICTED}.{quantity}", f"{SPEAKER}.{quantity}"),
        min_frames=synchrony.TLCC_LAGS_FRAMES + 2,
        function=partial(synchrony.peak_lag, max_lag_frames=synchrony.TLCC_LAGS_FRAMES),
        perfect=None,
        warning="REACT ranks lower as better: a listener that copies the speaker at once has 0",
    )


def _wtlcc(quantity: str) -> tuple[Definition, Definition]:
    peak = Definition(
        id=f"wtlcc_{quantity}_4s_peak",
        name=f"WTLCC {quantity} (peak)",
        published_as="WTLCC, ELP Table 1",
        formula=f"highest r with the speaker at lags up to 2 s, mean over dimensions of {quantity}, mean over windows "
        "of 4 s, mean over clips",
        source=f"{_ELP}; Boker et al., Psychological Methods 2002",
        unit="",
        scale=1.0,
        pooling=Pooling.CLIPS,
        direction=Direction.REFERENCE,
        inputs=(f"{PREDICTED}.{quantity}", f"{SPEAKER}.{quantity}"),
        min_frames=synchrony.WINDOW_FRAMES,
        function=synchrony.windowed_peak,
        perfect=None,
        warning="lags, step and summary are ours: the paper publishes only the window",
    )
    difference = replace(
        peak,
        id=f"wtlcc_{quantity}_4s_l1",
        name=f"WTLCC {quantity} (L1)",
        formula=f"mean |difference| of the curves of r over lags up to 2 s of {quantity}, windows of 4 s",
        direction=Direction.LOWER,
        inputs=(*pair(quantity), f"{SPEAKER}.{quantity}"),
        function=synchrony.windowed_difference,
        perfect=0.0,
        warning=f"{peak.warning}; ELP describes a difference but prints raw values",
    )
    return peak, difference


def _sts(quantity: str) -> tuple[Definition, Definition]:
    concatenated = Definition(
        id=f"sts_{quantity}_concatenated",
        name=f"STS {quantity} (concatenated)",
        published_as=f"STS of {_DIM}",
        formula=f"sqrt(sum of squared differences of the changes from frame to frame of {quantity} / 0.1 s), all clips "
        "one after the other",
        source=f"Moeller-Levet et al., IDA 2003; eval_utils.py of {_DIM}",
        unit="",
        scale=1.0,
        pooling=Pooling.DATA_SET,
        direction=Direction.LOWER,
        inputs=pair(quantity),
        min_frames=2,
        function=synchrony.short_time_distance_concatenated,
        perfect=0.0,
        warning=f"{_GROWS}; the jumps between clips count",
    )
    per_clip = replace(
        concatenated,
        id=f"sts_{quantity}_per_clip",
        name=f"STS {quantity} (per clip)",
        published_as="",
        formula=concatenated.formula.replace("all clips one after the other", "mean over clips"),
        pooling=Pooling.CLIPS,
        function=synchrony.short_time_distance,
        warning=_GROWS,
    )
    return concatenated, per_clip


DEFINITIONS = tuple(
    definition
    for quantity in ("exp", "pose")
    for definition in (*_rpcc(quantity), _tlcc(quantity), *_wtlcc(quantity), *_sts(quantity))
)
