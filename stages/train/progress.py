"""What a training says while it runs: a bar with loss and windows/s on a terminal, lines for screen and file."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

EVERY_S = 0.5  # reading the loss off a GPU makes the GPU wait
LINE_EVERY_S = 10.0


class Log:
    """Lines for the screen and ``log.txt``; without a path nothing is said."""

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
        if self.log.path is None or now - self.last < (EVERY_S if self._bar is not None else LINE_EVERY_S):
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
