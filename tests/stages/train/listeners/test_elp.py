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

from pipeline.settings import resolve
from schemas.errors import UserError
from stages.train.listener import Sizes
from stages.train.listeners.elp import Settings, at_rate, energy_score, gumbel_softmax, lasting_gumbel_noise, mean_error
from stages.train.sequence import inside, moving_deviation
from tests.labs.listeners import CROPPED, SIZES, longer, only, random_batch
from tests.stages.train.conftest import draws, reaches, small, weights

WAY = ("0.weight", "0.bias", "1.weight", "1.bias")  # of layer normalisation and linear map
WIDTHS = (0.0, 0.5, 1.0, 1.5, 3.0)  # of samples, in deviations of the truth


def test_the_noise_of_a_code_is_gumbel_distributed_and_lasts() -> None:
    noise = lasting_gumbel_noise(torch.Size([400, 16, 10]), 15.0, draws()).numpy()
    assert stats.kstest(noise[:, 15].ravel(), "gumbel_r").pvalue > 0.01
    normal = stats.norm.ppf(stats.gumbel_r.cdf(noise))
    found = np.corrcoef(normal[:, 0].ravel(), normal[:, 15].ravel())[0, 1]
    assert found == pytest.approx(np.exp(-1), abs=0.05)
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
    assert min(WIDTHS, key=lambda width: float(loss([width * one, width * two], batch, parts))) == best


@torch.no_grad()
def test_losses_4_to_7_against_numpy() -> None:
    model, batch = small("elp", emotion="heard"), random_batch()
    terms = model(batch, draws())
    generator, mask = draws(), batch.mask.numpy()
    style = model._style(batch)
    logits, heard = model.encoder(style, inside(batch.mask)), model.emotion(style, inside(batch.mask))
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


@pytest.mark.parametrize("sizes", [SIZES, CROPPED])
def test_the_paper_s_loss_is_eq_3_of_one_draw_and_eq_7_in_sums_over_a_window(sizes: Sizes) -> None:
    """Against plain NumPy; windows of one length, so that the means over frames are the sums divided by one number."""
    model = small("elp", "paper", sizes, network_fps=30).train()
    batch = random_batch((40, 40), width=sizes.coefficients)
    batch = replace(batch, mask=torch.ones_like(batch.mask))
    with torch.no_grad():
        terms = {name: float(term) for name, term in model(batch, draws()).items()}
        logits = model.encoder(style := model._style(batch), batch.mask)
        motion, shut = model._decode(logits, batch, batch.attitude, draws())
        said = model.emotion(style, batch.mask).double().sigmoid().numpy()
    error, told = (motion - batch.listener).double().numpy(), np.eye(3)[batch.attitude.numpy()]
    beta = list(range(64)) if sizes is SIZES else list(range(3, 67))
    pose = [column for column in range(sizes.coefficients) if column not in beta]
    norms = [np.sqrt(np.square(error[..., part]).sum(axis=-1)) for part in (beta, pose)]
    phi, closed = shut.double().sigmoid().numpy(), batch.extra["listener_blink"].numpy()
    crossed = -np.log(np.where(closed, phi, 1 - phi))
    emotion = -(told * np.log(said) + (1 - told) * np.log(1 - said))
    sums = {  # over both windows
        "motion": (norms[0] + norms[1]).sum(), "blink": 5 * crossed.sum(), "emotion": 5 * emotion.sum(),
        "steadiness": 0.01 * np.abs(np.diff(phi)).sum() * 40 / 39,  # a mean over pairs of frames
    }  # fmt: skip
    assert terms == pytest.approx({name: value / 80 for name, value in sums.items()}, rel=1e-4)


def test_the_paper_s_listener_knows_no_first_frame_and_has_no_way_past_its_layers() -> None:
    batch = random_batch()
    mine, paper = small("elp"), small("elp", "paper")
    gone = {name for name, _ in mine.named_parameters()} - {name for name, _ in paper.named_parameters()}
    assert gone == {"keep", *(f"{way}.read.{at}" for way in ("encoder.lstm", "blink.lstm") for at in WAY)}
    assert reaches(mine, batch, reference=-batch.reference)
    assert not reaches(paper, batch, reference=-batch.reference)
    for silent in ("lstm.layers", "convolutions"):  # what comes by them goes another way, or not at all
        for preset, passes in (("", True), ("paper", False)):
            encoder = small("elp", preset).encoder
            for weight in encoder.get_submodule(silent).parameters():
                torch.nn.init.zeros_(weight)
            styles = (torch.randn(1, 20, 142, generator=draws(seed)) for seed in (0, 1))
            one, two = (encoder(style, torch.ones(1, 20, dtype=torch.bool)) for style in styles)
            assert torch.equal(one, two) != passes, silent


