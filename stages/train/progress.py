"""What an epoch says while it runs: a bar with loss and windows/s on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

EVERY_S = 0.5  # reading the loss off a GPU makes the GPU wait
LINE_EVERY_S = 10.0


class Progress:
    """The progress of one epoch; silent on workers that do not ``speak``."""

    def __init__(self, epoch: int, windows: int, speak: bool) -> None:
        self.epoch, self.windows, self.speak = epoch, windows, speak
        self.done = 0
        self.started = self.last = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self.speak and sys.stderr.isatty():
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
        if not self.speak or now - self.last < (EVERY_S if self._bar is not None else LINE_EVERY_S):
            return
        self.last = now
        loss = float(sum(sums.values()) / frames.clamp(min=1))
        if self._bar is not None:
            self._bar.n = self.done
            self._bar.set_postfix_str(f"loss {loss:.4f}")
        else:
            done = f"{self.done} of {self.windows} windows, {self.rate():.0f} windows/s"
            print(f"epoch {self.epoch + 1}: {done}, loss {loss:.4f}", flush=True)

    def rate(self) -> float:
        """Windows a second so far."""
        return self.done / max(time.monotonic() - self.started, 1e-9)
