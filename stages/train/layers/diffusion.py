"""Denoising diffusion: the schedule, the noise that training predicts, and the steps back from noise to data.

Ho, Jain and Abbeel, NeurIPS 2020 (eq. 4, 7, 11 there); the cosine schedule and fewer steps in sampling than in training
after Nichol and Dhariwal, ICML 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

COSINE_OFFSET = 0.008  # keeps the first steps from adding next to no noise
LARGEST_BETA = 0.999
LIMIT = 6.0  # of an estimate of the data, in standard deviations: early estimates divide by almost nothing


def cosine_signal(steps: int) -> Tensor:
    """Share of the signal's variance (alpha bar) after each of the steps (step,), from almost 1 to almost 0."""
    angles = (torch.arange(steps + 1, dtype=torch.float64) / steps + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2
    share = angles.cos().square()
    beta = (1 - share[1:] / share[:-1]).clamp(max=LARGEST_BETA)
    return (1 - beta).cumprod(dim=0).float()


def add_noise(data: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """x_t of data (batch, ...) where the share ``signal`` (batch,) of the variance is left."""
    signal = signal.view(-1, *(1,) * (data.dim() - 1))
    return signal.sqrt() * data + (1 - signal).sqrt() * noise


def denoise(
    noise: Tensor, signal: Tensor, steps: int, predict: Callable[[Tensor, int], Tensor], generator: torch.Generator
) -> Tensor:
    """Data from noise in ``steps`` steps spread evenly over the schedule.

    ``predict`` (values, step of the schedule) returns the noise that it finds. The mean of a step is that of the
    posterior given the data it implies, eq. 4 of MFR-Net; the variance is the posterior's (a constant, no network's).
    """
    chosen = torch.linspace(0, len(signal) - 1, steps).round().long().tolist()
    values = noise
    for place in reversed(range(steps)):
        now = signal[chosen[place]]
        before = signal[chosen[place - 1]] if place else torch.ones_like(now)
        beta = 1 - now / before
        found = predict(values, chosen[place])
        data = ((values - (1 - now).sqrt() * found) / now.sqrt()).clamp(-LIMIT, LIMIT)
        mean = (before.sqrt() * beta * data + (now / before).sqrt() * (1 - before) * values) / (1 - now)
        fresh = torch.randn(values.shape, generator=generator, device=values.device) if place else 0.0
        values = mean + ((1 - before) / (1 - now) * beta).sqrt() * fresh
    return values
