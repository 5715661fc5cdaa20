"""What a training says: lines for screen and ``log.txt``, a bar on a terminal, curves as CSV, PNG and TensorBoard."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from stages.train.run_folder import RunFolder
from stages.train.whole_files import write_whole

BAR_EVERY_S = 0.5  # reading the loss off a GPU makes the GPU wait
LINE_EVERY_S = 10.0


class Log:
    """Lines; without a path nothing is said."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def say(self, line: str) -> None:
        if self.path is not None:
            print(line, flush=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")


class Progress:
    """The progress of one epoch."""

    def __init__(self, epoch: int, windows: int, log: Log) -> None:
        self.epoch, self.windows, self.log = epoch, windows, log
        self.done = 0
        self.started = self.last = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self.log.path is not None and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=self.windows, desc=f"epoch {self.epoch + 1}", unit="window", leave=False)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, windows: int, sums: Mapping[str, Tensor], frames: Tensor) -> None:
        """Take in a batch; ``sums`` are those of the loss's terms over ``frames``."""
        self.done += windows
        now = time.monotonic()
        if self.log.path is None or now - self.last < (BAR_EVERY_S if self._bar is not None else LINE_EVERY_S):
            return
        self.last = now
        loss = float(sum(sums.values()) / frames.clamp(min=1))
        if self._bar is not None:
            self._bar.n = self.done
            self._bar.set_postfix_str(f"loss {loss:.4f}")
        else:
            done = f"{self.done} of {self.windows} windows, {self.rate():.0f} windows/s"
            self.log.say(f"epoch {self.epoch + 1}: {done}, loss {loss:.4f}")

    def rate(self) -> float:
        """Windows a second so far."""
        return self.done / max(time.monotonic() - self.started, 1e-9)


class Curves:
    """Writes the figures of every epoch; those of earlier sittings are ``rows``."""

    def __init__(self, folder: RunFolder, rows: Sequence[dict[str, float]], log: Log) -> None:
        from tensorboardX import SummaryWriter

        self.root, self.log, self.rows = folder.root, log, list(rows)
        # what a killed sitting wrote after its last checkpoint is not shown
        self._writer = SummaryWriter(str(self.root / "tensorboard"), purge_step=len(rows) + 1 if rows else None)
        self._said = 0.0

    def __enter__(self) -> Curves:
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()
        if self.rows:
            write_whole(self.root / "curves.csv", self._tabulate)
            write_whole(self.root / "curves.png", self._draw)
            self.log.say(_sentence(self.rows[-1]))

    def add(self, row: dict[str, float]) -> None:
        """Take in the figures of an epoch."""
        self.rows.append(row)
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(row["epoch"]))
        if time.monotonic() - self._said >= LINE_EVERY_S:
            self._said = time.monotonic()
            write_whole(self.root / "curves.csv", self._tabulate)
            self.log.say(_sentence(row))

    def _tabulate(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.rows[-1]), restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows)

    def _draw(self, path: Path) -> None:
        from matplotlib.figure import Figure

        axes = (figure := Figure(figsize=(7, 4))).subplots()
        for name in ("loss", "validation"):
            if name in self.rows[-1]:
                axes.plot([row["epoch"] for row in self.rows], [row[name] for row in self.rows], label=name)
        axes.set(xlabel="epoch", ylabel="loss", yscale="log")
        axes.legend()
        figure.savefig(path, format="png", dpi=100, metadata={"Software": None})


def _sentence(row: dict[str, float]) -> str:
    validation = f", validation {row['validation']:.4f}" if "validation" in row else ""
    return f"epoch {row['epoch']:.0f}: loss {row['loss']:.4f}{validation}, {row['windows_a_second']:.0f} windows/s"
