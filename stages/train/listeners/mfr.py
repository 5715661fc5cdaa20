"""Listener ``mfr``: MFR-Net, Liu et al., ACM MM 2023: denoising diffusion over the listener's motion.

A transformer predicts the noise in a window of motion; other noise in prediction gives another listener.

    q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I)                                     (2)
    L_noise = E |eps - eps_theta(x_t, t, input)|^2                                          (3)
    mu = (x_t - (1 - alpha_t) / sqrt(1 - abar_t) eps_theta) / sqrt(alpha_t)                 (4)
    Attention(Q, K, V) = softmax(Q Wq (K Wk)^T / sqrt(C)) V Wv                              (5)

Feature Aggregation Module, 4 layers of 8 heads: identity modulates the latent (SPADE-like), self-attention; then
cross-attention to the speaker's frames, the attitude and the step; then a feed-forward layer.

What the paper leaves open, and our choice:

* Steps and schedule: 1000 on iDDPM's cosine (the paper follows iDDPM), ``sampling_steps`` of them in prediction; width
  256; learning rate 1e-4, as iDDPM, to a hundredth on a cosine; epochs.
* Identity is VGGFace2's there. Here it is the listener's 3DMM identity (``listener_identity``, of fitters that give one
  for the clip) and the first frame: both come from the listener's picture. In training the window stands at any
  distance from that frame, and the model is told how far (up to ``far_frames``), as it is in prediction: only the
  first window begins with it.
* The windows of 40 frames, 20 apart, share one noisy sequence of the whole clip: in every step the noise is predicted
  for all windows and averaged where they overlap, with weights that fall to the windows' ends. What is denoised is one
  sequence throughout, so there is nothing to join.
* The network's output v gives the noise sqrt(abar) v + sqrt(1 - abar) x_t (Salimans and Ho, ICLR 2022): where almost
  all is noise, a small error of eps would be a large one of the data. The loss is eq. 3 all the same.
* A frame's position in its window is added as sines and cosines, to the latent and to the speaker's frames alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.stage import setting
from stages.train.listener import Batch, Listener, Prediction, Sizes, TrainingSettings, masked_mean

COSINE_OFFSET = 0.008  # keeps the first steps from adding next to no noise
LARGEST_BETA = 0.999
LIMIT = 6.0  # of an estimate of the data, in standard deviations: early estimates divide by almost nothing


@dataclass(frozen=True)
class Settings(TrainingSettings):
    epochs: int = setting(300, "passes over the training windows")
    learning_rate: float = setting(1e-4, "of AdamW at the start")
    weight_decay: float = setting(0.0, "of AdamW")
    window_frames: int = setting(160, "frames out of which a step takes one window of the model")
    stride_frames: int = setting(80, "frames from the start of those to that of the next")
    model_frames: int = setting(40, "frames that the model sees")
    model_stride: int = setting(20, "frames from the start of a window of the model to that of the next")
    far_frames: int = setting(120, "distance from the first frame from which on it is all one")
    width: int = setting(256, "C of eq. 5")
    heads: int = setting(8, "of the attention")
    layers: int = setting(4, "of the Feature Aggregation Module")
    dropout: float = setting(0.1, "in its layers")
    steps: int = setting(1000, "of the diffusion")
    sampling_steps: int = setting(100, "of them, in prediction")


class AggregationLayer(nn.Module):
    """One layer of the Feature Aggregation Module."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        width, options = settings.width, {"dropout": settings.dropout, "batch_first": True}
        self.plain = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.look = nn.MultiheadAttention(width, settings.heads, **options)
        self.cross_norm = nn.LayerNorm(width)
        self.cross = nn.MultiheadAttention(width, settings.heads, **options)
        self.forward_norm = nn.LayerNorm(width)
        inner = (nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(settings.dropout))
        self.feed_forward = nn.Sequential(*inner, nn.Linear(4 * width, width))

    def forward(self, latent: Tensor, identity: Tensor, condition: Tensor, padding: Tensor) -> Tensor:
        """``padding`` (batch, frame) is True where there is no frame; ``condition`` ends with tokens that are none."""
        scale, shift = self.modulation(identity)[:, None].chunk(2, dim=-1)
        query = self.plain(latent) * (1 + scale) + shift
        latent = latent + self.look(query, query, query, key_padding_mask=padding, need_weights=False)[0]
        absent = functional.pad(padding, (0, condition.shape[1] - padding.shape[1]))
        query = self.cross_norm(latent)
        latent = latent + self.cross(query, condition, condition, key_padding_mask=absent, need_weights=False)[0]
        return latent + self.feed_forward(self.forward_norm(latent))


