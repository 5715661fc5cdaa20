"""A run: what is decided before its first step, kept as ``run.json``, and the files of its folder.

RUN/run.json                listener, preset, settings, inputs, data, z-scores, held-out clips
RUN/checkpoint.safetensors  the weights of the best epoch, or the last where nothing validates
RUN/last.safetensors        weights, optimizer and history after the last whole epoch, to resume from
RUN/previous.safetensors    the same of the epoch before, where the last one's is damaged
RUN/log.txt, curves.csv, curves.png, tensorboard/

``run.json`` carries a hash of what it says, a checkpoint one of its own and that of its run: what is not what was
written, or belongs to another run, is refused.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.dataset.read import read_description, space_of
from pipeline.plan import digest
from pipeline.settings import as_plain, resolve
from schemas.column import LISTENER, plain_fields
from schemas.errors import UserError
from stages.train.corpus import ClipFrames, Corpus, Scale, ZScores, open_corpus, require_clips, scores_of
from stages.train.inputs import ACOUSTIC_WIDTH, ANEW, NO_LABEL, ColumnShape, Inputs, Origin, inputs_of
from stages.train.listener import Listener, Sizes, TrainingSettings
from stages.train.registry import find_listener, find_listeners
from stages.train.whole_files import read_sealed, write_sealed

FORMAT_VERSION = 1
MAX_RUN_BYTES = 2**28
LEAST_PART = 3  # validation takes no more than one part in so many
SPLITS = ("train", "val")  # what training may see; test and ood are for the end
LONGER = ("epochs", "iterations")  # settings that may change when a run goes on
UNSEALED = (  # all that run.json said before it carried a hash
    "format_version", "listener", "preset", "settings", "inputs", "data", "vocabulary", "held_out", "scores", "sizes",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What ``run.json`` says.

    Attributes
    ----------
    data : folder of each data set -> fingerprints of its shards.
    vocabulary : the attitudes that the model knows.
    held_out : ids of the training clips that validate.
    clips : ids of all clips of `SPLITS`; none where the run is of before they were kept.
    """

    listener: str
    preset: str
    settings: Mapping[str, Any]
    inputs: Inputs
    data: Mapping[str, tuple[str, ...]]
    vocabulary: tuple[str, ...]
    held_out: tuple[str, ...]
    scores: ZScores
    clips: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """A hash of all that stays as it is when the run goes on; empty for one of before checkpoints carried it.

        A field that comes later must be left out where it has its default, as `plain_fields` does with the role.
        """
        kept = {key: value for key, value in self.settings.items() if key not in LONGER}
        return digest(asdict(replace(self, settings=kept), dict_factory=plain_fields)) if self.clips else ""

    @property
    def roots(self) -> list[Path]:
        return [Path(root) for root in self.data]

    @property
    def sizes(self) -> Sizes:
        """The widths for which the listener is made."""
        extra = {name: (self.inputs.shapes[name].fixed or (1,))[-1] for name in self.inputs.extra}
        return Sizes(self.inputs.layout, ACOUSTIC_WIDTH, len(self.vocabulary), extra)

    def resolved(self) -> TrainingSettings:
        """The settings as the listener's own class."""
        return resolve(self.listener, find_listener(self.listener).Settings, self.settings)

    def build(self) -> Listener:
        """The listener with fresh weights."""
        return find_listener(self.listener)(self.resolved(), self.sizes)


