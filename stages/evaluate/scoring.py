"""From clips to scores: the average or the metric of a data set, by split and attitude, with intervals and differences.

A run with several samples has the mean of its samples' values: a clip is drawn with all its samples.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from pipeline.weights import find_weights
from schemas.clip import ATTITUDES
from schemas.score import ALL, REFERENCE_RUN, Comparable, Difference, Score
from stages.evaluate import bootstrap
from stages.evaluate.bootstrap import Replicates
from stages.evaluate.clip_work import valid_frames
from stages.evaluate.evaluation import Evaluation, Measured, Spread
from stages.evaluate.metrics.definition import Definition, Pooling
from stages.evaluate.metrics.registry import find_definition
from stages.evaluate.runs import COEFFICIENTS, COLUMNS

COSTLY_DIMENSIONS = 512  # from which on a Frechet distance takes seconds


@dataclass(frozen=True)
class Group:
    """One score to be: a metric of a run on some clips, with what each clip brings, a list a sample.

    ``values`` and ``frames`` are (sample, clip); ``arrays`` holds a mapping a clip where the metric needs all clips.
    """

    run: str
    key: Comparable
    metric: str
    values: np.ndarray
    frames: np.ndarray
    left_out: int
    arrays: Sequence[Sequence[Mapping[str, np.ndarray]]]
    clip_ids: tuple[str, ...]
    seed: int

    def definition(self) -> Definition:
        """The metric, bound to the inputs of this run."""
        metric = find_definition(self.metric)
        return metric.of_reference() if self.run == REFERENCE_RUN else metric


def score_all(done: Evaluation, spread: Spread, seed: int) -> tuple[list[Score], list[Difference]]:
    """All scores of an evaluation, and the differences between its runs."""
    groups = [group for measured in done.measured for group in _groups(measured, done, seed)]
    pooled = [i for i, group in enumerate(groups) if group.arrays]  # the rest are averages: not worth a journey
    replicates = {i: replicate(group) for i, group in enumerate(groups) if not group.arrays}
    for position, found in spread(replicate, [groups[i] for i in pooled]):
        replicates[pooled[position]] = found
    scores = [_score(group, replicates[i]) for i, group in enumerate(groups)]
    _note_undefined(scores, done)
    return [score for score in scores if math.isfinite(score.value)], _differences(groups, replicates)


def _note_undefined(scores: Sequence[Score], done: Evaluation) -> None:
    """Metrics that are defined for no clip of a run are not computed, and say so; those of a split are noted."""
    defined = {(score.run, score.key.metric) for score in scores if math.isfinite(score.value)}
    absent: dict[tuple[str, int], dict[str, None]] = defaultdict(dict)
    for score in scores:
        if math.isfinite(score.value) or score.run == REFERENCE_RUN or score.key.attitude != ALL:
            continue
        least = find_definition(score.key.metric).min_frames
        if (score.run, score.key.metric) in defined:
            absent[score.key.split, least][score.key.metric] = None
        else:
            done.not_computed[score.run, score.key.metric] = f"not defined for these clips: {_need(least)}"
    for (split, least), metrics in absent.items():
        done.notes.append(f"not defined for the clips of {split}: {', '.join(metrics)}: {_need(least)}")


def _need(least: int) -> str:
    return f"fewer than {least} frames each" if least > 1 else "they show none of what it measures"


def replicate(group: Group) -> Replicates:
    """The value of a group and of its resampled clips."""
    metric, clips = group.definition(), len(group.clip_ids)
    if metric.pooling is not Pooling.DATA_SET:
        values = _mean_of_samples(group.values)
        weights = np.ones(clips) if metric.pooling is Pooling.CLIPS else group.frames.mean(axis=0)
        return bootstrap.of_average(values, weights, group.seed)

    if min(frames.sum() for frames in group.frames) < metric.min_frames:
        return Replicates(math.nan, np.empty(0), pooled=True)

    def score(positions: np.ndarray) -> float:
        return float(np.mean([metric.score_drawn(sample, positions) for sample in group.arrays]))

    widest = max(array[0].size for array in group.arrays[0][0].values())
    resamples = bootstrap.POOLED_RESAMPLES if widest <= COSTLY_DIMENSIONS else bootstrap.COSTLY_RESAMPLES
    return bootstrap.of_data_set(score, clips, resamples, group.seed)


def _mean_of_samples(values: np.ndarray) -> np.ndarray:
    """Mean over the samples in which a clip has a value, (clip,)."""
    counts = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(counts, values, 0).sum(axis=0) / counts.sum(axis=0)


def _groups(measured: Measured, done: Evaluation, seed: int) -> list[Group]:
    """Every metric on every split, all attitudes together and each alone."""
    if not measured.clips:
        return []
    common = set.intersection(*({clip.clip_id for clip in clips} for clips in measured.clips))
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for clip in measured.clips[0]:
        if clip.clip_id in common:
            members[clip.split, ALL].append(clip.clip_id)
            if clip.attitude in ATTITUDES:
                members[clip.split, clip.attitude].append(clip.clip_id)
    order = sorted(members, key=lambda group: (done.request.splits.index(group[0]), group[1] != ALL, group[1]))
    return [
        _group(measured, members[split, attitude], replace(key, split=split, attitude=attitude), seed)
        for key in (_key(metric, measured, done) for metric in measured.metrics)
        for split, attitude in order
    ]


def _group(measured: Measured, clip_ids: list[str], key: Comparable, seed: int) -> Group:
    metric = find_definition(key.metric)
    bound = metric.of_reference() if measured.run.name == REFERENCE_RUN else metric
    values, frames, arrays, left_out = [], [], [], 0
    for clips, tasks, results in zip(measured.clips, measured.tasks, measured.results, strict=True):
        position = {clip.clip_id: i for i, clip in enumerate(clips)}
        rows = [position[clip_id] for clip_id in clip_ids]
        if metric.pooling is Pooling.DATA_SET:
            whole = [valid_frames(bound, {**tasks[i].arrays, **results[i].arrays}) for i in rows]
            arrays.append([clip for clip, _ in whole])
            left_out += sum(gone for _, gone in whole)
            frames.append([bound.num_frames(clip) for clip, _ in whole])
            values.append([math.nan] * len(rows))
        else:
            found = [results[i].values[metric.id] for i in rows]
            values.append([value for value, _, _ in found])
            frames.append([count for _, count, _ in found])
            left_out += sum(gone for _, _, gone in found)
    return Group(
        measured.run.name,
        key,
        metric.id,
        np.array(values),
        np.array(frames),
        left_out,
        arrays,
        tuple(clip_ids),
        seed,
    )


def _key(metric: Definition, measured: Measured, done: Evaluation) -> Comparable:
    quantities = {name.split(".")[1] for name in metric.inputs}
    seen = {result.resolution for results in measured.results for result in results if result.resolution}
    return Comparable(
        metric=metric.id,
        data=done.description.name,
        split="",
        attitude="",
        space=_space(metric, quantities, done),
        scale=metric.scale,
        pooling=metric.pooling.value,
        resolution="" if quantities <= set(COLUMNS) else ", ".join(sorted(seen)),
    )


def _space(metric: Definition, quantities: set[str], done: Evaluation) -> str:
    """Who made the numbers that a metric compares."""
    if metric.weights:
        return f"{metric.weights} (sha256 {find_weights(metric.weights).sha256[:12]})"
    if quantities & set(COEFFICIENTS):
        return str(done.fitter)
    stages = {quantity: done.description.stages.get(quantity) for quantity in sorted(quantities & set(COLUMNS))}
    return ", ".join(f"{name} version {made.version}" for name, made in stages.items() if made)


def _score(group: Group, found: Replicates) -> Score:
    metric = group.definition()
    low, high = found.interval()
    if metric.pooling is Pooling.DATA_SET and low < 0:  # distances, variances, entropies: a normal interval knows no 0
        low = 0.0
    counts = np.isfinite(_mean_of_samples(group.values)) if not group.arrays else np.ones(len(group.clip_ids), bool)
    samples = len(group.frames)
    frames = int(group.frames[:, counts].sum() / samples)
    return Score(group.run, group.key, found.value, low, high, int(counts.sum()), frames, samples, group.left_out)


def _differences(groups: Sequence[Group], replicates: Mapping[int, Replicates]) -> list[Difference]:
    """Every pair of runs, wherever both have the same clips."""
    found = []
    together: dict[Comparable, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        if group.run != REFERENCE_RUN and math.isfinite(replicates[i].value):
            together[group.key].append(i)
    for key, members in together.items():
        for first, second in combinations(members, 2):
            if groups[first].clip_ids == groups[second].clip_ids and len(groups[first].clip_ids) > 1:
                apart = replicates[first].minus(replicates[second])
                found.append(Difference(groups[first].run, groups[second].run, key, apart.value, *apart.interval()))
    return found