@torch.no_grad()
def test_the_paper_s_listener_is_told_no_attitude_in_prediction() -> None:
    """Section 3.1 has three inputs; the code space is that of the attitude which is heard in the speaker."""
    paper, batch = small("elp", "paper"), random_batch()
    assert not reaches(paper, batch, attitude=(batch.attitude + 1) % 3)
    assert reaches(small("elp", "paper", emotion="label"), batch, attitude=(batch.attitude + 1) % 3)
    for heard in range(3):
        paper.emotion.head[-1].bias.copy_(100.0 * torch.eye(3)[heard])
        told = small("elp", "paper", emotion="label").predict(replace(batch, attitude=torch.full((3,), heard)), draws())
        torch.testing.assert_close(paper.predict(batch, draws()).blink, told.blink)


@torch.no_grad()
def test_two_seconds_are_fifty_frames_for_the_paper_s_networks_and_sixty_for_the_data() -> None:
    model, batch, seen = small("elp", "paper"), random_batch((60, 45)), []
    model.encoder.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape[1]))
    said = model.predict(batch, draws())
    assert seen == [50] and said.motion.shape == batch.speaker.shape and said.blink.shape == batch.mask.shape
    slow = at_rate(batch, model.step)
    assert slow.mask.sum(dim=1).tolist() == [50, 37 - 2]  # of 45 frames; two that stand beside the one that is missing
    instants = np.arange(50) / 25
    expected = np.stack([np.interp(instants, np.arange(60) / 30, column) for column in batch.speaker[0].T.numpy()])
    np.testing.assert_allclose(slow.speaker[0].T.numpy(), expected, atol=1e-5)
    model.settings = replace(model.settings, sampling=0.0)  # noise is drawn by frames, padding included
    for clip, frames in enumerate((60, 45)):
        alone = model.predict(only(batch, clip, frames), draws())
        padded = model.predict(longer(batch, 20), draws())
        assert torch.allclose(alone.motion[0], padded.motion[clip, :frames], atol=1e-5)


def test_in_a_shared_space_no_attitude_is_known() -> None:
    """V of Table 2: the space of codes is one instead of N, and so are the decoders' weights; no eq. 6."""
    batch = random_batch()
    for name in ("elp", "dls_random"):
        own, shared = small(name), small(name, space="shared")
        assert reaches(own, batch, attitude=(batch.attitude + 1) % 3)
        assert not reaches(shared, batch, attitude=(batch.attitude + 1) % 3)
        assert weights(own) - weights(shared) == {"emotion"}
        for decoder in ("motion.first", "blink.read"):
            widths = [model.get_submodule(decoder).weight.shape[1] for model in (own, shared)]
            assert widths == [3 * 4, 4]
        assert own.train()(batch, draws()).keys() - shared.train()(batch, draws()).keys() == {"emotion"}


def test_nothing_is_heard_of_an_attitude_in_a_shared_space() -> None:
    with pytest.raises(UserError, match="--set emotion=label"):
        small("elp", space="shared", emotion="heard")


@pytest.mark.parametrize("heads", [1, 4, 5, 16, 64, 128, 256])
def test_a_frame_has_any_number_of_codes_and_each_of_them_moves_face_and_eyelids(heads: int) -> None:
    """H of Table 3: logits of H times V, as many weights as that needs, and none of the codes without influence."""
    model, batch = small("elp", heads=heads), random_batch((12, 9))
    assert model.encoder(model._style(batch), inside(batch.mask)).shape == (2, 12, heads, 4)
    one, more = (
        sum(weight.numel() for weight in small("elp", heads=h).motion.parameters()) for h in (heads, heads + 1)
    )
    assert more - one == 70 * 4 * 5  # of a head, for every coefficient: four channels of five frames
    sum(model.train()(batch, draws()).values()).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())
    codes = torch.zeros(heads, 6, heads, 4)
    codes[..., 0] = 1.0
    others = codes.clone()
    others[range(heads), :, range(heads)] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    attitude, mask = torch.zeros(heads, dtype=torch.int64), torch.ones(heads, 6, dtype=torch.bool)
    for decoder in (model.motion, model.blink):
        before, after = (decoder(c, attitude, mask).detach() for c in (codes, others))
        assert (before - after).flatten(1).ne(0).any(dim=1).all()


@pytest.mark.parametrize("setting", ["heads", "network_fps"])
def test_no_head_and_no_frame_a_second_are_refused(setting: str) -> None:
    with pytest.raises(UserError, match=f"{setting}: found 0, allowed: 1 or more"):
        resolve("elp", Settings, {setting: 0})
