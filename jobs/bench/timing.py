"""How long work takes, for all benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable


def shortest_s(work: Callable[[], object], rounds: int = 1) -> float:
    """Seconds of the shortest of some rounds."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)
