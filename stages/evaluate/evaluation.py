"""The evaluation: runs against a reference, metric by metric, clip by clip, with what could not be computed and why.

It defines no mathematics: metrics (`stages.evaluate.metrics`) take arrays and return floats, the comparison of a clip
(`stages.evaluate.comparison`) is done wherever ``spread`` sends it, `stages.evaluate.scoring` makes scores of clips.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset.read import no_video, one_fitter, read_description
from pipeline.weights import WeightsError, find_weights
from schemas.coefficients import NAMED_BY, STAGE, Provenance
from schemas.column import LISTENER
from schemas.dataset import Description
from schemas.errors import UserError
from schemas.score import REFERENCE_RUN, ClipScore
from stages.evaluate import runs
from stages.evaluate.comparison import Comparison, Measurement, work_on
from stages.evaluate.metrics.definition import Clip, Definition, Input, Quantity, Whose
from stages.evaluate.runs import FACTS, Misfit, Policy, ReferenceClip, Run, Sample

NETWORK_GPUS = 0.25  # of a GPU for a clip: the network waits while the clip's videos are decoded


Spread = Callable[..., Iterable[tuple[int, Any]]]
"""Calls a function on every item somewhere, and gives back position and result as they come: `pipeline.run.spread`."""


def in_this_process(work: Callable[[Any], Any], items: Sequence[Any], *, gpus: float = 0) -> Iterator[tuple[int, Any]]:
    """The `Spread` without Ray."""
    for position, item in enumerate(items):
        yield position, work(item)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to evaluate."""

    reference: Path
    runs: tuple[Run, ...]
    metrics: tuple[Definition, ...]
    splits: tuple[str, ...]
    policy: Policy = Policy()
    role: str = LISTENER  # that all runs predict


@dataclass(frozen=True)
class ComparedClip:
    """One clip of one sample: what was compared, and what came out."""

    task: Comparison
    result: Measurement


@dataclass(frozen=True)
class EvaluatedRun:
    """One run: the metrics that can be computed of it, its clips, and what a reader has to know."""

    run: Run
    metrics: tuple[Definition, ...]
    clips: tuple[ComparedClip, ...]
    notes: tuple[str, ...]

    def clip_scores(self) -> Iterator[ClipScore]:
        """Rows of ``scores.parquet``."""
        for task, result in ((clip.task, clip.result) for clip in self.clips):
            facts = {"clip_id": task.clip_id, "split": task.split, "attitude": task.attitude, "sample": task.sample}
            for metric, one in result.values.items():
                found = {"num_frames": one.num_frames, "value": one.value}
                yield ClipScore(run=self.run.name, metric=metric, **facts, **found)


@dataclass(frozen=True)
class Evaluation:
    """All that was measured, the reference's own values last, and why a metric (run, id) was not."""

    request: Request
    description: Description
    fitter: Provenance | None
    runs: tuple[EvaluatedRun, ...]
    not_computed: Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class _Plan:
    """A run before the work: its metrics, why others cannot be computed, and a task a clip and sample."""

    run: Run
    metrics: tuple[Definition, ...]
    not_computed: Mapping[tuple[str, str], str]
    tasks: tuple[Comparison, ...]
    notes: tuple[str, ...]


def evaluate(request: Request, spread: Spread) -> Evaluation:
    """Do the work on every clip of every run.

    `UserError` where clips are missing or do not fit, and the policy does not say what to do, or weights cannot be
    read; `MixedCoefficientsError` where coefficients of several fitters were to be compared.
    """
    description = read_description(request.reference)
    clips = runs.read_reference(request.reference, request.splits, request.metrics, request.role)
    if request.policy.first_frame != "count" and (short := [clip.clip_id for clip in clips if clip.num_frames < 2]):
        raise UserError(f"{request.reference}: no frame is left of {', '.join(short)}; let the first one count")
    fitter = _one_fitter(request, description)
    own = Run(REFERENCE_RUN, (Sample(request.reference, None),))
    plans = [_plan(run, clips, request) for run in (*request.runs, own)]
    results = iter(_measure([task for plan in plans for task in plan.tasks], spread))
    settled = tuple(_settled(plan, [next(results) for _ in plan.tasks], request.policy) for plan in plans)
    not_computed = {key: reason for plan in plans for key, reason in plan.not_computed.items()}
    return Evaluation(request, description, fitter, settled, not_computed)