class RunFolder:
    """Names of a run's files, and ``run.json``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.description = root / "run.json"
        self.checkpoint = root / "checkpoint.safetensors"
        self.last = root / "last.safetensors"
        self.previous = root / "previous.safetensors"
        self.weights = {"best": self.checkpoint, "last": self.last}  # those that predict
        self.log = root / "log.txt"
        self.frames = root / "frames"  # the corpus while a training runs

    def write(self, run: Run) -> None:
        write_sealed(self.description, {"format_version": FORMAT_VERSION, **asdict(run, dict_factory=plain_fields)})

    def read(self) -> Run:
        """The run of this folder; `UserError` if there is none, or its description is damaged."""
        if not self.description.is_file():
            raise UserError(f"{self.description}: missing; this folder holds no run: {ANEW}")
        try:
            return _run_of(read_sealed(self.description, MAX_RUN_BYTES, UNSEALED))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise UserError(f"{self.description}: describes no run: {type(error).__name__}: {error}; {ANEW}") from None


def _run_of(plain: Any) -> Run:
    """The run that a file describes; ``sizes``, which older files repeat beside their inputs, are not looked at."""
    if plain["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format_version: expected {FORMAT_VERSION}, found {plain['format_version']!r}")
    inputs, scores = plain["inputs"], plain["scores"]
    read = Inputs(
        order=inputs["order"], extra=_texts(inputs["extra"]), fps=inputs["fps"], attitudes=_texts(inputs["attitudes"]),
        shapes={name: ColumnShape(s["dtype"], tuple(s["axes"])) for name, s in inputs["shapes"].items()},
        makers={stage: Origin(_texts(o["columns"]), o["made"]) for stage, o in inputs["makers"].items()},
        role=inputs.get("role", LISTENER), own=_texts(inputs.get("own", [])),
    )  # fmt: skip
    run = Run(
        listener=plain["listener"], preset=plain["preset"], settings=dict(plain["settings"]), inputs=read,
        data={root: _texts(prints) for root, prints in plain["data"].items()}, vocabulary=_texts(plain["vocabulary"]),
        held_out=_texts(plain["held_out"]), scores=ZScores(_scale(scores["motion"]), _scale(scores["audio"])),
        clips=_texts(plain.get("clips", [])),
    )  # fmt: skip
    found = [len(numbers) for scale in (run.scores.motion, run.scores.audio) for numbers in (scale.mean, scale.std)]
    if found != (wanted := [run.sizes.coefficients] * 2 + [run.sizes.audio] * 2):
        raise ValueError(f"scores: expected {wanted} numbers, found {found}")
    return run


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"expected a list of text, found {values!r:.80}")
    return tuple(values)


def _scale(plain: Mapping[str, Any]) -> Scale:
    return Scale(**{name: tuple(float(number) for number in plain[name]) for name in ("mean", "std")})


def begin_run(
    roots: Sequence[Path],
    name: str,
    preset: str,
    overrides: Mapping[str, Any],
    folder: RunFolder,
    role: str = LISTENER,
) -> Run:
    """Decide on a run and write its ``run.json``; the frames are decoded into the folder on the way.

    Parameters
    ----------
    preset : one of the listener's, empty for its defaults.
    role : whose motion is predicted.

    Raises
    ------
    UserError : unknown listener, preset or setting, or data that it cannot read; says which.
    """
    listener = find_listener(name)
    if preset and preset not in listener.presets:
        found = f"unknown preset {preset!r}; its presets: {', '.join(listener.presets) or 'none'}"
        raise UserError(f"listener {name!r}: {found}; python -m jobs.train --help")
    if role not in listener.roles:
        able = ", ".join(other for other, model in find_listeners().items() if role in model.roles)
        raise UserError(f"listener {name!r} predicts no {role}; choose one that does: {able}")
    chosen = {**listener.presets.get(preset, {}), **listener.roles[role], **overrides}
    settings = resolve(name, listener.Settings, chosen)
    if settings.order == "auto":
        settings = replace(settings, order=space_of(roots[0]).order)
    inputs = inputs_of(roots, settings.order, listener.reads(settings), role, settings.sound)
    corpus = _open_frames(roots, inputs, folder)
    held_out = _held_out(corpus.clips, settings)
    training = [clip for clip in corpus.clips if clip.clip_id not in held_out]
    unlabelled = any(clip.attitude == NO_LABEL for clip in training)
    run = Run(
        listener=name, preset=preset, settings=as_plain(settings), inputs=inputs, data=_data(roots),
        vocabulary=(*inputs.attitudes, *([NO_LABEL] if unlabelled else [])), held_out=tuple(sorted(held_out)),
        scores=scores_of(corpus, training), clips=tuple(sorted(corpus.clip_ids)),
    )  # fmt: skip
    for state in (folder.checkpoint, folder.last, folder.previous):
        state.unlink(missing_ok=True)  # of a run whose description was taken away
    folder.write(run)
    return run


def continue_run(
    roots: Sequence[Path], name: str, overrides: Mapping[str, Any], folder: RunFolder, role: str = LISTENER
) -> Run:
    """The run of a folder, to be gone on with; more ``epochs`` or ``iterations`` may be asked for, all else stays.

    Raises
    ------
    UserError : it is another listener's or another role's, or its data or settings have changed since.
    """
    run = folder.read()
    if run.listener != name:
        raise UserError(f"{folder.root}: a run of {run.listener!r}; --listener asks for {name!r}; {ANEW}")
    if run.inputs.role != role:
        raise UserError(f"{folder.root}: a run that predicts the {run.inputs.role}; --role asks for the {role}; {ANEW}")
    if not run.clips:
        found = "it is of before runs and checkpoints carried hashes: it predicts, but is not gone on with"
        raise UserError(f"{folder.root}: {found}; {ANEW}")
    require_data(run, roots)
    for key, value in overrides.items():
        if key not in LONGER and run.settings.get(key) != value:
            now = run.settings.get(key)
            raise UserError(f"{folder.root}: {key} is {now!r} in this run and cannot be changed; {ANEW}")
    run = replace(run, settings={**run.settings, **overrides})
    run.resolved()
    require_clips(run.clips, _open_frames(run.roots, run.inputs, folder).clip_ids, ANEW)
    folder.write(run)
    return run


def _open_frames(roots: Sequence[Path], inputs: Inputs, folder: RunFolder) -> Corpus:
    """Decode what training may see into the run's folder, anew: what lies there may be of other clips, or damaged."""
    shutil.rmtree(folder.frames, ignore_errors=True)
    return open_corpus(roots, inputs, SPLITS, folder.frames)


