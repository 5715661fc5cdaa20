"""Prediction: a trained run, or several as an ensemble, says what the listeners, or speakers, of a data set do.

What comes out is a data set: shards of the same schema, and a ``dataset.json`` that says whose they are. The predicted
person's own motion does not get to the model, but for the reference frame: the first one with valid coefficients, or
none where the run has a neutral start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.dataset.read import columns_of, read_clips, read_description
from pipeline.dataset.store import Store
from pipeline.dataset.write import write_dataset
from pipeline.sources.takedown import copy_takedown
from pipeline.weights import file_sha256
from schemas.clip import CLIP_COLUMNS
from schemas.column import FRAME_AXIS, ROLES, plain_fields
from schemas.dataset import PREDICTED, Predicted
from schemas.errors import UserError
from stages.train.checkpoint import load_weights
from stages.train.corpus import Corpus, clip_arrays, one_clip, open_corpus
from stages.train.inputs import MIX, NO_LABEL, OWN, Inputs, check_alike, inputs_of
from stages.train.listener import Batch
from stages.train.run_folder import Run, RunFolder, fingerprints
from stages.train.windows import draw_seed, to_device, whole_clips

MANIFEST = tuple(column.name for column in CLIP_COLUMNS)
CLOSED = 0.5  # probability from which eyes are closed


@dataclass(frozen=True)
class Draw:
    """What a stochastic listener's draws depend on, besides the clip."""

    seed: int = 0
    sample: int = 0


@dataclass(frozen=True)
class Request:
    """What is to be predicted.

    Attributes
    ----------
    root : the data set, which is also the reference to score against.
    attitude : taken for all clips instead of their own, if not empty.
    sound : ``own``, or ``another``: each clip is heard with that of the next one, if possible of another speaker
        (Zhou et al., ECCV 2022, table 5, "wrong audio").
    draw : seed and number of the sample.
    """

    root: Path
    splits: tuple[str, ...]
    attitude: str = ""
    sound: str = "own"
    draw: Draw = Draw()


class Predictor:
    """A run's listener, ready to predict clips.

    Parameters
    ----------
    checkpoint : ``best`` (the last where nothing validated) or ``last``.
    """

    def __init__(self, folder: RunFolder, device: torch.device, checkpoint: str = "best") -> None:
        self.folder, self.device = folder, device
        self.weights = folder.weights[checkpoint]
        self.run: Run = folder.read()
        self.validation: float | None = None  # loss of the weights that predict
        self.model = self.run.build().to(device)
        if self.model.learned:
            if not self.weights.is_file():
                raise UserError(f"{self.weights}: missing; finish the training: python -m jobs.train --resume")
            note = load_weights(self.weights, self.model, self.run.identity)
            self.validation = note.get("rows", [note])[-1].get("validation")
        else:
            corpus = open_corpus(self.run.roots, self.run.inputs, ("train",))
            self.model.remember([to_device(batch, device) for batch in self._whole(corpus)])
        self.model.eval()

    def check(self, root: Path) -> None:
        """Raise `UserError` or `MixedCoefficientsError` if the run cannot read a data set."""
        inputs = self.run.inputs
        sound = OWN if inputs.own else MIX
        check_alike(root, inputs_of([root], inputs.order, inputs.extra, inputs.role, sound), inputs)

    def account(self) -> dict[str, Any]:
        """Who predicts, for ``dataset.json``."""
        run, weights = self.run, file_sha256(self.weights) if self.model.learned else ""
        names = {"listener": run.listener, "preset": run.preset, "run": str(self.folder.root), "sha256": weights}
        return {**names, "causal": self.model.causal, "start": run.settings["start"]}

    @property
    def measured_on(self) -> tuple[Any, ...]:
        """What losses of validation depend on: alike, they can be compared."""
        run = self.run
        return run.listener, {**run.settings, "seed": None}, run.data, run.held_out

    def predict(self, row: Mapping[str, Any], draw: Draw) -> tuple[np.ndarray, np.ndarray | None]:
        """Raw motion (frame, coefficients) and probability of closed eyes (frame,) of a clip, from its columns."""
        batch = self._batch(row)
        seed = draw_seed("prediction", draw.seed, draw.sample, row["clip_id"])
        torch.manual_seed(seed)
        with torch.inference_mode():
            said = self.model.predict(batch, torch.Generator(self.device).manual_seed(seed))
        motion = self.run.scores.motion.from_z(said.motion[0].double()).float()
        return motion.cpu().numpy(), None if said.blink is None else said.blink[0].float().cpu().numpy()

    def _batch(self, row: Mapping[str, Any]) -> Batch:
        run, label = self.run, row["attitude"] or NO_LABEL
        if label not in run.vocabulary:
            wrong = f"attitude: expected {', '.join(run.vocabulary)}, found {label}"
            raise UserError(f"clip {row['clip_id']!r}: {wrong}; name one for all clips with --attitude")
        arrays = blind(clip_arrays(row, run.inputs), run.inputs)
        (batch,) = self._whole(one_clip(row["clip_id"], label, arrays, run.inputs))
        return to_device(replace(batch, listener=torch.zeros_like(batch.listener)), self.device)

    def _whole(self, corpus: Corpus) -> list[Batch]:
        """The clips of attitudes that the run knows, each a batch of one."""
        run = self.run
        clips = [clip for clip in corpus.clips if clip.attitude in run.vocabulary]
        windows = whole_clips(corpus, clips, run.scores, run.vocabulary, run.resolved())
        return [windows.batch(np.array([i])) for i in range(len(windows))]


