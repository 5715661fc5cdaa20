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
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.stage import setting
from stages.train.layers.diffusion import add_noise, cosine_signal, denoise
from stages.train.listener import Batch, Listener, Prediction, Sizes, TrainingSettings, cosine, masked_mean


@dataclass(frozen=True)
class Settings(TrainingSettings):
    epochs: int = setting(300, "passes over the training windows")
    batch_size: int = setting(32, "windows a step, over all workers together")
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
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(settings.dropout), nn.Linear(4 * width, width)
        )

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
        self.width = width

    def forward(self, noisy: Tensor, step: Tensor, away: Tensor, window: Batch) -> Tensor:
        """``noisy`` (batch, frame, coefficient); ``step`` and ``away`` (batch,) in steps and frames."""
        positions = waves(torch.arange(noisy.shape[1], device=noisy.device), self.width)
        latent = self.latent(noisy) + positions
        speaker = self.speaker(torch.cat([window.speaker, window.audio], dim=-1)) + positions
        tokens = [
            self.attitude(window.attitude),
            self.step(waves(step, self.width)),
            self.away(waves(away, self.width)),
            self.reference(window.reference),
        ]
        condition = torch.cat([speaker, torch.stack(tokens, dim=1)], dim=1)
        identity = self.identity(torch.cat([identity_of(window), window.reference], dim=-1))
        identity = identity + tokens[1] + tokens[2]
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
    stochastic = True
    Settings = Settings
    settings: Settings

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.module = FeatureAggregation(settings, sizes)
        self.register_buffer("signal", cosine_signal(settings.steps), persistent=False)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        count, device = len(batch.mask), batch.mask.device
        starts = self._draw_starts(batch, generator)
        window = cut(batch, torch.arange(count, device=device), starts, self.settings.model_frames)
        step = torch.randint(self.settings.steps, (count,), generator=generator, device=device)
        noise = torch.randn(window.listener.shape, generator=generator, device=device)
        noisy = add_noise(window.listener, noise, self.signal[step])
        away = starts.clamp(max=self.settings.far_frames)
        found = self._find_noise(noisy, step, away, window)
        return {"noise": masked_mean((found - noise).square().mean(dim=-1), window.mask)}

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        size, stride, clips = self.settings.model_frames, self.settings.model_stride, len(batch.mask)
        frames = batch.mask.shape[1]
        firsts = list(range(0, max(frames - size, 0) + stride, stride))  # the last window reaches the end or beyond
        rows = torch.arange(clips, device=batch.mask.device).repeat(len(firsts))
        starts = torch.tensor(firsts, device=batch.mask.device).repeat_interleave(clips)
        total = firsts[-1] + size
        window = cut(batch, rows, starts, size)
        away = starts.clamp(max=self.settings.far_frames)
        weights = taper(size, stride).to(batch.reference)[:, None]
        places = starts[:, None] + torch.arange(size, device=starts.device)  # (window, frame) in the clip

        def find_noise(noisy: Tensor, step: int) -> Tensor:
            found = self._find_noise(noisy[rows[:, None], places], starts.new_full((len(rows),), step), away, window)
            sums, shares = torch.zeros_like(noisy), torch.zeros_like(noisy[..., :1])
            sums.index_put_((rows[:, None], places), found.to(sums) * weights, accumulate=True)
            shares.index_put_((rows[:, None], places), weights.expand(len(rows), -1, -1), accumulate=True)
            return sums / shares

        shape = (clips, total, self.sizes.coefficients)
        noise = torch.randn(shape, generator=generator, device=batch.mask.device)
        motion = denoise(noise, self.signal, self.settings.sampling_steps, find_noise, generator)
        return Prediction(motion[:, :frames])

    def learning_rate_factor(self, epoch: float) -> float:
        return cosine(epoch, self.settings.epochs)

    def _find_noise(self, noisy: Tensor, step: Tensor, away: Tensor, window: Batch) -> Tensor:
        """eps_theta: the noise in windows (window, frame, coefficient) at steps (window,)."""
        signal = self.signal[step][:, None, None]
        return signal.sqrt() * self.module(noisy, step, away, window) + (1 - signal).sqrt() * noisy

    def _draw_starts(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Starts (batch,) of windows that lie in their clips as far as those are long enough."""
        reach = (batch.mask.sum(dim=1) - self.settings.model_frames).clamp(min=0)
        drawn = torch.rand(len(reach), generator=generator, device=reach.device)
        return (drawn * (reach + 1)).long()


def identity_of(batch: Batch) -> Tensor:
    """The listener's identity (batch, number); zeros where the fitter gives one a frame, which prediction has not."""
    identity = batch.extra["listener_identity"]
    return identity if identity.dim() == 2 else torch.zeros_like(identity[:, 0])


def cut(batch: Batch, rows: Tensor, starts: Tensor, frames: int) -> Batch:
    """Windows of the rows from their starts on; what lies beyond the clip is padding."""
    missing = max(int(starts.max()) + frames - batch.mask.shape[1], 0)
    places = starts[:, None] + torch.arange(frames, device=starts.device)

    def pick(values: Tensor) -> Tensor:
        padded = functional.pad(values, (0, 0) * (values.dim() - 2) + (0, missing))
        return padded[rows[:, None], places]

    return Batch(
        speaker=pick(batch.speaker),
        listener=pick(batch.listener),
        audio=pick(batch.audio),
        reference=batch.reference[rows],
        attitude=batch.attitude[rows],
        mask=pick(batch.mask),
        extra={name: values[rows] for name, values in batch.extra.items()},
    )


def taper(frames: int, stride: int) -> Tensor:
    """Weights (frame,) of a window in the mean of windows: 1 in the middle, falling to both ends over the overlap."""
    overlap = max(frames - stride, 0)
    ramp = torch.arange(1, frames + 1) / (overlap + 1)
    return torch.minimum(ramp, ramp.flip(0)).clamp(max=1)


def waves(numbers: Tensor, width: int) -> Tensor:
    """Sines and cosines (..., width) of numbers, with wavelengths from 2 pi to 20 000 pi (Vaswani et al., 2017)."""
    rates = torch.exp(torch.arange(0, width, 2, device=numbers.device) * (-math.log(10_000.0) / width))
    angles = numbers[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