def fingerprints(root: Path) -> tuple[str, ...]:
    """The fingerprints of a data set's shards."""
    return tuple(shard.fingerprint for shard in read_description(root).shards)


def _data(roots: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    return {str(root): fingerprints(root) for root in roots}


def require_data(run: Run, roots: Sequence[Path]) -> None:
    """Raise `UserError` unless data sets are those that a run learns from, as it found them."""
    if _data(roots) != dict(run.data):
        raise UserError(f"the run learns from {', '.join(run.data)}; these data have changed; {ANEW}")


def _held_out(clips: Sequence[ClipFrames], settings: TrainingSettings) -> set[str]:
    """Ids of the clips that validate: those of the split ``val``, else a share of the training clips.

    The seed is no part of the draw, so that trainings of several seeds can be compared.
    """
    if chosen := {clip.clip_id for clip in clips if clip.split == "val"}:
        return chosen
    share = settings.validation_share
    if settings.held_out == "none" or not share:
        return set()
    return (_some_clips if settings.held_out == "clips" else _some_listeners)(clips, share)


def _some_clips(clips: Sequence[ClipFrames], share: float) -> set[str]:
    """Clips in a drawn order, of people with further ones: nobody whom a test clip may show stays unseen.

    At least one, unless that is more than a third; of anybody where nobody has two.
    """
    order = sorted(clips, key=lambda clip: _draw(clip.clip_id))
    room = max(int(share * len(clips)), int(len(clips) >= LEAST_PART))
    left = Counter(clip.person_id for clip in clips)
    chosen: list[str] = []
    for clip in order:
        if len(chosen) < room and left[clip.person_id] > 1:
            chosen.append(clip.clip_id)
            left[clip.person_id] -= 1
    return set(chosen or [clip.clip_id for clip in order[:room]])


def _some_listeners(clips: Sequence[ClipFrames], share: float) -> set[str]:
    """All clips of listeners in a drawn order, as long as the share is not passed.

    If that is nobody, it is the listener with the fewest clips, unless these are more than a third.
    """
    counts = Counter(clip.person_id for clip in clips)
    order = sorted(counts, key=_draw)
    room = share * len(clips)
    people: set[str] = set()
    for person in order:
        if counts[person] <= room:
            room -= counts[person]
            people.add(person)
    fewest = min(order, key=lambda person: counts[person])
    if not people and counts[fewest] * LEAST_PART <= len(clips):
        people = {fewest}
    return {clip.clip_id for clip in clips if clip.person_id in people}


def _draw(name: object) -> bytes:
    return hashlib.sha256(f"{name}".encode()).digest()
