"""Listener pchg: residual, loss, cosine, self ensemble, batch normalisation that does not see padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.train.sequence import MaskedBatchNorm
from tests.labs.listeners import random_batch
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


def test_the_learning_rate_falls_on_a_cosine_from_5e_3_to_1e_4() -> None:
    model = small("pchg", epochs=80)
    rates = [5e-3 * model.learning_rate_factor(epoch) for epoch in (0, 40, 80)]
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
