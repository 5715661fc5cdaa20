"""Listener pchg: residual, loss, cosine, self ensemble, batch normalisation that does not see padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from schemas.coefficients import Layout
from stages.train.listener import Sizes
from stages.train.registry import find_listener
from stages.train.sequence import MaskedBatchNorm
from tests.labs.listeners import random_batch
from tests.labs.trainer import listener
from tests.labs.trainer import random_batch as lone_batch
from tests.stages.train.conftest import draws, small


def test_a_driver_that_says_nothing_leaves_the_first_frame() -> None:
    model = small("pchg")
    torch.nn.init.zeros_(model.driver.last.weight)
    torch.nn.init.zeros_(model.driver.last.bias)
    batch = random_batch()
    motion = model.predict(batch, draws()).motion
    assert torch.equal(motion, batch.reference[:, None].expand_as(motion))


@torch.no_grad()
def test_the_loss_is_equations_1_to_3_over_the_frames_that_count() -> None:
    model, batch = small("pchg"), random_batch()
    terms = {name: float(value) for name, value in model(batch, draws()).items()}
    error, mask = (model.predict(batch, draws()).motion - batch.listener).numpy(), batch.mask.numpy()
    counted = [(clip, frame) for clip, frame in np.argwhere(mask)]
    pairs = [(clip, frame) for clip, frame in counted if frame and mask[clip, frame - 1]]
    expected = {
        "expression": np.mean([np.sqrt((error[at][:64] ** 2).sum()) for at in counted]),
        "pose": np.mean([np.abs(error[at][64:]).sum() for at in counted]),
        "motion": np.mean([np.sqrt(((error[i, t] - error[i, t - 1])[64:] ** 2).sum()) for i, t in pairs]),
    }
    assert terms == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_the_crop_has_its_term_and_eq_2_is_of_it_where_the_data_have_one() -> None:
    sizes = Sizes(Layout("baseline73"), 45, 3)
    model, batch = listener("pchg", sizes, width=16, hidden=16), lone_batch(sizes, clips=2, frames=20)
    terms = {name: float(value) for name, value in model(batch, draws()).items()}
    error = (model.predict(batch, draws()).motion - batch.listener).double()
    angle, exp, trans, crop = error[..., :3], error[..., 3:67], error[..., 67:70], error[..., 70:]
    expected = {
        "expression": exp.norm(dim=-1).mean(),
        "pose": (angle.abs().sum(dim=-1) + trans.abs().sum(dim=-1)).mean(),
        "crop": crop.norm(dim=-1).mean(),
        "motion": crop.diff(dim=1).norm(dim=-1).mean(),
    }
    assert terms == pytest.approx({name: float(value) for name, value in expected.items()}, rel=1e-5)


def test_the_preset_paper_is_given_the_attitude_and_the_sound_but_not_the_speakers_motion() -> None:
    model, batch = small("pchg", "paper"), random_batch()
    plain = model.predict(batch, draws()).motion
    unseen = replace(batch, speaker=batch.speaker + 1)
    others = [replace(batch, attitude=(batch.attitude + 1) % 3), replace(batch, audio=batch.audio + 1)]
    assert torch.equal(model.predict(unseen, draws()).motion, plain)
    assert not any(torch.equal(model.predict(other, draws()).motion, plain) for other in others)
    assert find_listener("pchg").presets["paper"]["windows"] == "random"


def test_without_batch_normalisation_there_is_none() -> None:
    """Of the same windows, in training, a clip's motion depends on the others in its batch or does not."""
    batch, weights = random_batch((50, 50)), []
    for norm in (True, False):
        model = small("pchg", norm=norm, attitude=False).train()
        other = replace(batch, speaker=torch.cat([batch.speaker[:1], batch.speaker[1:] + 1]))
        one, two = (model.predict(b, draws()).motion[0] for b in (batch, other))
        assert torch.equal(one, two) != norm
        weights.append(sum(p.numel() for p in model.parameters()))
    assert weights[0] - weights[1] == 2 * 24 and not any("norm" in name for name in model.state_dict())


def test_without_the_residual_the_driver_says_the_motion_itself() -> None:
    model, batch = small("pchg", residual=False), random_batch()
    torch.nn.init.zeros_(model.driver.last.weight)
    torch.nn.init.constant_(model.driver.last.bias, 0.5)
    assert (model.predict(batch, draws()).motion == 0.5).all()


@pytest.mark.parametrize("dropout", [0.1, 0.0])
def test_without_dropout_training_draws_nothing(dropout: float) -> None:
    model, batch = small("pchg", dropout=dropout).train(), random_batch()
    one, two = (float(model(batch, draws())["pose"].detach()) for _ in range(2))
    assert (one == two) == (dropout == 0)


def test_without_a_self_ensemble_nothing_is_kept() -> None:
    model = small("pchg", members=0)
    before = {name: value.numel() for name, value in model.state_dict().items()}
    model.end_epoch()
    assert {name: value.numel() for name, value in model.state_dict().items()} == before
    assert before["snapshots"] == 0


def test_the_learning_rate_falls_on_a_cosine_from_5e_3_to_1e_4() -> None:
    model = small("pchg", epochs=80)
    rates = [5e-3 * model.learning_rate_factor(epoch, 80) for epoch in (0, 40, 80)]
    assert rates == pytest.approx([5e-3, (5e-3 + 1e-4) / 2, 1e-4])


def test_the_self_ensemble_is_the_mean_over_the_last_states_of_the_training() -> None:
    model, batch = small("pchg", members=2), random_batch()
    said = []
    for seed in range(3):
        for weight in model.driver.parameters():
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(seed))
        model.driver.norm.running_mean.fill_(seed)
        alone = small("pchg", members=0)
        alone.driver.load_state_dict(model.driver.state_dict())
        said.append(alone.predict(batch, draws()).motion)
        model.end_epoch()
    assert torch.allclose(model.predict(batch, draws()).motion, (said[1] + said[2]) / 2, atol=1e-6)
    restored = small("pchg", members=2)
    restored.load_state_dict(model.state_dict())
    assert torch.equal(restored.predict(batch, draws()).motion, model.predict(batch, draws()).motion)


def test_batch_normalisation_without_padding_is_torchs() -> None:
    ours, theirs = MaskedBatchNorm(5), torch.nn.BatchNorm1d(5)
    values = torch.randn(4, 5, 9, generator=draws()) * 3 + 1
    everywhere = torch.ones(4, 9, dtype=torch.bool)
    assert torch.allclose(ours(values, everywhere), theirs(values), atol=1e-5)
    assert torch.allclose(ours.eval()(values, everywhere), theirs.eval()(values), atol=1e-5)
