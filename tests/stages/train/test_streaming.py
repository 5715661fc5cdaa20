"""What listeners declare of themselves holds: streaming, chance, a first frame that is the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stages.train.listener import Batch, Listener
from stages.train.registry import find_listener, find_listeners
from tests.labs.trainer import SIZES, listener, random_batch

BASELINES = [name for name, kind in find_listeners().items() if not kind.learned]
MINE = ["vico_lstm", *BASELINES]  # the other learned ones have tests of their own
CUT = 70  # frame after which the input changes; behind the first segment of a search
EXACT = 1e-6


def ready(name: str) -> Listener:
    """A listener that remembers some clips, if it is one that does."""
    model: Listener = listener(name)
    model.remember([random_batch(clips=1, frames=64, seed=seed) for seed in range(2, 32)])
    return model


def predicted(model: Listener, batch: Batch, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    with torch.inference_mode():
        return model.predict(batch, torch.Generator().manual_seed(seed)).motion


@pytest.mark.parametrize("name", MINE)
def test_a_causal_listener_does_not_see_what_comes(name: str) -> None:
    model, batch, other = ready(name), random_batch(clips=8, frames=100), random_batch(clips=8, frames=100, seed=1)
    later = torch.arange(100) >= CUT
    changed = replace(
        batch,
        speaker=torch.where(later[:, None], other.speaker, batch.speaker),
        audio=torch.where(later[:, None], other.audio, batch.audio),
    )
    difference = (predicted(model, batch) - predicted(model, changed)).abs().amax(dim=(0, 2))
    assert bool((difference[:CUT] < EXACT).all()) == model.causal
    if name == "mirror":
        assert (difference[CUT:] > EXACT).all()


@pytest.mark.parametrize("name", MINE)
def test_only_a_stochastic_listener_says_something_else_for_another_seed(name: str) -> None:
    model, batch = ready(name), random_batch(frames=60)
    assert torch.equal(predicted(model, batch, 0), predicted(model, batch, 0))
    others = [not torch.equal(predicted(model, batch, 0), predicted(model, batch, seed)) for seed in range(1, 6)]
    assert any(others) == model.stochastic


@pytest.mark.parametrize("name", MINE)
def test_the_listener_itself_is_not_looked_at(name: str) -> None:
    model, batch = ready(name), random_batch(frames=60)
    blind = replace(batch, listener=torch.zeros_like(batch.listener))
    assert torch.equal(predicted(model, batch), predicted(model, blind))


@pytest.mark.parametrize("name", MINE)
def test_prediction_begins_with_the_reference_and_has_a_frame_for_each_of_the_speaker(name: str) -> None:
    batch = random_batch(frames=75)
    motion = predicted(ready(name), batch)
    assert motion.shape == batch.speaker.shape and torch.isfinite(motion).all()
    torch.testing.assert_close(motion[:, 0], batch.reference)


def test_every_paper_and_baseline_of_the_project_is_found_by_its_file() -> None:
    wanted = {"random", "simulation", "simulation_attitude", "mirror", "nn_motion", "nn_audio", "vico_lstm"}
    assert wanted <= set(find_listeners())
    assert find_listener("vico_lstm").Settings().window_frames == 90
    assert SIZES.coefficients == 70
