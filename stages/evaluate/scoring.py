"""From clips to scores: the average or the metric of a data set, by split and attitude, with intervals and differences.

A run with several samples has the mean of its samples' values: a clip is drawn with all its samples.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from pipeline.weights import find_weights
from schemas.clip import ATTITUDES
from schemas.coefficients import STAGE
from schemas.column import SPEAKER
from schemas.score import ALL, REFERENCE_RUN, Comparable, Difference, Score, ScoreSpace
from stages.evaluate import bootstrap
from stages.evaluate.bootstrap import Replicates
from stages.evaluate.comparison import Measured, valid_frames
from stages.evaluate.evaluation import ComparedClip, EvaluatedRun, Evaluation, Spread
from stages.evaluate.metrics.definition import Clip, Definition, Pooling
from stages.evaluate.metrics.registry import find_definition

TALKING = ", talking"  # after the name of the data: the track of the speakers
COSTLY_DIMENSIONS = 512  # from which on a Frechet distance takes seconds


@dataclass(frozen=True, kw_only=True)
class Group:
    """One score to be: a metric on some clips, with what each clip brings, a list a sample."""

    run: str
    key: Comparable
    metric: Definition  # bound to the inputs of the run
    values: np.ndarray  # (sample, clip)
    frames: np.ndarray  # (sample, clip)
    left_out: int
    arrays: Sequence[Sequence[Clip]]  # a mapping a clip where the metric needs all clips
    clip_ids: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Scores:
    """All scores of an evaluation, the differences between its runs, and the metrics that are defined nowhere."""

    scores: list[Score]
    differences: list[Difference]
    undefined: dict[tuple[str, str], str]  # the reason by run and metric
    notes: list[str]  # what is defined for no clip of a single split


def score_all(done: Evaluation, spread: Spread, seed: int) -> Scores:
    """Scores of all runs, by split and attitude."""
    groups = [group for one in done.runs for group in _groups(one, done, seed)]
    pooled = [i for i, group in enumerate(groups) if group.arrays]  # the rest are averages: not worth a journey
    replicates = {i: replicate(group) for i, group in enumerate(groups) if not group.arrays}
    for position, found in spread(replicate, [groups[i] for i in pooled]):
        replicates[pooled[position]] = found
    scores = [_score(group, replicates[i]) for i, group in enumerate(groups)]
    defined = [score for score in scores if math.isfinite(score.value)]
    return Scores(defined, _differences(groups, replicates), *_undefined(scores))


def _undefined(scores: Sequence[Score]) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Why metrics are defined for no clip of a run, and a note where they are defined for none of a split."""
    nowhere: dict[tuple[str, str], str] = {}
    defined = {(score.run, score.key.metric) for score in scores if math.isfinite(score.value)}
    absent: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for score in scores:
        if math.isfinite(score.value) or score.run == REFERENCE_RUN or score.key.attitude != ALL:
            continue
        need = _need(find_definition(score.key.metric))
        if (score.run, score.key.metric) in defined:
            absent[score.key.split, need][score.key.metric] = None
        else:
            nowhere[score.run, score.key.metric] = f"not defined for these clips: {need}"
    said = ((split, ", ".join(metrics), need) for (split, need), metrics in absent.items())
    return nowhere, [f"not defined for the clips of {split}: {metrics}: {why}" for split, metrics, why in said]


def _need(metric: Definition) -> str:
    least = metric.min_frames
    if metric.pooling is Pooling.DATA_SET:
        return f"one clip alone, or fewer than {least} frames of all together"
    return f"fewer than {least} frames each" if least > 1 else "they show none of what it measures"


def replicate(group: Group) -> Replicates:
    """The value of a group and of its resampled clips."""
    metric, clips = group.metric, len(group.clip_ids)
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


