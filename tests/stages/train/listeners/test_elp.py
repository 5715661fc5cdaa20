"""Listener elp: codes and their noise, the spaces of the attitudes, the losses, samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from stages.train.listeners.elp import energy_score, gumbel_softmax, lasting_gumbel_noise, mean_error
from stages.train.sequence import moving_deviation
from tests.labs.listeners import SIZES, random_batch
from tests.stages.train.conftest import draws, small

WIDTHS = (0.0, 0.5, 1.0, 1.5, 3.0)  # of samples, in deviations of the truth


def test_the_noise_of_a_code_is_gumbel_distributed_and_lasts() -> None:
    noise = lasting_gumbel_noise(torch.Size([400, 16, 10]), 0.5, draws()).numpy()
    assert stats.kstest(noise[:, 15].ravel(), "gumbel_r").pvalue > 0.01
    normal = stats.norm.ppf(stats.gumbel_r.cdf(noise))
    found = np.corrcoef(normal[:, 0].ravel(), normal[:, 15].ravel())[0, 1]
    assert found == pytest.approx(np.exp(-1), abs=0.05)  # 15 frames are half a second
    fresh = lasting_gumbel_noise(torch.Size([400, 2, 10]), 0.0, draws()).numpy()
    assert abs(np.corrcoef(fresh[:, 0].ravel(), fresh[:, 1].ravel())[0, 1]) < 0.05


def test_codes_are_drawn_as_often_as_their_logits_say() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    noise = lasting_gumbel_noise(torch.Size([20_000, 1, 3]), 0.0, draws())
    codes = gumbel_softmax(logits, noise, temperature=1.0)
    assert torch.equal(codes.sum(dim=-1).round(), torch.ones(20_000, 1))
    assert torch.allclose(codes.mean(dim=(0, 1)), logits.softmax(dim=0), atol=0.01)


@torch.no_grad()
def test_the_motion_decoder_is_two_convolutions_over_the_code_spaces_of_eq_2() -> None:
    """e x v, with zeros in the spaces that are closed, through PyTorch's own convolutions."""
    decoder, batch = small("elp").motion, random_batch()
    codes = functional.one_hot(torch.randint(4, (3, 50, 8), generator=draws()), 4) * batch.mask[..., None, None]
    opened = functional.one_hot(batch.attitude, 3)
    space = torch.einsum("bn,bfhv->bnvfh", opened, codes).flatten(1, 2).float()
    inner = functional.conv2d(space, decoder.first.weight, decoder.first.bias, padding=(2, 0)).relu()
    inner = inner * batch.mask[:, None, :, None]
    expected = functional.conv2d(inner, decoder.second.weight, decoder.second.bias, padding=(2, 0)).squeeze(3)
    found = decoder(codes.float(), batch.attitude, batch.mask)
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-5)


@torch.no_grad()
def test_another_attitude_opens_another_code_space() -> None:
    """The weights of one space move the listeners of that attitude and nobody else."""
    model, batch = small("elp"), random_batch()
    before = model.predict(batch, draws()).motion
    model.motion.first.weight[:, 4:8] += 1.0
    after = model.predict(batch, draws()).motion
    moved = (before - after).abs().amax(dim=(1, 2)) > 0
    assert moved.tolist() == (batch.attitude == 1).tolist()


@torch.no_grad()
def test_samples_differ_and_the_most_probable_listener_is_one() -> None:
    batch = random_batch()
    for sampling, same in ((1.0, False), (0.0, True)):
        model = small("elp", sampling=sampling)
        one, two = (model.predict(batch, draws(seed)) for seed in (1, 2))
        assert torch.equal(one.motion, two.motion) == same
        assert one.blink is not None and one.blink.shape == batch.mask.shape and 0 <= one.blink.min() <= 1


@torch.no_grad()
def test_the_style_is_the_deviation_around_each_frame() -> None:
    values, mask = torch.randn(1, 20, 3, generator=draws()), torch.ones(1, 20, dtype=torch.bool)
    mask[0, 17:] = False
    found = moving_deviation(values, mask, frames=5)[0].numpy()
    for frame in range(17):
        near = values[0, max(frame - 2, 0) : min(frame + 3, 17)].numpy()
        assert found[frame] == pytest.approx(near.std(axis=0), abs=1e-3)


@pytest.mark.parametrize(
    ("loss", "varying", "best"), [(energy_score, 70, 1), (energy_score, 1, 1), (mean_error, 70, 0)]
)
def test_the_energy_score_is_least_for_samples_that_are_spread_as_the_truth(
    loss: Callable[..., Tensor], varying: int, best: float
) -> None:
    """Against samples that are too alike and too unlike; the paper's loss alone prefers those that are all one.

    Also where samples differ in one coefficient and all of the truth tremble: what they cannot do does not widen them.
    """
    truth, *samples = (torch.randn(1, 40_000, 70, generator=draws(seed)) for seed in (1, 2, 3))
    one, two = (sample * (torch.arange(70) < varying) for sample in samples)
    batch = replace(random_batch(), listener=truth, mask=torch.ones(1, 40_000, dtype=torch.bool))
    parts = SIZES.motion.expression_and_pose
    assert min(WIDTHS, key=lambda width: float(loss(width * one, width * two, batch, parts))) == best


@torch.no_grad()
def test_losses_4_to_7_against_numpy() -> None:
    model, batch = small("elp", emotion="heard"), random_batch()
    terms = model(batch, draws())
    generator, mask = draws(), batch.mask.numpy()
    logits, heard = model._encode(batch)
    blinks, steps = [], []
    for _ in range(2):
        shut = model._decode(logits, batch, batch.attitude, generator)[1].double().sigmoid().numpy()
        closed = batch.extra["listener_blink"].numpy()
        blinks.append(-np.log(np.where(closed, shut, 1 - shut))[mask].mean())
        steps.append(np.abs(np.diff(shut))[mask[:, 1:] & mask[:, :-1]].mean())
    said, told = heard.double().sigmoid().numpy(), np.eye(3)[batch.attitude.numpy()]
    emotion = -(told * np.log(said) + (1 - told) * np.log(1 - said)).mean()
    assert float(terms["blink"]) == pytest.approx(5 * np.mean(blinks), rel=1e-4)
    assert float(terms["steadiness"]) == pytest.approx(0.01 * np.mean(steps), rel=1e-4)
    assert float(terms["emotion"]) == pytest.approx(5 * emotion, rel=1e-4)


@torch.no_grad()
def test_validation_leaves_out_the_emotion_that_prediction_does_not_use() -> None:
    model, batch = small("elp"), random_batch()
    assert "emotion" not in model(batch, draws())
    assert "emotion" in model.train()(batch, draws())