def _one_fitter(request: Request, description: Description) -> Provenance | None:
    """The one maker of all coefficients; None where the metrics compare none."""
    fitted = any(one.quantity.value.stage == STAGE for metric in request.metrics for one in metric.inputs)
    if not fitted or NAMED_BY.keys().isdisjoint(description.stages):
        return None
    return one_fitter([request.reference, *(s.data for run in request.runs for s in run.samples if s.data)])


def _measure(tasks: Sequence[Comparison], spread: Spread) -> list[Measurement]:
    """The work on all tasks; those that run networks ask for a share of a GPU."""
    found: dict[int, Measurement] = {}
    for networks in (True, False):
        numbers = [i for i, task in enumerate(tasks) if task.runs_networks() is networks]
        if numbers:
            some = spread(work_on, [tasks[i] for i in numbers], gpus=NETWORK_GPUS if networks else 0)
            found.update((numbers[position], result) for position, result in some)
    return [found[i] for i in range(len(tasks))]


def _plan(run: Run, clips: Sequence[ReferenceClip], request: Request) -> _Plan:
    """The tasks of a run, after its metrics that cannot be computed were struck off."""
    own = run.name == REFERENCE_RUN
    wanted = [metric for metric in request.metrics if metric.perfect is None or not own]
    packed = [read_description(sample.data).packed if sample.data else [] for sample in run.samples]
    reasons = {metric.id: what_it_lacks(metric, run, clips, packed, request.role) for metric in wanted}
    metrics = tuple(metric for metric in wanted if not reasons[metric.id])
    not_computed = {} if own else {(run.name, id): reason for id, reason in reasons.items() if reason}
    tasks, notes = [], []
    if own and metrics:
        tasks = [_task(clip, clip.arrays, None, 0, metrics, request.policy, own) for clip in clips]
    elif metrics:
        for number in range(len(run.samples)):
            found, said = _tasks_of_sample(run, number, clips, metrics, request)
            tasks, notes = tasks + found, notes + said
    return _Plan(run, metrics, not_computed, tuple(_with_all_samples(tasks, metrics)), tuple(notes))


def _tasks_of_sample(
    run: Run, number: int, clips: Sequence[ReferenceClip], metrics: Sequence[Definition], request: Request
) -> tuple[list[Comparison], list[str]]:
    """A task for every clip that a sample has, and notes on what is missing or does not fit, unless it ends here."""
    sample, policy = run.samples[number], request.policy
    predictions = runs.read_predictions(sample.data, metrics, request.role) if sample.data else None
    has = {clip.clip_id for clip in clips if predictions is None or clip.clip_id in predictions}
    if sample.videos is not None:
        has &= {clip.clip_id for clip in clips if (sample.videos / f"{clip.clip_id}.mp4").is_file()}
    missing = [clip.clip_id for clip in clips if clip.clip_id not in has]
    notes = _complaint(run, Misfit.MISSING, missing, policy)
    tasks, problems = [], []
    for clip in (clip for clip in clips if clip.clip_id in has):
        arrays, problem = runs.fit_lengths(clip, predictions[clip.clip_id] if predictions else {}, policy.length)
        problems += [problem] if problem else []
        if arrays or not problem:
            video = sample.videos / f"{clip.clip_id}.mp4" if sample.videos else None
            tasks.append(_task(clip, arrays, video, number, metrics, policy))
    return tasks, notes + _complaint(run, Misfit.LENGTH, problems, policy)


def _task(
    clip: ReferenceClip,
    arrays: Clip,
    video: Path | None,
    sample: int,
    metrics: Sequence[Definition],
    policy: Policy,
    own: bool = False,
) -> Comparison:
    inputs = {one for metric in metrics for one in (metric.of_reference() if own else metric).inputs}
    videos = {Whose.PREDICTED: video, Whose.REFERENCE: clip.video, Whose.SPEAKER: clip.speaker_video}
    return Comparison(
        **{name: getattr(clip, name) for name in FACTS},
        sample=sample,
        arrays={one: runs.counted(arrays[one], one, policy) for one in inputs if one in arrays},
        videos={whose: path for whose, path in videos.items() if path},
        sound=clip.sound,
        metrics=tuple(metric.id for metric in metrics),
        of_reference=own,
        policy=policy,
    )


