"""The plan of a run: everything that is decided before the first step, as ``run.json`` records it."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.dataset.read import read_description
from pipeline.settings import as_plain, resolve
from schemas.errors import UserError
from stages.train.corpus import ClipFrames, Corpus, open_corpus
from stages.train.inputs import NO_LABEL, Inputs, inputs_of
from stages.train.listener import Listener, TrainingSettings
from stages.train.registry import find_listener
from stages.train.run_folder import Run, RunFolder
from stages.train.zscores import scores_of

LEAST_PART = 3  # validation takes no more than one part in so many
SPLITS = ("train", "val")  # what training may see; test and ood are for the end


def plan_run(roots: Sequence[Path], name: str, preset: str, overrides: Mapping[str, Any], folder: RunFolder) -> Run:
    """Decide on a run and write its ``run.json``; the frames are decoded into the folder on the way.

    Parameters
    ----------
    preset : one of the listener's, empty for its defaults.

    Raises
    ------
    UserError : unknown listener, preset or setting, or data that it cannot read; says which.
    """
    listener = find_listener(name)
    settings = resolve_settings(name, listener, preset, overrides)
    inputs = inputs_of(roots, listener.layout(settings), listener.reads)
    corpus = open_frames(roots, inputs, folder)
    held_out = _held_out(corpus.clips, settings)
    training = [clip for clip in corpus.clips if clip.clip_id not in held_out]
    unlabelled = any(clip.attitude == NO_LABEL for clip in training)
    vocabulary = (*inputs.attitudes, *([NO_LABEL] if unlabelled else []))
    run = Run(
        listener=name,
        preset=preset,
        settings=as_plain(settings),
        inputs=inputs,
        data={str(root): fingerprints(root) for root in roots},
        vocabulary=vocabulary,
        held_out=tuple(sorted(held_out)),
        scores=scores_of(corpus, training),
    )
    folder.write(run)
    return run


def continue_run(roots: Sequence[Path], name: str, overrides: Mapping[str, Any], folder: RunFolder) -> Run:
    """The run of a folder, to be gone on with; more ``epochs`` may be asked for, all else stays.

    Raises
    ------
    UserError : it is another listener's, or its data or settings have changed since.
    """
    run = folder.read()
    if run.listener != name:
        raise UserError(f"{folder.root}: a run of {run.listener!r}; --listener asks for {name!r}")
    if {str(root): fingerprints(root) for root in roots} != dict(run.data):
        raise UserError(f"{folder.root}: the run learns from {', '.join(run.data)}; these data have changed")
    for key, value in overrides.items():
        if key != "epochs" and run.settings.get(key) != value:
            raise UserError(f"{folder.root}: {key} is {run.settings.get(key)!r} in this run and cannot be changed")
    run = replace(run, settings={**run.settings, **overrides})
    run.resolved()
    open_frames(run.roots, run.inputs, folder)
    folder.write(run)
    return run


def open_frames(roots: Sequence[Path], inputs: Inputs, folder: RunFolder) -> Corpus:
    """Decode what training may see into the run's folder, anew: clips may have been withdrawn since."""
    shutil.rmtree(folder.frames, ignore_errors=True)
    return open_corpus(roots, inputs, SPLITS, folder.frames)


def resolve_settings(
    name: str, listener: type[Listener], preset: str, overrides: Mapping[str, Any]
) -> TrainingSettings:
    """The listener's defaults, then the preset's values, then what the user sets."""
    if preset and preset not in listener.presets:
        known = ", ".join(listener.presets) or "none"
        raise UserError(f"listener {name!r}: unknown preset {preset!r}; its presets: {known}")
    given = {**listener.presets.get(preset, {}), **overrides}
    settings: TrainingSettings = resolve(name, listener.Settings, given)
    return settings


def fingerprints(root: Path) -> list[str]:
    """The fingerprints of a data set's shards."""
    return [shard.fingerprint for shard in read_description(root).shards]


def _held_out(clips: Sequence[ClipFrames], settings: TrainingSettings) -> set[str]:
    """Ids of the clips that validate: those of the split ``val``, else all training clips of some listeners.

    Listeners are taken in an order drawn from the seed, as long as the share is not passed. If that is nobody, it is
    the listener with the fewest clips, unless these are more than a third.
    """
    if any(clip.split == "val" for clip in clips):
        return {clip.clip_id for clip in clips if clip.split == "val"}
    counts = Counter(clip.listener_id for clip in clips)
    order = sorted(counts, key=lambda person: hashlib.sha256(f"{settings.seed}:{person}".encode()).digest())
    room = settings.validation_share * len(clips)
    people: set[str] = set()
    for person in order:
        if counts[person] <= room:
            room -= counts[person]
            people.add(person)
    fewest = min(order, key=lambda person: counts[person])
    if settings.validation_share and not people and counts[fewest] * LEAST_PART <= len(clips):
        people = {fewest}
    return {clip.clip_id for clip in clips if clip.listener_id in people}
