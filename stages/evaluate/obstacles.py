"""Why a metric cannot be computed for a run: samples, pictures, columns or weights that are missing."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.dataset.read import read_description
from pipeline.weights import WeightsError, find_weights
from schemas.score import REFERENCE_RUN
from stages.evaluate.metrics.definition import PREDICTED, REFERENCE, Definition
from stages.evaluate.runs import COLUMNS, OF_SAMPLES, ReferenceClip, Run, columns_of


def obstacle(metric: Definition, run: Run, clips: Sequence[ReferenceClip]) -> str:
    """Why a metric cannot be computed for a run; empty if it can."""
    inputs = (metric.of_reference() if run.name == REFERENCE_RUN else metric).inputs
    for name in inputs:
        owner, quantity = name.split(".")
        if quantity in OF_SAMPLES and len(run.samples) < 2:
            return "one sample has no spread: python -m jobs.predict --samples 5"
        if quantity not in COLUMNS:
            if reason := _no_pictures(owner, run, clips):
                return reason
        elif owner != PREDICTED and not all(name in clip.arrays for clip in clips):
            return f"the reference holds no column {', '.join(columns_of([name], (owner,)))}"
        elif owner == PREDICTED and (missing := _no_columns(name, run)):
            return missing
    return no_weights(metric)


def _no_pictures(owner: str, run: Run, clips: Sequence[ReferenceClip]) -> str:
    if owner == REFERENCE and not all(clip.video for clip in clips):
        return "the reference has no videos of all its clips"
    if owner == PREDICTED and not all(sample.videos for sample in run.samples):
        return "no videos: python -m jobs.render PRED --out VIDEOS, then --videos VIDEOS"
    return ""


def _no_columns(name: str, run: Run) -> str:
    for sample in run.samples:
        packed = read_description(sample.data).packed if sample.data else []
        if missing := [column for column in columns_of([name], (PREDICTED,)) if column not in packed]:
            return f"the predictions hold no column {', '.join(missing)}"
    return ""


def no_weights(metric: Definition) -> str:
    """Why a metric's network cannot be had here; empty if it can, or if there is none."""
    if not metric.weights:
        return ""
    weights = find_weights(metric.weights)
    if not all((weights.root() / file).is_file() for file in weights.files):
        return f"weights `{weights.name}` missing, get them with: {weights.remedy()} ({weights.root()})"
    try:
        weights.paths()
    except WeightsError as error:
        return str(error)
    return ""
