"""The curves of a training: lines in the log, ``curves.csv``, ``curves.png`` and TensorBoard."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.train.progress import Log
from stages.train.run_folder import RunFolder, write_whole

SAY_EVERY_S = 10.0


class Curves:
    """Writes the figures of every epoch; those of earlier sittings are ``rows``."""

    def __init__(self, folder: RunFolder, rows: Sequence[dict[str, float]], log: Log) -> None:
        self.root, self.log = folder.root, log
        self.rows = list(rows)
        self._writer: Any = None
        self._said = 0.0

    def __enter__(self) -> Curves:
        from tensorboardX import SummaryWriter

        epochs = len(self.rows)  # what a killed sitting wrote after its last checkpoint is not shown
        self._writer = SummaryWriter(str(self.root / "tensorboard"), purge_step=epochs + 1 if epochs else None)
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()
        if self.rows:
            self._write_table()
            write_whole(self.root / "curves.png", self._draw)
            self.log.say(_sentence(self.rows[-1]))

    def add(self, row: dict[str, float]) -> None:
        """Take in the figures of an epoch."""
        self.rows.append(row)
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(row["epoch"]))
        if time.monotonic() - self._said >= SAY_EVERY_S:
            self._said = time.monotonic()
            self._write_table()
            self.log.say(_sentence(row))

    def _write_table(self) -> None:
        def write(path: Path) -> None:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(self.rows[-1]), restval="", extrasaction="ignore")
                writer.writeheader()
                writer.writerows(self.rows)

        write_whole(self.root / "curves.csv", write)

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