class FeatureAggregation(nn.Module):
    """v, from which the noise in windows of motion follows, given speaker, attitude, step, identity and distance."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        width = settings.width
        identity = sizes.extra["listener_identity"] + sizes.coefficients
        self.latent = nn.Linear(sizes.coefficients, width)
        self.speaker = nn.Linear(sizes.coefficients + sizes.audio, width)
        self.identity = nn.Sequential(nn.LayerNorm(identity), nn.Linear(identity, width), nn.SiLU())
        self.reference = nn.Linear(sizes.coefficients, width)
        self.attitude = nn.Embedding(sizes.attitudes, width)
        self.step = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.away = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(AggregationLayer(settings) for _ in range(settings.layers))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sizes.coefficients))

    def forward(self, noisy: Tensor, step: Tensor, away: Tensor, window: Batch) -> Tensor:
        """``noisy`` (batch, frame, coefficient); ``step`` and ``away`` (batch,) in steps and frames."""
        width = self.latent.out_features
        positions = waves(torch.arange(noisy.shape[1], device=noisy.device), width)
        latent = self.latent(noisy) + positions
        speaker = self.speaker(torch.cat([window.speaker, window.audio], dim=-1)) + positions
        when, far = self.step(waves(step, width)), self.away(waves(away, width))
        tokens = [self.attitude(window.attitude), when, far, self.reference(window.reference)]
        condition = torch.cat([speaker, torch.stack(tokens, dim=1)], dim=1)
        identity = window.extra["listener_identity"]
        if identity.dim() > 2:  # one a frame: prediction has none
            identity = torch.zeros_like(identity[:, 0])
        identity = self.identity(torch.cat([identity, window.reference], dim=-1))
        identity = identity + when + far
        padding = ~window.mask & window.mask.any(dim=1, keepdim=True)  # attention to nothing at all would be NaN
        for layer in self.layers:
            latent = layer(latent, identity, condition, padding)
        return self.last(latent)


class Mfr(Listener):
    """Motion denoised from Gaussian noise, windows of 40 frames on one sequence."""

    paper = (
        "Liu et al., MFR-Net: Multi-faceted Responsive Listening Head Generation via Denoising Diffusion, ACM MM 2023"
    )
    reads = ("listener_identity",)
    causal = False
    final_rate = 0.01
    stochastic = True
    Settings = Settings
    settings: Settings

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.module = FeatureAggregation(settings, sizes)
        self.register_buffer("signal", cosine_signal(settings.steps), persistent=False)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        count, device = len(batch.mask), batch.mask.device
        reach = (batch.mask.sum(dim=1) - self.settings.model_frames).clamp(min=0)
        drawn = torch.rand(count, generator=generator, device=device)
        starts = (drawn * (reach + 1)).long()  # in their clips as far as those are long enough
        window = cut(batch, torch.arange(count, device=device), starts, self.settings.model_frames)
        step = torch.randint(self.settings.steps, (count,), generator=generator, device=device)
        noise = torch.randn(window.listener.shape, generator=generator, device=device)
        noisy = add_noise(window.listener, noise, self.signal[step])
        found = self._find_noise(noisy, step, starts, window)
        return {"noise": masked_mean((found - noise).square().mean(dim=-1), window.mask)}

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        size, stride = self.settings.model_frames, self.settings.model_stride
        clips, frames = batch.mask.shape
        firsts = list(range(0, max(frames - size, 0) + stride, stride))  # the last window reaches the end or beyond
        rows = torch.arange(clips, device=batch.mask.device).repeat(len(firsts))
        starts = torch.tensor(firsts, device=batch.mask.device).repeat_interleave(clips)
        window = cut(batch, rows, starts, size)
        weights = taper(size, stride).to(batch.reference)[:, None]
        places = starts[:, None] + torch.arange(size, device=starts.device)  # (window, frame) in the clip

        def find_noise(noisy: Tensor, step: int) -> Tensor:
            found = self._find_noise(noisy[rows[:, None], places], torch.full_like(starts, step), starts, window)
            sums, shares = torch.zeros_like(noisy), torch.zeros_like(noisy[..., :1])
            sums.index_put_((rows[:, None], places), found.to(sums) * weights, accumulate=True)
            shares.index_put_((rows[:, None], places), weights.expand(len(rows), -1, -1), accumulate=True)
            return sums / shares

        shape = (clips, firsts[-1] + size, self.sizes.coefficients)
        noise = torch.randn(shape, generator=generator, device=batch.mask.device)
        motion = denoise(noise, self.signal, self.settings.sampling_steps, find_noise, generator)
        return Prediction(motion[:, :frames])

    def _find_noise(self, noisy: Tensor, step: Tensor, starts: Tensor, window: Batch) -> Tensor:
        """eps_theta: the noise in windows (window, frame, coefficient) at steps (window,)."""
        signal, away = self.signal[step][:, None, None], starts.clamp(max=self.settings.far_frames)
        return signal.sqrt() * self.module(noisy, step, away, window) + (1 - signal).sqrt() * noisy


def cut(batch: Batch, rows: Tensor, starts: Tensor, frames: int) -> Batch:
    """Windows of the rows from their starts on; what lies beyond the clip is padding."""
    missing = max(int(starts.max()) + frames - batch.mask.shape[1], 0)
    places = starts[:, None] + torch.arange(frames, device=starts.device)

    def pick(values: Tensor) -> Tensor:
        return functional.pad(values, (0, 0) * (values.dim() - 2) + (0, missing))[rows[:, None], places]

    along = {name: pick(getattr(batch, name)) for name in ("speaker", "listener", "audio", "mask")}
    extra = {name: values[rows] for name, values in batch.extra.items()}
    return replace(batch, **along, reference=batch.reference[rows], attitude=batch.attitude[rows], extra=extra)


def taper(frames: int, stride: int) -> Tensor:
    """Weights (frame,) of a window in the mean of windows: 1 in the middle, falling to both ends over the overlap."""
    ramp = torch.arange(1, frames + 1) / (max(frames - stride, 0) + 1)
    return torch.minimum(ramp, ramp.flip(0)).clamp(max=1)


def waves(numbers: Tensor, width: int) -> Tensor:
    """Sines and cosines (..., width) of numbers, with wavelengths from 2 pi to 20 000 pi (Vaswani et al., 2017)."""
    rates = torch.exp(torch.arange(0, width, 2, device=numbers.device) * (-math.log(10_000.0) / width))
    angles = numbers[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def cosine_signal(steps: int) -> Tensor:
    """Share of the signal's variance (alpha bar) after each of the steps (step,), from almost 1 to almost 0.

    After Nichol and Dhariwal, ICML 2021, as are fewer steps in sampling than in training.
    """
    angles = (torch.arange(steps + 1, dtype=torch.float64) / steps + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2
    share = angles.cos().square()
    beta = (1 - share[1:] / share[:-1]).clamp(max=LARGEST_BETA)
    return (1 - beta).cumprod(dim=0).float()


def add_noise(data: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """x_t of data (batch, ...) where ``signal`` (batch,) of the variance is left (Ho et al., NeurIPS 2020, eq. 4)."""
    signal = signal.view(-1, *(1,) * (data.dim() - 1))
    return signal.sqrt() * data + (1 - signal).sqrt() * noise


def denoise(
    noise: Tensor, signal: Tensor, steps: int, predict: Callable[[Tensor, int], Tensor], generator: torch.Generator
) -> Tensor:
    """Data from noise in ``steps`` steps spread evenly over the schedule.

    ``predict`` (values, step of the schedule) returns the noise that it finds. The mean of a step is that of the
    posterior given the data it implies, eq. 4 above (eq. 7 and 11 of Ho, Jain and Abbeel, NeurIPS 2020); the variance
    is the posterior's (a constant, no network's).
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