def best(predictors: Sequence[Predictor], count: int) -> list[Predictor]:
    """The runs with the least validation losses, the best first.

    Raises
    ------
    UserError : one of them was not validated, or otherwise than the first: with other clips or settings.
    """
    for predictor in predictors:
        if predictor.validation is None:
            found = "nothing validated this run, so it cannot be compared"
            raise UserError(f"{predictor.folder.root}: {found}; train with --set held_out=clips or a split val")
        if predictor.measured_on != predictors[0].measured_on:
            found = "its listener, settings, data or held-out clips differ"
            raise UserError(
                f"{predictor.folder.root}: cannot be compared with {predictors[0].folder.root}: {found}; train with "
                "python -m jobs.train ... --seeds 10"
            )
    return sorted(predictors, key=lambda predictor: predictor.validation or 0.0)[:count]


def predict_clip(predictors: Sequence[Predictor], row: Mapping[str, Any], draw: Draw) -> dict[str, np.ndarray]:
    """Columns of the predicted role, the mean over all predictors: ``listener_exp`` ... and ``listener_blink``."""
    said = [predictor.predict(row, draw) for predictor in predictors]
    motion = np.mean([motion for motion, _ in said], axis=0, dtype=np.float64).astype(np.float32)
    layout, role = predictors[0].run.inputs.layout, predictors[0].run.inputs.role
    columns = {f"{role}_{name}": values for name, values in layout.split(motion).items()}
    if blinks := [blink for _, blink in said if blink is not None]:
        columns[f"{role}_blink"] = np.mean(blinks, axis=0) >= CLOSED
    return columns


def blind(arrays: Mapping[str, np.ndarray], inputs: Inputs) -> dict[str, np.ndarray]:
    """A clip's arrays, of who is predicted the reference frame alone, and zeros for this person's other columns."""
    frames, width = len(arrays["audio"]), arrays["listener"].shape[1]  # of a listener there may be one alone
    known = np.flatnonzero(np.isfinite(arrays["listener"]).all(axis=1))
    reference = arrays["listener"][known[0]] if len(known) else np.full(width, np.nan, np.float32)
    seen = {**arrays, "listener": reference, "speaker": arrays["speaker"]}
    seen |= {name: np.broadcast_to(seen[name], (frames, width)) for name in ROLES}
    for name in inputs.extra:
        if name.startswith(f"{inputs.role}_") and name not in inputs.per_clip:
            seen[name] = np.zeros((frames, *arrays[name].shape[1:]), arrays[name].dtype)
    return seen


