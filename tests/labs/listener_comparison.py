"""All listeners in the synthetic world: trained by the project's own loop, and measured against the rule.

``python -m tests.labs.listener_comparison docs/synthetic_world.md`` writes the table anew. Sizes and epochs are
reduced so that all trainings together take minutes on two cores; what the models are stays as their papers have it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from pipeline.dataset.read import read_clips
from pipeline.tables import markdown_table
from schemas.clip import ATTITUDES
from stages.train.loop import Worker, train
from stages.train.prediction import Draw, Predictor
from stages.train.run_folder import RunFolder, begin_run
from tests.labs.synthetic_world import EYELIDS, PITCH, SMILE, VOCABULARY, World, WorldClip

WORLD = World()
SAMPLES = 8  # of a stochastic listener, and of the truth
SPLITS = ("test", "ood")
NOD = 64 + PITCH

REDUCED: dict[str, dict[str, Any]] = {  # the slowest first, which share the cores longest
    "hsp": {
        "epochs": 10, "batch_size": 48, "learning_rate": 4e-3, "window_frames": 60, "stride_frames": 40,
        "audio_width": 2, "width": 24, "hidden": 32,
    },
    "mfr": {
        "epochs": 40, "learning_rate": 2e-3, "window_frames": 80, "stride_frames": 30, "width": 96, "layers": 2,
        "heads": 4, "dropout": 0.0, "steps": 100, "sampling_steps": 50,
    },
    "elp": {  # whole clips, so that the first frame is as free of a smile as in prediction
        "epochs": 20, "batch_size": 8, "learning_rate": 3e-3, "window_frames": 180, "stride_frames": 180, "heads": 16,
        "codes": 8, "width": 48, "audio_width": 8, "audio_outputs": 32, "channels": 8, "dropout": 0.0,
    },
    "pchg": {"epochs": 12, "batch_size": 16, "width": 64, "hidden": 64},
    "vico_lstm": {"epochs": 12, "batch_size": 16, "learning_rate": 2e-3},
    "random": {}, "simulation": {}, "mirror": {},
}  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What a listener did in a clip: ``motion`` (sample, frame, 70) in z-scores of the training clips."""

    clip: WorldClip
    motion: np.ndarray


@dataclass(frozen=True)
class Scores:
    """A listener's figures; motion in z-scores, spreads relative to the truth's."""

    sample: Mapping[str, float]  # split -> mean absolute difference of one sample to the truth, but for the first frame
    mean: Mapping[str, float]  # the same of the mean over samples, the best answer where the truth cannot be known
    spread: Mapping[str, float]  # variance between samples over that between draws of the truth: smile, nod, eyelids
    smile: Mapping[str, float]  # attitude -> mean of the smile's coefficients when all clips are given that attitude
    nod: float  # mean pitch in pauses less that in speech
    blink: float  # mean of the eyelids in the half second after short words less that after long words


def train_listener(name: str, data: Path, folder: Path, **settings: Any) -> Predictor:
    """A listener trained on the world's shards, in the reduced size."""
    run = RunFolder(folder)
    begin_run([data], name, "", {"order": "paper70", **REDUCED[name], **settings}, run)  # nothing moves the crop
    predictor = run.read().build()
    if predictor.learned:
        train(run, Worker(torch.device("cpu")))
    return Predictor(run, torch.device("cpu"))


def say(predictor: Predictor, world: World, data: Path, attitude: str = "", samples: int = SAMPLES) -> list[Said]:
    """What a listener does in the clips of `SPLITS`; with ``attitude``, if all of them had that one."""
    clips = {clip.clip_id: clip for clip in world.list_clips()}
    draws = samples if predictor.model.stochastic else 1
    said = []
    for row in read_clips(data, predictor.run.inputs.columns):
        if row["split"] in SPLITS:
            asked = {**row, "attitude": attitude or row["attitude"]}
            motion = [predictor.predict(asked, Draw(sample=sample))[0] for sample in range(draws)]
            said.append(Said(clips[row["clip_id"]], to_z(predictor, np.stack(motion))))
    return said


def to_z(predictor: Predictor, motion: np.ndarray) -> np.ndarray:
    return predictor.run.scores.motion.to_z(torch.from_numpy(motion).double()).numpy()


def truths(predictor: Predictor, world: World) -> dict[str, np.ndarray]:
    """Clip id -> the truth of the shards and other draws of it (draw, frame, 70), in z-scores."""
    draws = range(SAMPLES + 1)
    motion = {clip.clip_id: [world.listen(clip, draw).joined() for draw in draws] for clip in tested(world)}
    return {clip_id: to_z(predictor, np.stack(drawn)) for clip_id, drawn in motion.items()}


def tested(world: World) -> list[WorldClip]:
    return [clip for clip in world.list_clips() if clip.split in SPLITS]


def score(said: Sequence[Said], truth: Mapping[str, np.ndarray], smile: Mapping[str, float]) -> Scores:
    others = [Said(one.clip, truth[one.clip.clip_id][1:]) for one in said]  # as many other draws of the truth
    parts = {"smile": SMILE, "nod": slice(NOD, NOD + 1), "eyelids": EYELIDS}
    return Scores(
        sample={split: distance([Said(o.clip, o.motion[:1]) for o in said], truth, split) for split in SPLITS},
        mean={split: distance(said, truth, split) for split in SPLITS},
        spread={name: spread(said, part) / spread(others, part) for name, part in parts.items()},
        smile=smile,
        nod=float(np.mean([nod(one) for one in said])),
        blink=float(np.mean([blink(one) for one in said])),
    )