def _with_all_samples(tasks: list[Comparison], metrics: Sequence[Definition]) -> list[Comparison]:
    """Give every task the values of all samples where a metric compares them: (frame, sample, dimension)."""
    for one in {one for metric in metrics for one in metric.inputs if one.quantity.value.of_samples}:
        values: dict[str, list[np.ndarray]] = defaultdict(list)
        for task in tasks:
            values[task.clip_id].append(task.arrays[one])
        shortest = {clip_id: min(map(len, samples)) for clip_id, samples in values.items()}
        together = {name: np.stack([v[: shortest[name]] for v in samples], 1) for name, samples in values.items()}
        tasks = [replace(task, arrays={**task.arrays, one: together[task.clip_id]}) for task in tasks]
    return tasks


def _settled(plan: _Plan, results: Sequence[Measurement], policy: Policy) -> EvaluatedRun:
    """The run without clips whose pictures do not fit; or stop, as the policy has it."""
    notes = list(plan.notes)
    found = [result.misfit for result in results if result.misfit]
    for misfit in (Misfit.LENGTH, Misfit.SIZE, Misfit.UNREADABLE):
        notes += _complaint(plan.run, misfit, [text for kind, text in found if kind is misfit], policy)
    clips = zip(plan.tasks, results, strict=True)
    kept = tuple(ComparedClip(task, result) for task, result in clips if not result.misfit)
    return EvaluatedRun(plan.run, plan.metrics, kept, tuple(notes))


def _complaint(run: Run, misfit: Misfit, clips: Sequence[str], policy: Policy) -> list[str]:
    """The note on clips that do not fit; none where all do. Stops with it, where the policy says so."""
    if not clips:
        return []
    words, remedy = misfit.value
    listing = f"run {run.name!r} {words} the reference in {len(clips)} clips: {'; '.join(clips)}"
    if policy.on(misfit) == "error":
        raise UserError(f"{listing}; {remedy}")
    return [f"{listing} (policy: {policy.on(misfit)})"]


def what_it_lacks(
    metric: Definition, run: Run, clips: Sequence[ReferenceClip], packed: Sequence[Sequence[str]], role: str
) -> str:
    """Why a metric cannot be computed for a run whose samples have these columns; empty if it can."""
    for one in (metric.of_reference() if run.name == REFERENCE_RUN else metric).inputs:
        if one.quantity.value.of_samples and len(run.samples) < 2:
            return "one sample has no spread: python -m jobs.predict --samples 5"
        if reason := _lacking(one, run, clips, packed, role):
            return reason
    return no_weights(metric)


def _lacking(one: Input, run: Run, clips: Sequence[ReferenceClip], packed: Sequence[Sequence[str]], role: str) -> str:
    """Why an input is not there; empty if it is."""
    still = next((clip.clip_id for clip in clips if clip.is_portrait), None)
    of_listener = one.whose is not Whose.PREDICTED and one.whose.role(role) == LISTENER
    if still and of_listener and one.quantity is not Quantity.IDENTITY:
        return f"{no_video(still)} to compare with"
    if one.quantity.value.heard and not all(clip.sound for clip in clips):
        return "the reference has no sound of all its clips"
    if one.quantity.is_seen and one.whose is Whose.PREDICTED:
        there = all(sample.videos for sample in run.samples)
        return "" if there else "no videos: python -m jobs.render PRED --out VIDEOS, then --videos VIDEOS"
    if one.quantity.is_seen:
        there = all(clip.video if one.whose is Whose.REFERENCE else clip.speaker_video for clip in clips)
        return "" if there else f"the {one.whose.value} has no videos of all its clips"
    if one.whose is Whose.PREDICTED:
        missing = dict.fromkeys(name for names in packed for name in one.columns(role) if name not in names)
        return f"the predictions hold no column {', '.join(missing)}" if missing else ""
    there = all(one in clip.arrays for clip in clips)
    return "" if there else f"the reference holds no column {', '.join(one.columns(role))}"


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
