"""How fast listeners train: a part of ``python -m jobs.bench``.

The data are random numbers (`jobs.study.random_set`); sizes, windows and batches of the models are their defaults.
Figures of a CPU are those of one thread, which is what `jobs.train` takes by default.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.bench.timing import Times, shortest_s
from jobs.study.random_set import Extent, write_random_set
from pipeline.tables import aligned

if TYPE_CHECKING:
    import torch

    from stages.train.windows import Windows

VICO = Extent()  # 483 clips, 95 minutes
SMALL = Extent(clips=64, frames=24_000)  # enough for the steps that are measured
STEPS = 3  # of the optimizer, a model
NAMES = (("vico_lstm", "paper"), ("vico_lstm", "code"), ("pchg", ""), ("hsp", ""), ("elp", ""), ("mfr", ""))


@dataclass(frozen=True)
class Speed:
    """Of one model: windows a step, frames a window, seconds of a step and of gathering its windows from the corpus."""

    windows: int
    frames: int
    step_s: float
    reading_s: float

    def cells(self) -> list[str]:
        """For the table: windows a step, frames a window, windows/s, share of reading in a step."""
        per_s, share = self.windows / self.step_s, self.reading_s / self.step_s
        return [f"{self.windows}", f"{self.frames}", f"{per_s:.0f}", f"{share:.1%}"]


def trainer_table(steps_set: Extent = SMALL, epoch_set: Extent = VICO) -> tuple[str, Times]:
    """Windows/s of the learned listeners, the share of reading in a step, and the time of an epoch of ``vico_lstm``."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    devices = [torch.device(name) for name in ("cpu", *(["cuda"] if torch.cuda.is_available() else []))]
    rows = [["listener", "preset", "device", "windows a step", "frames a window", "windows/s", "reading, of a step"]]
    lines, times = [], Times()
    with tempfile.TemporaryDirectory() as scratch:
        small, large = Path(scratch) / "small", Path(scratch) / "large"
        write_random_set(small, steps_set)
        write_random_set(large, epoch_set)
        for device in devices:
            for name, preset in NAMES:
                speed = measure_steps(small, Path(scratch) / f"{name}-{preset}-{device.type}", (name, preset), device)
                rows.append([name, preset, device.type, *speed.cells()])
                times[f"{name} {preset}, {device.type}, a window"] = 1000 * speed.step_s / speed.windows
            taken = measure_epoch(large, Path(scratch) / f"epoch-{device.type}", device)
            times[f"epoch of vico_lstm, {device.type}"] = 1000 * taken / epoch_set.frames
            size = f"{epoch_set.clips} clips of {epoch_set.frames} frames together"
            lines.append(f"vico_lstm: an epoch on the train split of {size} takes {taken:.1f} s ({device.type})")
    torch.set_num_threads(threads)
    if len(devices) == 1:
        lines.append("No GPU at hand: the figures on GPUs are not measured here.")
    return aligned(rows) + "\n\n" + "\n".join(lines), times


def measure_steps(root: Path, out: Path, listener: tuple[str, str], device: torch.device) -> Speed:
    """Train a listener, given by name and preset, for some steps after one that warms up."""
    from stages.train.corpus import open_corpus
    from stages.train.loop import Trainer, Worker
    from stages.train.run_folder import SPLITS, RunFolder, begin_run
    from stages.train.training_log import Log
    from stages.train.windows import epoch_batches, to_device, training_windows

    folder = RunFolder(out)
    run = begin_run([root], *listener, {}, folder)
    corpus = open_corpus(run.roots, run.inputs, SPLITS, folder.frames)
    trainer = Trainer(run, Worker(device), Log(None))
    windows = training_windows(corpus, corpus.clips, run.scores, run.vocabulary, trainer.settings)
    size = trainer.settings.batch_size

    def read() -> None:
        """Gather and move the same batches."""
        for picks in epoch_batches(len(some), trainer.settings, 1):
            to_device(some.batch(picks), trainer.worker.device)

    trainer.epoch(_first(windows, size), 0)
    some = _first(windows, STEPS * size)
    steps = len(some) / size
    training_s = shortest_s(lambda: trainer.epoch(some, 1))  # the device is done: it ends with a number read off it
    return Speed(size, trainer.settings.window_frames, training_s / steps, shortest_s(read) / steps)


def measure_epoch(root: Path, out: Path, device: torch.device) -> float:
    """Seconds of an epoch of ``vico_lstm`` with its validation and checkpoint, after one that warms up."""
    from stages.train.loop import Worker, train
    from stages.train.run_folder import RunFolder, begin_run

    folder = RunFolder(out)
    begin_run([root], "vico_lstm", "", {"epochs": 2}, folder)
    ends: list[float] = []
    train(folder, Worker(device), lambda _: ends.append(time.perf_counter()))
    return ends[1] - ends[0]


def _first(windows: Windows, count: int) -> Windows:
    of_each = ("first", "frames", "place", "attitude", "room")
    return replace(windows, **{name: getattr(windows, name)[:count] for name in of_each})