def distance(said: Sequence[Said], truth: Mapping[str, np.ndarray], split: str) -> float:
    """Mean absolute difference of the mean sample over clips, frames, but for the given first, and coefficients."""
    pairs = [(one.motion.mean(axis=0), truth[one.clip.clip_id][0]) for one in said if one.clip.split == split]
    return float(np.mean([np.abs(motion[1:] - true[1:]).mean() for motion, true in pairs]))


def spread(said: Sequence[Said], part: slice) -> float:
    """Variance between samples, mean over frames and clips; 0 where there is but one."""
    return float(np.mean([one.motion[:, 1:, part].var(axis=0).mean() for one in said]))


def mean_smile(said: Sequence[Said]) -> float:
    return float(np.mean([one.motion[:, 1:, SMILE].mean() for one in said]))


def nod(said: Said) -> float:
    pitch, word = said.motion[..., NOD].mean(axis=0), said.clip.speech.word
    pausing = np.zeros(len(word), bool)
    for start, end in said.clip.speech.pauses:
        pausing[start:end] = True
    return float(pitch[pausing].mean() - pitch[~pausing].mean())


def blink(said: Said) -> float:
    lids = said.motion[..., EYELIDS].mean(axis=(0, 2))
    after: dict[bool, list[float]] = {True: [], False: []}
    for spoken, _, end in said.clip.speech.words:
        if end + 15 <= len(lids):
            after[spoken >= VOCABULARY // 2].append(float(lids[end : end + 15].mean()))
    return float(np.mean(after[False]) - np.mean(after[True])) if after[True] and after[False] else 0.0


def true_smiles(predictor: Predictor, world: World) -> dict[str, float]:
    """Mean smile of the truth when all clips are given an attitude: the world asked with another one."""
    found = {}
    for attitude in ATTITUDES:
        clips = [replace(clip, attitude=attitude) for clip in tested(world)]
        found[attitude] = mean_smile([Said(c, to_z(predictor, world.listen(c, 1).joined()[None])) for c in clips])
    return found


def measure(name: str, world: World, data: Path, folder: Path, settings: Mapping[str, Any]) -> tuple[Scores, float]:
    """Train a listener and measure it; returns its figures and the seconds of its training."""
    torch.set_num_threads(1)
    start = time.monotonic()
    predictor = train_listener(name, data, folder, **settings)
    seconds = time.monotonic() - start
    smiles = {attitude: mean_smile(say(predictor, world, data, attitude, samples=1)) for attitude in ATTITUDES}
    return score(say(predictor, world, data), truths(predictor, world), smiles), seconds


def bounds(predictor: Predictor, world: World) -> dict[str, Scores]:
    """Figures of ``truth``, other draws of it, and of ``still``, the first frame held."""
    truth = truths(predictor, world)
    again = [Said(clip, truth[clip.clip_id][1:]) for clip in tested(world)]
    held = [Said(o.clip, np.repeat(truth[o.clip.clip_id][:1, :1], len(o.clip.speech.word), axis=1)) for o in again]
    still = score(held, truth, dict.fromkeys(ATTITUDES, mean_smile(held)))
    return {"truth": score(again, truth, true_smiles(predictor, world)), "still": still}


def compare(
    world: World,
    data: Path,
    runs: Path,
    names: Sequence[str] = tuple(REDUCED),
    settings: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> tuple[dict[str, Scores], dict[str, float]]:
    """Train and measure listeners, a process each; returns their figures and training times in seconds.

    ``settings`` name -> more than `REDUCED`.
    """
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        asked = {name: pool.submit(measure, name, world, data, runs / name, settings.get(name, {})) for name in names}
        found = {name: answer.result() for name, answer in asked.items()}
    figures = {name: scores for name, (scores, _) in found.items()}
    figures |= bounds(Predictor(RunFolder(runs / names[0]), torch.device("cpu")), world)
    return figures, {name: seconds for name, (_, seconds) in found.items()}


def table(figures: Mapping[str, Scores], seconds: Mapping[str, float]) -> str:
    header = ["listener", "test", "ood", "test, mean", "ood, mean", "spread: smile", "nod", "eyelids"]
    header += [*(f"smile: {attitude}" for attitude in ATTITUDES), "nods", "blinks", "training, s"]
    rows = []
    for name, found in figures.items():
        numbers = [*found.sample.values(), *found.mean.values(), *found.spread.values(), *found.smile.values()]
        cells = [f"{number:.2f}" for number in (*numbers, found.nod, found.blink)]
        rows.append([f"`{name}`", *cells, f"{seconds[name]:.0f}" if name in seconds else ""])
    return markdown_table(header, rows)


def main(path: Path) -> None:
    """Write the table between the marks of a document."""
    with tempfile.TemporaryDirectory() as folder:
        data = WORLD.write(Path(folder) / "world")
        text = table(*compare(WORLD, data, Path(folder) / "runs"))
    before, mark, _ = path.read_text().partition("<!-- table -->\n")
    path.write_text(f"{before}{mark}{text}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
