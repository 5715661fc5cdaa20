"""Listener hsp: contrast of text and sound, frames given and predicted, padding, both directions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from stages.train.sequence import inside
from tests.labs.listeners import random_batch
from tests.stages.train.conftest import draws, small


@torch.no_grad()
def test_the_contrast_is_equation_2() -> None:
    """Against a plain loop over texts, levels and time stamps."""
    model, batch = small("hsp", contrast_frames=1000), random_batch((12, 9))
    levels = model.hear(batch.audio, inside(batch.mask))
    words = batch.extra["token_embedding"]
    spoken = [tuple(place) for place in (batch.mask & words.ne(0).any(dim=-1)).nonzero().tolist()]

    def similar(text: tuple[int, int], level: int, sound: tuple[int, int]) -> torch.Tensor:
        heard = model.align[level](levels[level][sound])
        return (functional.cosine_similarity(model.text(words[text]), heard, dim=0) / 0.07).exp()

    losses = []
    for place in spoken:
        everything = sum(similar(place, level, other) for level in range(3) for other in spoken)
        losses.append(-(similar(place, 2, place) / everything).log())
    expected = float(sum(losses)) / len(spoken)
    assert float(model._contrast(batch, levels, draws())) == pytest.approx(expected, rel=1e-4)


def test_the_contrast_draws_high_level_sound_towards_its_words() -> None:
    model, batch, losses = small("hsp").train(), random_batch((20, 20)), []
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(15):
        loss = model(batch, draws())["contrast"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_a_clip_without_words_has_no_contrast_and_still_gradients() -> None:
    model, batch = small("hsp").train(), random_batch()
    silent = replace(batch, extra={"token_embedding": torch.zeros_like(batch.extra["token_embedding"])})
    terms = model(silent, draws())
    assert float(terms["contrast"].detach()) == 0
    sum(terms.values()).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
