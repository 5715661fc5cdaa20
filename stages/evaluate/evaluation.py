"""The evaluation: runs against a reference, metric by metric, clip by clip, with what could not be computed and why.

It defines no mathematics: metrics (`stages.evaluate.metrics`) take arrays and return floats, the work on a clip
(`stages.evaluate.clip_work`) is done wherever ``spread`` sends it, `stages.evaluate.scoring` makes scores of clips.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset.read import one_fitter, read_description
from schemas.coefficients import Provenance
from schemas.dataset import Description
from schemas.errors import UserError
from schemas.score import REFERENCE_RUN, ClipScore
from stages.evaluate.clip_work import ClipResult, ClipTask, work_on
from stages.evaluate.metrics.definition import PREDICTED, REFERENCE, Definition
from stages.evaluate.obstacles import obstacle
from stages.evaluate.runs import (
    COEFFICIENTS,
    OF_SAMPLES,
    Policy,
    ReferenceClip,
    Run,
    Sample,
    fit_lengths,
    read_predictions,
    read_reference,
)

MISSES, LENGTHS, SIZES, UNREADABLE = "misses", "has other lengths than", "has other sizes than", "has broken videos of"
REMEDIES = {
    MISSES: "predict them, choose other --split, or say --on-missing-clip skip",
    LENGTHS: "predict at the reference's length, or say with --on-length-mismatch what to do",
    SIZES: "render at the reference's size, or say --on-size-mismatch resize",
    UNREADABLE: "render them again, or say --on-missing-clip skip",
}

Spread = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[tuple[int, Any]]]
"""Calls a function on every item somewhere, and gives back position and result as they come."""


def in_this_process(work: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """The `Spread` without Ray."""
    for position, item in enumerate(items):
        yield position, work(item)


@dataclass(frozen=True)
class Request:
    """What to evaluate."""

    reference: Path
    runs: tuple[Run, ...]
    metrics: tuple[Definition, ...]
    splits: tuple[str, ...]
    policy: Policy = Policy()


@dataclass
class Measured:
    """One run after the work on its clips: per sample the clips, what they hold and what they got."""

    run: Run
    metrics: list[Definition]
    clips: list[list[ReferenceClip]] = field(default_factory=list)
    tasks: list[list[ClipTask]] = field(default_factory=list)
    results: list[list[ClipResult]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def clip_scores(self) -> Iterator[ClipScore]:
        """Rows of ``scores.parquet``."""
        for sample, (clips, results) in enumerate(zip(self.clips, self.results, strict=True)):
            for clip, result in zip(clips, results, strict=True):
                for metric, (value, frames, _) in result.values.items():
                    facts = (clip.clip_id, clip.split, clip.attitude)
                    yield ClipScore(self.run.name, sample, metric, *facts, frames, value)


@dataclass
class Evaluation:
    """All that was measured, per run why a metric was not, and what else a reader has to know."""

    request: Request
    description: Description
    fitter: Provenance | None
    measured: list[Measured] = field(default_factory=list)
    not_computed: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def evaluate(request: Request, spread: Spread) -> Evaluation:
    """Do the work on every clip of every run.

    Raises
    ------
    UserError : clips are missing or do not fit, and the policy does not say what to do.
    MixedCoefficientsError : coefficients of several fitters were to be compared.
    """
    description = read_description(request.reference)
    clips = read_reference(request.reference, request.splits, request.metrics)
    done = Evaluation(request, description, _one_fitter(request, description))
    own = Run(REFERENCE_RUN, (Sample(request.reference, None),))
    for run in (*request.runs, own):
        done.measured.append(_prepare(run, clips, done))
    everything = [(m, s, i) for m in done.measured for s, tasks in enumerate(m.tasks) for i in range(len(tasks))]
    work = [m.tasks[s][i] for m, s, i in everything]
    for position, result in spread(work_on, work):
        measured, sample, i = everything[position]
        measured.results[sample][i] = result
    for measured in done.measured:
        _settle(measured, request.policy)
    return done


def _one_fitter(request: Request, description: Description) -> Provenance | None:
    """The one maker of all coefficients; None where the metrics compare none."""
    wanted = {name.split(".")[1] for metric in request.metrics for name in metric.inputs}
    if not wanted & set(COEFFICIENTS) or "threedmm" not in description.stages:
        return None
    return one_fitter([request.reference, *(s.data for run in request.runs for s in run.samples if s.data)])


def _prepare(run: Run, clips: Sequence[ReferenceClip], done: Evaluation) -> Measured:
    """The tasks of a run, after its metrics that cannot be computed were struck off."""
    own, request = run.name == REFERENCE_RUN, done.request
    metrics = [metric for metric in request.metrics if metric.perfect is None] if own else list(request.metrics)
    chosen = []
    for metric in metrics:
        reason = obstacle(metric, run, clips)
        if not reason:
            chosen.append(metric)
        elif not own:
            done.not_computed[run.name, metric.id] = reason
    measured = Measured(run, chosen)
    if own and chosen:
        _add_sample(measured, clips, [_task(clip, clip.arrays, {}, measured, done) for clip in clips])
    elif chosen:
        for sample in run.samples:
            _add_sample(measured, *_pair(sample, clips, measured, done))
        _bring_samples_together(measured)
    return measured


def _add_sample(measured: Measured, clips: Sequence[ReferenceClip], tasks: list[ClipTask]) -> None:
    measured.clips.append(list(clips))
    measured.tasks.append(tasks)
    measured.results.append([ClipResult()] * len(tasks))


def _bring_samples_together(measured: Measured) -> None:
    """Give every task the values of all samples where a metric compares them: (frame, sample, dimension)."""
    for name in {name for metric in measured.metrics for name in metric.inputs if name.split(".")[1] in OF_SAMPLES}:
        values: dict[str, list[np.ndarray]] = defaultdict(list)
        for task in (task for tasks in measured.tasks for task in tasks):
            values[task.clip_id].append(task.arrays[name])
        together = {clip_id: _stacked(samples) for clip_id, samples in values.items()}
        measured.tasks = [
            [replace(task, arrays={**task.arrays, name: together[task.clip_id]}) for task in tasks]
            for tasks in measured.tasks
        ]


def _stacked(samples: Sequence[np.ndarray]) -> np.ndarray:
    shortest = min(map(len, samples))
    return np.stack([values[:shortest] for values in samples], axis=1)


def _pair(
    sample: Sample, clips: Sequence[ReferenceClip], measured: Measured, done: Evaluation
) -> tuple[list[ReferenceClip], list[ClipTask]]:
    """The clips that a sample has, and their tasks; what is missing or does not fit ends here or is noted."""
    policy = done.request.policy
    predictions = read_predictions(sample.data, measured.metrics) if sample.data else None
    has = {clip.clip_id for clip in clips if predictions is None or clip.clip_id in predictions}
    if sample.videos is not None:
        has &= {clip.clip_id for clip in clips if (sample.videos / f"{clip.clip_id}.mp4").is_file()}
    _complain(measured, MISSES, [clip.clip_id for clip in clips if clip.clip_id not in has], policy.missing)
    kept, tasks, problems = [], [], []
    for clip in (clip for clip in clips if clip.clip_id in has):
        arrays, problem = fit_lengths(clip, predictions[clip.clip_id] if predictions else {}, policy.length)
        problems += [problem] if problem else []
        if arrays or not problem:
            kept.append(clip)
            video = sample.videos / f"{clip.clip_id}.mp4" if sample.videos else None
            tasks.append(_task(clip, arrays, {PREDICTED: video} if video else {}, measured, done))
    _complain(measured, LENGTHS, problems, policy.length)
    return kept, tasks


def _task(
    clip: ReferenceClip, arrays: Mapping[str, np.ndarray], videos: dict[str, Path], measured: Measured, done: Evaluation
) -> ClipTask:
    own = measured.run.name == REFERENCE_RUN
    inputs = {name for m in measured.metrics for name in (m.of_reference() if own else m).inputs}
    files = {**videos, **({REFERENCE: clip.video} if clip.video else {})}
    used = {name: arrays[name] for name in inputs if name in arrays}
    ids = tuple(metric.id for metric in measured.metrics)
    return ClipTask(clip.clip_id, clip.num_frames, used, files, ids, own, done.request.policy)


def _settle(measured: Measured, policy: Policy) -> None:
    """Leave out the clips whose pictures do not fit, or stop, as the policy has it."""
    results = [result for results in measured.results for result in results]
    for rule, what in (("length", LENGTHS), ("size", SIZES), ("missing", UNREADABLE)):
        problems = [result.problems[rule] for result in results if rule in result.problems]
        _complain(measured, what, problems, getattr(policy, rule))
    for sample, results in enumerate(measured.results):
        keep = [i for i, result in enumerate(results) if not result.problems]
        for rows in (measured.clips, measured.tasks, measured.results):
            rows[sample] = [rows[sample][i] for i in keep]


def _complain(measured: Measured, what: str, clips: Sequence[str], policy: str) -> None:
    """Stop with the list, or note it."""
    if not clips:
        return
    listing = f"run {measured.run.name!r} {what} the reference in {len(clips)} clips: {'; '.join(clips)}"
    if policy == "error":
        raise UserError(f"{listing}; {REMEDIES[what]}")
    measured.notes.append(f"{listing} (policy: {policy})")
