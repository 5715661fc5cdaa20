"""Listener mfr: the diffusion against cases with known answers, windows without seams, samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stages.train.listener import Batch
from stages.train.listeners.mfr import Mfr, add_noise, cosine_signal, cut, denoise, linear_signal, taper
from tests.labs.listeners import random_batch, speaker_changed_from
from tests.stages.train.conftest import draws, reaches, small, weights


@pytest.mark.parametrize(("schedule", "half_way"), [(cosine_signal, 0.5), (linear_signal, 0.0786)])
def test_the_signal_falls_from_almost_all_to_almost_nothing(schedule: Callable[[int], Tensor], half_way: float) -> None:
    """Half way the cosine squared is a half; the other is exp(-integral of beta), 1e-4 to .02, 2.54 after 500 steps."""
    signal = schedule(1000)
    assert signal[0] > 0.999 and signal[-1] < 1e-4 and (signal.diff() < 0).all()
    assert signal[500] == pytest.approx(half_way, abs=0.02 * half_way + 0.003)


def test_adding_noise_step_by_step_ends_where_adding_it_at_once_does() -> None:
    signal = cosine_signal(20)
    step = signal / torch.cat([torch.ones(1), signal[:-1]])  # alpha_t
    values = torch.full((50_000, 1), 3.0)
    for alpha in step[:12]:
        fresh = torch.randn(values.shape, generator=draws(int(1e6 * alpha)))
        values = alpha.sqrt() * values + (1 - alpha).sqrt() * fresh
    fresh = torch.randn(values.shape, generator=draws())
    at_once = add_noise(torch.full((50_000, 1), 3.0), fresh, signal[11].repeat(50_000))
    assert float(values.mean()) == pytest.approx(float(at_once.mean()), abs=0.02)
    assert float(values.std()) == pytest.approx(float(at_once.std()), abs=0.02)


@pytest.mark.parametrize(("sampling_steps", "narrower"), [(50, 0.076), (200, 0.022)])
def test_denoising_with_the_true_noise_of_normal_data_gives_that_data(sampling_steps: int, narrower: float) -> None:
    """For data N(m, s^2) the expected noise is known in closed form, and so is by how much few steps narrow samples."""
    mean, deviation, signal = 1.5, 0.4, cosine_signal(200)

    def expected_noise(values: Tensor, step: int) -> Tensor:
        share = signal[step]
        return (1 - share).sqrt() * (values - share.sqrt() * mean) / (share * deviation**2 + 1 - share)

    noise = torch.randn(20_000, generator=draws())
    data = denoise(noise, signal, sampling_steps, expected_noise, draws(1))
    assert narrowing(signal.double().numpy(), sampling_steps, deviation) == pytest.approx(narrower, abs=1e-3)
    assert float(data.mean()) == pytest.approx(mean, abs=0.02)
    assert float(data.std()) == pytest.approx(deviation * (1 - narrower), rel=0.02)  # 4 errors of a deviation of 20 000


def narrowing(signal: np.ndarray, steps: int, deviation: float) -> float:
    """By what share samples of N(m, deviation^2) are narrower: a step is linear, its factor squared scales variance."""
    chosen = signal[np.linspace(0, len(signal) - 1, steps).round().astype(int)]
    variance = 1.0
    for now, before in zip(chosen[::-1], [*chosen[-2::-1], 1.0], strict=True):
        beta = 1 - now / before
        estimate = deviation**2 * np.sqrt(now) / (now * deviation**2 + 1 - now)  # of the data, per unit of the value
        factor = (np.sqrt(before) * beta * estimate + np.sqrt(now / before) * (1 - before)) / (1 - now)
        variance = factor**2 * variance + (1 - before) / (1 - now) * beta
    return 1 - np.sqrt(variance) / deviation


class Pointwise(nn.Module):
    """Finds noise in every frame by itself, so that windows cannot matter."""

    def forward(self, noisy: Tensor, step: Tensor, away: Tensor, window: Batch) -> Tensor:
        return 0.9 * noisy + 0.1 * window.speaker.tanh()


@torch.no_grad()
def test_windows_that_agree_leave_no_trace_in_the_clip() -> None:
    """95 frames in windows of 40, 20 apart, are what one window of 95 would be."""
    batch = random_batch((95,))
    said = []
    for frames, stride in ((40, 20), (100, 100)):  # both on a sequence of 100 frames, so with the same noise
        model = small("mfr", model_frames=frames, model_stride=stride)
        model.module = Pointwise()
        said.append(model.predict(batch, draws()).motion)
    assert said[0].shape == (1, 95, 70)
    assert torch.allclose(*said, atol=1e-5)


def test_every_window_weighs_in_its_middle_and_fades_to_its_ends() -> None:
    weights = taper(40, 20)
    assert (weights > 0).all() and torch.equal(weights, weights.flip(0)) and weights.argmax() in (19, 20)
    assert weights[0] < 0.1 < weights[19]


def test_a_window_beyond_the_end_of_a_clip_is_padding() -> None:
    batch = random_batch()
    window = cut(batch, torch.tensor([0, 1]), torch.tensor([45, 0]), 10)
    assert window.mask.tolist() == [[True] * 5 + [False] * 5, [True] * 10]
    assert torch.equal(window.speaker[0, :5], batch.speaker[0, 45:])
    assert not window.speaker[0, 5:].any()
    assert torch.equal(window.extra["listener_identity"], batch.extra["listener_identity"][:2])


@torch.no_grad()
def test_it_hears_speaker_attitude_identity_and_first_frame_and_looks_ahead() -> None:
    model, batch = small("mfr"), random_batch((60, 60))
    plain = model.predict(batch, draws()).motion
    others = {
        "speaker": speaker_changed_from(batch, 50),
        "attitude": replace(batch, attitude=(batch.attitude + 1) % 3),
        "first frame": replace(batch, reference=-batch.reference),
        "identity": replace(batch, extra={"listener_identity": -batch.extra["listener_identity"]}),
    }
    for what, other in others.items():
        assert not torch.allclose(plain[:, 40:45], model.predict(other, draws()).motion[:, 40:45]), what
    assert not Mfr.causal


@torch.no_grad()
def test_an_identity_that_changes_from_frame_to_frame_is_not_read() -> None:
    """deep3d and tddfa_v2 fit one a frame, which prediction is not shown."""
    model, batch = small("mfr"), random_batch()
    said = []
    for seed in (1, 2):
        identity = torch.randn(3, 50, 80, generator=draws(seed))
        said.append(model.predict(replace(batch, extra={"listener_identity": identity}), draws()).motion)
    assert torch.equal(*said)


@torch.no_grad()
def test_the_loss_is_the_squared_error_of_the_noise() -> None:
    """Against a network whose v is known for every frame, with the same draws."""
    model, batch = small("mfr"), random_batch((40,) * 8)
    model.module = Pointwise()
    generator = draws()
    torch.rand(8, generator=generator)  # where the windows start: all at 0
    step = torch.randint(model.settings.steps, (8,), generator=generator)
    noise = torch.randn(8, 40, 70, generator=generator)
    signal = cosine_signal(model.settings.steps)[step].view(-1, 1, 1)
    noisy = signal.sqrt() * batch.listener + (1 - signal).sqrt() * noise
    v = 0.9 * noisy + 0.1 * batch.speaker.tanh()
    error = (signal.sqrt() * v + (1 - signal).sqrt() * noisy - noise).square().mean(dim=-1)
    assert float(model(batch, draws())["noise"]) == pytest.approx(float(error[batch.mask].mean()), rel=1e-5)


def test_denoising_in_all_steps_without_a_limit_is_equation_4() -> None:
    signal, noise = cosine_signal(40), torch.randn(3, 20, generator=draws())

    def find(values: Tensor, step: int) -> Tensor:
        return (0.3 * values).tanh() + step / 100

    found, generator = denoise(noise, signal, 40, find, draws(1)).double(), draws(1)
    share = signal.double().numpy()
    alpha = share / np.concatenate([[1.0], share[:-1]])
    values = noise.double()
    for step in reversed(range(40)):
        mean = (values - (1 - alpha[step]) / np.sqrt(1 - share[step]) * find(values, step)) / np.sqrt(alpha[step])
        before = share[step - 1] if step else 1.0
        deviation = np.sqrt((1 - before) / (1 - share[step]) * (1 - alpha[step]))
        fresh = torch.randn(noise.shape, generator=generator).double() if step else 0.0
        values = mean + deviation * fresh
    assert torch.allclose(found, values, rtol=1e-3, atol=1e-3)


def test_the_paper_s_network_knows_a_face_and_no_first_frame() -> None:
    mine, paper, batch = small("mfr"), small("mfr", "paper"), random_batch((60, 45))
    assert paper.reads(paper.settings) == ("listener_face_identity",)
    inputs = {
        "3dmm": {"extra": {"listener_identity": -batch.extra["listener_identity"]}},
        "face": {"extra": {"listener_face_identity": -batch.extra["listener_face_identity"]}},
        "first frame": {"reference": -batch.reference},
        "attitude": {"attitude": (batch.attitude + 1) % 3},
        "speaker": {"speaker": -batch.speaker},
        "sound": {"audio": -batch.audio},
    }
    unread = [{name for name, change in inputs.items() if not reaches(m, batch, **change)} for m in (mine, paper)]
    assert unread == [{"face"}, {"3dmm", "first frame"}]
    lost = {name.split(".")[1] for name, _ in mine.named_parameters()} - {
        name.split(".")[1] for name, _ in paper.named_parameters()
    }
    assert lost == {"reference", "away"}


@torch.no_grad()
def test_the_paper_s_latent_is_modulated_by_identity_and_not_by_the_step() -> None:
    batch = random_batch((40, 40))
    for preset, same in (("", False), ("paper", True)):
        model, seen = small("mfr", preset), []
        model.module.layers[0].register_forward_pre_hook(lambda _module, inputs, seen=seen: seen.append(inputs[1]))
        for step in (3, 30):
            steps = torch.full((2,), step)
            model._find_noise(batch.listener, steps, torch.zeros(2, dtype=torch.int64), batch)
        assert torch.equal(*seen) == same


@torch.no_grad()
def test_the_paper_s_network_says_the_noise_itself() -> None:
    model, batch = small("mfr", "paper"), random_batch((40,) * 4)
    model.module = Pointwise()
    steps, starts = torch.tensor([0, 10, 20, 49]), torch.zeros(4, dtype=torch.int64)
    found = model._find_noise(batch.listener, steps, starts, batch)
    assert torch.equal(found, 0.9 * batch.listener + 0.1 * batch.speaker.tanh())


@pytest.mark.parametrize("preset", ["", "paper"])
def test_without_the_aggregation_module_all_features_stand_side_by_side(preset: str) -> None:
    """w/o FAM of Table 4: nothing modulates, nothing is attended to but the frames; every input still counts."""
    whole, model, batch = small("mfr", preset), small("mfr", preset, aggregation="concat"), random_batch((60, 45))
    parts = [{part for name, _ in m.named_parameters() for part in name.split(".")} for m in (whole, model)]
    gone = {"modulation", "cross", "speaker", "identity"}
    assert gone <= parts[0] and not gone & parts[1]
    identity = model.reads(model.settings)[0]
    changes = [
        {"speaker": -batch.speaker}, {"audio": -batch.audio}, {"attitude": (batch.attitude + 1) % 3},
        {"extra": {identity: -batch.extra[identity]}}, *([] if preset else [{"reference": -batch.reference}]),
    ]  # fmt: skip
    assert all(reaches(model, batch, **change) for change in changes)
    sum(model.train()(batch, draws()).values()).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_without_diffusion_an_lstm_says_one_listener() -> None:
    """w/o DIFF of Table 4: no noise, no steps, no schedule; the loss is the squared error of the motion."""
    model, batch = small("mfr", "paper", diffusion=False), random_batch((40, 40))
    assert weights(model) == {"module"} and not list(model.buffers())
    assert {name.split(".")[1] for name, _ in model.named_parameters()} == {"layers", "last"}
    one, two = (model.predict(batch, draws(seed)).motion for seed in (1, 2))
    assert torch.equal(one, two)
    error = (one - batch.listener).detach().square().mean(dim=-1)
    terms = model(batch, draws())
    assert terms.keys() == {"motion"}
    assert float(terms["motion"].detach()) == pytest.approx(float(error[batch.mask].mean()), rel=1e-5)
    assert reaches(model, batch, speaker=-batch.speaker) and reaches(model, batch, attitude=(batch.attitude + 1) % 3)
    assert not reaches(model, batch, reference=-batch.reference)
    assert reaches(small("mfr", diffusion=False), batch, reference=-batch.reference)
