"""The rows of the papers' ablation tables in the synthetic world: a listener without one of its parts, at a time.

``python -m tests.labs.ablations docs/synthetic_world.md`` writes the table anew; names of rows behind it renew
these alone. Rows with a deviation are means over trainings of three seeds, in the reduced sizes of
`listener_comparison`; the three listeners that take minutes are trained for half as many epochs as there.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.dataset.read import read_clips
from stages.train.prediction import Predictor, Request, write_predictions
from tests.labs.listener_comparison import SPLITS, WORLD, Said, blink, distance, nod, to_z, train_listener, truths

SEEDS = 3
MARKS = ("<!-- ablations -->\n", "\n<!-- end of ablations -->")
COLUMNS = ("listener", "row", "test", "ood", "nods", "blinks", "a training, s")

HSP, ELP, MFR = {"epochs": 5}, {"epochs": 10}, {"epochs": 20}


@dataclass(frozen=True)
class Row:
    """A row of a paper's table: a listener's settings, and what is different in prediction."""

    listener: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    sound: str = "own"
    together: bool = False  # the trainings are an ensemble, instead of a mean of figures
    seeds: int = SEEDS


ROWS = [
    Row("vico_lstm", "ours"),
    Row("vico_lstm", "audio only", {"inputs": "audio"}),
    Row("vico_lstm", "visual only", {"inputs": "visual"}),
    Row("vico_lstm", "wrong audio", sound="another", seeds=1),
    Row("pchg", "final model", {"members": 0}),
    Row("pchg", "w/o BN", {"members": 0, "norm": False}, seeds=1),
    Row("pchg", "w/o residual", {"members": 0, "residual": False}, seeds=1),
    Row("pchg", "w/o dropout", {"members": 0, "dropout": 0.0}, seeds=1),
    Row("pchg", "batch size 8", {"members": 0, "batch_size": 8}, seeds=1),
    Row("pchg", "batch size 32", {"members": 0, "batch_size": 32}, seeds=1),
    Row("pchg", "batch size 128", {"members": 0, "batch_size": 128}, seeds=1),
    Row("pchg", "self ensemble (3x)", {"members": 3}, seeds=1),
    Row("pchg", "cross-model ensemble (3x)", {"members": 0}, together=True),
    Row("hsp", "all encoders", HSP, seeds=1),
    Row("hsp", "w/o words", {**HSP, "text_encoder": False}, seeds=1),
    Row("hsp", "w/o the speaker's motion", {**HSP, "visual_encoder": False}, seeds=1),
    Row("hsp", "45 features alone, no ResNet, no words", {**HSP, "audio_encoder": "baseline"}, seeds=1),
    Row("hsp", "w/o sound", {**HSP, "audio_encoder": "none"}, seeds=1),
    Row("elp", "U, H = 16", ELP, seeds=1),
    Row("elp", "V, H = 16", {**ELP, "space": "shared"}, seeds=1),
    Row("elp", "U, H = 1", {**ELP, "heads": 1}, seeds=1),
    Row("elp", "U, H = 4", {**ELP, "heads": 4}, seeds=1),
    Row("mfr", "all parts", MFR, seeds=1),
    Row("mfr", "w/o diffusion", {**MFR, "diffusion": False}, seeds=1),
    Row("mfr", "w/o aggregation", {**MFR, "aggregation": "concat"}, seeds=1),
]


@dataclass
class Trained:
    """Listeners trained on the world's shards, each but once."""

    data: Path
    folder: Path
    known: dict[str, tuple[list[Predictor], float]] = field(default_factory=dict)

    def of(self, row: Row) -> tuple[list[Predictor], float]:
        """A row's listeners, one a seed, and the seconds that one took."""
        key = f"{row.listener} {row.settings} {row.seeds}"
        if key not in self.known:
            start, folder = time.monotonic(), self.folder / f"run{len(self.known)}"
            found = [
                train_listener(row.listener, self.data, folder / f"{seed}", **row.settings, seed=seed)
                for seed in range(row.seeds)
            ]
            self.known[key] = found, (time.monotonic() - start) / row.seeds
        return self.known[key]


def measure_row(row: Row, trained: Trained, out: Path) -> list[str]:
    """What a row's listeners say; the cells behind its two names."""
    listeners, seconds = trained.of(row)
    asked = [listeners] if row.together else [[one] for one in listeners]
    figures = [measure(predictors, row.sound, trained.data, out / f"{i}") for i, predictors in enumerate(asked)]
    cells = [f"{mean:.3f}" if len(figures) == 1 else f"{mean:.3f} ± {spread:.3f}" for mean, spread in _means(figures)]
    return [*cells, f"{seconds:.0f}"]


def measure(predictors: Sequence[Predictor], sound: str, data: Path, out: Path) -> list[float]:
    """Distances to the truth in ``test`` and ``ood``, nods and blinks, as `listener_comparison` defines them."""
    write_predictions(predictors, Request(data, SPLITS, sound=sound), out)
    clips = {clip.clip_id: clip for clip in WORLD.list_clips()}
    parts = ("listener_exp", "listener_angle", "listener_trans")
    said = []
    for row in read_clips(out, parts):
        motion = np.concatenate([row[part] for part in parts], axis=1)
        said.append(Said(clips[row["clip_id"]], to_z(predictors[0], motion[None])))
    truth = truths(predictors[0], WORLD)
    distances = [distance(said, truth, split) for split in SPLITS]
    return [*distances, float(np.mean([nod(one) for one in said])), float(np.mean([blink(one) for one in said]))]


def _means(figures: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Mean and deviation over trainings of every figure."""
    return [
        (float(np.mean(one)), float(np.std(one, ddof=1)) if len(one) > 1 else 0.0) for one in zip(*figures, strict=True)
    ]


def renewed(text: str, lines: dict[tuple[str, str], str]) -> str:
    """A document with lines of the table put in, in the order of `ROWS`; the others stay."""
    before, begin, rest = text.partition(MARKS[0])
    table, end, after = rest.partition(MARKS[1])
    known = {tuple(cell.strip("` ") for cell in line.split("|")[1:3]): line for line in table.splitlines()[2:]} | lines
    head = [f"| {' | '.join(COLUMNS)} |", f"| {' | '.join('---' for _ in COLUMNS)} |"]
    body = [known[row.listener, row.name] for row in ROWS if (row.listener, row.name) in known]
    return before + begin + "\n".join([*head, *body]) + end + after


def main(path: Path, names: Sequence[str]) -> None:
    """Measure rows, all or those named, and write them into a document one by one."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trained = Trained(WORLD.write(Path(folder) / "world"), Path(folder))
        for i, row in enumerate(ROWS):
            if not names or f"{row.listener}: {row.name}" in names:
                cells = [f"`{row.listener}`", row.name, *measure_row(row, trained, Path(folder) / f"said{i}")]
                line = f"| {' | '.join(cells)} |"
                print(line, flush=True)
                path.write_text(renewed(path.read_text(), {(row.listener, row.name): line}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
