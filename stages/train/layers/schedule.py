"""Learning rates over a training."""

from __future__ import annotations

import math


def cosine(epoch: float, epochs: int, last: float = 0.01) -> float:
    """From 1 to ``last`` on half a cosine (Loshchilov and Hutter, ICLR 2017, without restarts); ``last`` after that."""
    return last + (1 - last) * (1 + math.cos(math.pi * min(epoch / epochs, 1))) / 2