def write_predictions(predictors: Sequence[Predictor], request: Request, out: Path) -> int:
    """Predict all clips of the request into the data set ``out``; returns their number.

    Raises
    ------
    UserError : the runs have different orders, cannot read the data set, or there are no such clips.
    MixedCoefficientsError : the data set's coefficients are another fitter's than the runs'.
    """
    check(predictors, request.root)
    reference = read_description(request.root)
    rows = list(_predicted(predictors, request))
    if not rows:
        wanted, held = " or ".join(request.splits), ", ".join(reference.splits_held()) or "none"
        raise UserError(f"{request.root}: no clips in the split {wanted}, found {held}; name one with --split")
    predicted = _account(predictors, request)
    columns = columns_of(request.root, [name for name in rows[0] if name not in MANIFEST])
    stages = {name: maker for name, maker in reference.stages.items() if any(c in columns for c, _ in maker.writes)}
    write_dataset(
        out, rows, list(columns.values()), name=f"{reference.name}_predicted", kind=PREDICTED, stages=stages,
        identity=[asdict(predicted, dict_factory=plain_fields), fingerprints(request.root)], fps=reference.fps,
        sample_rate_hz=reference.sample_rate_hz, predicted=predicted,
    )  # fmt: skip
    copy_takedown(request.root, Store(out))
    return len(rows)


def check(predictors: Sequence[Predictor], root: Path) -> None:
    """Raise if the runs have different roles or orders of motion, or one of them cannot read the data set."""
    kinds = {one.folder.root: f"{one.run.inputs.order} of the {one.run.inputs.role}" for one in predictors}
    if len(set(kinds.values())) > 1:
        found = ", ".join(f"{root}: {kind}" for root, kind in kinds.items())
        raise UserError(
            f"an ensemble needs runs of one role and order of motion, found {found}; predict with each alone"
        )
    for predictor in predictors:
        predictor.check(root)


def _account(predictors: Sequence[Predictor], request: Request) -> Predicted:
    members = tuple(predictor.account() for predictor in predictors)
    listener = "+".join(dict.fromkeys(member["listener"] for member in members))
    joined = {name: " ".join(member[name] for member in members) for name in ("run", "sha256")}
    causal, role = all(member["causal"] for member in members), predictors[0].run.inputs.role
    asked = {**asdict(request.draw), "attitude": request.attitude or "as in the reference", "sound": request.sound}
    return Predicted(listener, role, **joined, members=members, causal=causal, **asked, reference=str(request.root))


def _sounds_of_others(predictors: Sequence[Predictor], request: Request) -> dict[str, dict[str, np.ndarray]]:
    """Clip id -> what is heard (all columns of neither person) in the next clip of another speaker, else in the next.

    A sound that is too short begins again.
    """
    read = [predictor.run.inputs for predictor in predictors]
    shapes = {
        inputs.stored(name): shape
        for inputs in read
        for name, shape in inputs.shapes.items()
        if not name.startswith(tuple(f"{role}_" for role in ROLES))
    }
    heard = list(shapes)
    rows = list(read_clips(request.root, heard, request.splits))
    if len(rows) == 1:
        raise UserError(f"{request.root}: holds one clip of the split; --sound another needs two")
    found = {}
    for place, row in enumerate(rows):
        others = rows[place + 1 :] + rows[:place]
        other = next((other for other in others if other["speaker_id"] != row["speaker_id"]), others[0])
        found[row["clip_id"]] = {name: other[name] for name in heard} | {
            name: np.resize(other[name], (row["num_frames"], *other[name].shape[1:]))
            for name in heard
            if shapes[name].axes[:1] == (FRAME_AXIS,)
        }
    return found


def _predicted(predictors: Sequence[Predictor], request: Request) -> Iterator[dict[str, Any]]:
    """Rows of the wanted clips: the manifest's columns and the predicted ones."""
    columns = list(dict.fromkeys(name for predictor in predictors for name in predictor.run.inputs.columns))
    sounds = _sounds_of_others(predictors, request) if request.sound == "another" else {}
    for row in read_clips(request.root, columns, request.splits, portraits="take"):
        seen = {**row, **sounds.get(row["clip_id"], {}), "attitude": request.attitude or row["attitude"]}
        yield {**{name: seen[name] for name in MANIFEST}, **predict_clip(predictors, seen, request.draw)}