def _groups(one: EvaluatedRun, done: Evaluation, seed: int) -> Iterator[Group]:
    """Every metric on every split, all attitudes together and each alone, of the clips that all samples have."""
    samples = range(1 if one.run.name == REFERENCE_RUN else len(one.run.samples))
    clips = {(clip.task.sample, clip.task.clip_id): clip for clip in one.clips}
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (sample, clip_id), clip in clips.items():
        if sample == 0 and all((other, clip_id) in clips for other in samples):
            members[clip.task.split, ALL].append(clip_id)
            if clip.task.attitude in ATTITUDES:
                members[clip.task.split, clip.task.attitude].append(clip_id)
    order = sorted(members, key=lambda group: (done.request.splits.index(group[0]), group[1] != ALL, group[1]))
    for metric in one.metrics:
        key = _key(metric, one, done)
        bound = metric.of_reference() if one.run.name == REFERENCE_RUN else metric
        for split, attitude in order:
            chosen = [[clips[sample, clip_id] for clip_id in members[split, attitude]] for sample in samples]
            yield _group(one.run.name, replace(key, split=split, attitude=attitude), bound, chosen, seed)


def _group(run: str, key: Comparable, metric: Definition, clips: list[list[ComparedClip]], seed: int) -> Group:
    arrays: list[list[Clip]] = []
    if metric.pooling is Pooling.DATA_SET:
        valid = [
            [valid_frames(metric, {**clip.task.arrays, **clip.result.arrays}) for clip in sample] for sample in clips
        ]
        arrays = [[inputs for inputs, _ in sample] for sample in valid]
        found = [[Measured(math.nan, metric.num_frames(inputs), gone) for inputs, gone in sample] for sample in valid]
    else:
        found = [[clip.result.values[metric.id] for clip in sample] for sample in clips]
    return Group(
        run=run,
        key=key,
        metric=metric,
        values=np.array([[one.value for one in sample] for sample in found]),
        frames=np.array([[one.num_frames for one in sample] for sample in found]),
        left_out=sum(one.left_out for sample in found for one in sample),
        arrays=arrays,
        clip_ids=tuple(clip.task.clip_id for clip in clips[0]),
        seed=seed,
    )


def _key(metric: Definition, one: EvaluatedRun, done: Evaluation) -> Comparable:
    seen = {clip.result.resolution for clip in one.clips if clip.result.resolution}
    return Comparable(
        metric=metric.id,
        data=data_name(done),
        split="",
        attitude="",
        space=_space(metric, done),
        scale=metric.scale,
        pooling=metric.pooling.value,
        resolution=", ".join(sorted(seen)) if metric.sees_pictures else "",
    )


def data_name(done: Evaluation) -> str:
    """The data set as boards name it: speakers are another track than listeners, as in the list of the published."""
    return done.description.name + (TALKING if done.request.role == SPEAKER else "")


def _space(metric: Definition, done: Evaluation) -> ScoreSpace:
    """Who made the numbers that a metric compares."""
    if metric.weights:
        return ScoreSpace(weights=((metric.weights, find_weights(metric.weights).sha256),))
    stages = {one.quantity.value.stage for one in metric.inputs}
    if STAGE in stages:
        fitter = done.fitter
        return ScoreSpace(fitter.fitter, fitter.version, fitter.weights) if fitter else ScoreSpace()
    made = sorted(stages & set(done.description.stages))
    return ScoreSpace(made[0], done.description.stages[made[0]].version) if made else ScoreSpace()


def _score(group: Group, found: Replicates) -> Score:
    low, high = found.interval()
    if found.pooled and low < 0:  # distances, variances, entropies: a normal interval knows no 0
        low = 0.0
    counts = np.isfinite(_mean_of_samples(group.values)) if not group.arrays else np.ones(len(group.clip_ids), bool)
    samples = len(group.frames)
    return Score(
        run=group.run,
        key=group.key,
        value=found.value,
        low=low,
        high=high,
        num_clips=int(counts.sum()),
        num_frames=int(group.frames[:, counts].sum() / samples),
        num_samples=samples,
        left_out=group.left_out,
    )


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
                low, high = apart.interval()
                names = {"first": groups[first].run, "second": groups[second].run}
                found.append(Difference(**names, key=key, value=apart.value, low=low, high=high))
    return found
