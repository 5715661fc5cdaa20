"""What listeners declare of themselves holds: streaming, chance, the first frame; padding changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from stages.train.listener import Batch, Listener
from stages.train.registry import find_listener, find_listeners
from tests.labs.listeners import SIZES, longer, only, random_batch, speaker_changed_from
from tests.stages.train.conftest import SMALL, draws, small

LISTENERS = [*SMALL, *(name for name, kind in find_listeners().items() if not kind.learned)]
CUT = 70  # frame after which the input changes; behind the first segment of a search
MOVES_AT_ONCE = ("mirror", "pchg")  # with the speaker's frame; `vico_lstm` a frame later
CERTAIN = {"elp": {"sampling": 0.0}}  # the most probable codes


def ready(name: str, preset: str = "", **settings: Any) -> Listener:
    """A listener that remembers some clips, if it is one that does."""
    model: Listener = small(name, preset, **settings)
    model.remember([only(random_batch((64,), seed), 0, 64) for seed in range(2, 32)])
    return model


def predicted(model: Listener, batch: Batch, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    with torch.inference_mode():
        return model.predict(batch, draws(seed)).motion


@pytest.mark.parametrize("name", LISTENERS)
def test_a_causal_listener_does_not_see_what_comes(name: str) -> None:
    model, batch = ready(name, **CERTAIN.get(name, {})), random_batch((100,) * 8)
    before, after = (predicted(model, b) for b in (batch, speaker_changed_from(batch, CUT)))
    if model.causal:
        assert torch.equal(before[:, :CUT], after[:, :CUT])
    else:
        assert not torch.allclose(before[:, :CUT], after[:, :CUT])
    if name in MOVES_AT_ONCE:
        assert ((before - after)[:, CUT:].abs().amax(dim=(0, 2)) > 1e-6).all()


@pytest.mark.parametrize("name", LISTENERS)
def test_only_a_stochastic_listener_says_something_else_for_another_seed(name: str) -> None:
    model, batch = ready(name), random_batch()
    once, *others = (predicted(model, batch, seed) for seed in range(6))
    assert torch.equal(once, predicted(model, batch, 0))
    assert model.stochastic or all(torch.equal(once, other) for other in others)
    assert any(not torch.allclose(once, other) for other in others) == model.stochastic


@pytest.mark.parametrize("name", LISTENERS)
def test_the_listener_itself_is_not_looked_at(name: str) -> None:
    model, batch = ready(name), random_batch()
    blind = replace(batch, listener=torch.zeros_like(batch.listener))
    assert torch.equal(predicted(model, batch), predicted(model, blind))


@pytest.mark.parametrize("name", LISTENERS)
def test_prediction_has_a_frame_for_each_of_the_speaker_and_may_begin_with_the_reference(name: str) -> None:
    batch = random_batch((75, 41, 30))  # windows of mfr that lie wholly in a short clip's padding included
    motion = predicted(ready(name), batch)
    assert motion.shape == batch.speaker.shape and torch.isfinite(motion).all()
    if name in ("vico_lstm", "hsp"):
        assert torch.equal(motion[:, 0], batch.reference)
    elif name not in SMALL:
        torch.testing.assert_close(motion[:, 0], batch.reference)


@pytest.mark.parametrize(("name", "precision"), [("vico_lstm", 1e-6), ("pchg", 1e-5), ("hsp", 1e-4), ("mfr", 1e-5)])
def test_padding_changes_no_loss(name: str, precision: float) -> None:
    """ViCo's released code dilutes its means with padded frames."""
    model, batch = ready(name).train(), random_batch()
    drawn = {"contrast": 0}  # hsp draws other frames for it
    alone, padded = (
        {term: float(value.detach()) for term, value in model(b, draws(0)).items()} | drawn
        for b in (batch, longer(batch, 30))
    )
    assert alone == pytest.approx(padded, rel=precision)


@pytest.mark.parametrize(("name", "precision"), [("vico_lstm", 1e-5), ("pchg", 1e-6), ("hsp", 1e-5), ("elp", 1e-5)])
def test_padding_changes_no_prediction(name: str, precision: float) -> None:
    model, batch = ready(name, **CERTAIN.get(name, {})), random_batch()
    motion = predicted(model, longer(batch, 20))
    for clip, frames in enumerate((50, 41, 30)):
        alone = predicted(model, only(batch, clip, frames))
        assert torch.allclose(motion[clip, :frames], alone[0], atol=precision)


@pytest.mark.parametrize(("preset", "same"), [("paper", True), ("", False)])
@pytest.mark.parametrize("name", ["hsp"])
def test_the_preset_paper_does_not_hear_the_attitude(name: str, preset: str, same: bool) -> None:
    model, batch = ready(name, preset), random_batch()
    other = replace(batch, attitude=(batch.attitude + 1) % 3)
    assert torch.equal(predicted(model, batch), predicted(model, other)) == same


def test_every_paper_and_baseline_of_the_project_is_found_by_its_file() -> None:
    wanted = {"random", "simulation", "simulation_attitude", "mirror", "nn_motion", "nn_audio", "vico_lstm"}
    assert wanted <= set(find_listeners())
    assert find_listener("vico_lstm").Settings().window_frames == 90
    assert SIZES.coefficients == 70
