"""Listener ``mfr``: MFR-Net, Liu et al., ACM MM 2023: denoising diffusion over the listener's motion.

A transformer predicts the noise in a window of motion; other noise in prediction gives another listener.

    q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I)                                     (2)
    L_noise = E |eps - eps_theta(x_t, t, input)|^2                                          (3)
    mu = (x_t - (1 - alpha_t) / sqrt(1 - abar_t) eps_theta) / sqrt(alpha_t)                 (4)
    Attention(Q, K, V) = softmax(Q Wq (K Wk)^T / sqrt(C)) V Wv                              (5)

Feature Aggregation Module, 4 layers of 8 heads: identity modulates the latent (SPADE-like), self-attention; then
cross-attention to the speaker's frames, the attitude and the step; then a feed-forward layer.

What the paper leaves open, and our choice:

* Steps and schedule: 1000 on iDDPM's cosine (the paper follows iDDPM; ``schedule=linear``: Ho et al.'s, whom it follows
  too), ``sampling_steps`` of them in prediction; width 256; learning rate 1e-4, as iDDPM, to a hundredth on a cosine;
  epochs.
* Identity is VGGFace2's there. Here it is the listener's 3DMM identity (``listener_identity``, of fitters that give one
  for the clip) or a face recognition network's (``identity=face``, of stage ``face_identity``), and the first frame
  (``first_frame``): all come from the listener's picture. In training the window stands at any distance from it, and
  the model is told how far (up to ``far_frames``), as it is in prediction: only the first window begins with it.
* What the self-attention sees of "the combination" of identity and latent is the modulated latent.
* The windows of 40 frames, 20 apart, share one noisy sequence of the whole clip: in every step the noise is predicted
  for all windows and averaged where they overlap, with weights that fall to the windows' ends. What is denoised is one
  sequence throughout, so there is nothing to join.
* The network's output v gives the noise sqrt(abar) v + sqrt(1 - abar) x_t (Salimans and Ho, ICLR 2022): where almost
  all is noise, a small error of eps would be a large one of the data. The loss is eq. 3 all the same. With
  ``finds=noise`` the output is the noise, as in the paper.
* A frame's position in its window is added as sines and cosines, to the latent and to the speaker's frames alike.

Preset ``paper`` is the text; `Mfr.deviations` lists where the defaults differ.

Ablations of Table 4: ``aggregation=concat`` (w/o FAM) gives a plain transformer all features side by side;
``diffusion=False`` (w/o DIFF) is an LSTM that says the motion itself from the same features, without noise or steps:
the text has it predict noise, yet its diversity (.15) is that of listeners without chance (.16 and .17, Table 2). The
row without L_identity (eq. 6) differs in the renderer, whose loss that is: nothing here changes for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.stage import setting
from stages.train.listener import (
    TRAINS_ON_ALL,
    Batch,
    Deviation,
    Listener,
    Prediction,
    Sizes,
    TrainingSettings,
    masked_mean,
    published,
)

COSINE_OFFSET = 0.008  # keeps the first steps from adding next to no noise
LARGEST_BETA = 0.999
IDENTITIES = {"morphable": "listener_identity", "face": "listener_face_identity"}
SCHEDULES = ("cosine", "linear")
FINDS = ("v", "noise")
AGGREGATIONS = ("fam", "concat")
LSTM_LAYERS = 2  # as in the ViCo baseline


@dataclass(frozen=True)
class Settings(TrainingSettings):
    epochs: int = setting(300, "passes over the training windows")
    learning_rate: float = setting(1e-4, "of AdamW at the start")
    weight_decay: float = setting(0.0, "of AdamW")
    window_frames: int = setting(160, "frames out of which a step takes one window of the model", least=1)
    stride_frames: int = setting(80, "frames from the start of those to that of the next", least=1)
    model_frames: int = setting(40, "frames that the model sees", least=1)
    model_stride: int = setting(20, "frames from the start of a window of the model to that of the next", least=1)
    far_frames: int = setting(120, "distance from the first frame from which on it is all one", least=1)
    width: int = setting(256, "C of eq. 5", least=1)
    heads: int = setting(8, "of the attention", least=1)
    layers: int = setting(4, "of the Feature Aggregation Module", least=1)
    dropout: float = setting(0.1, "in its layers")
    identity: str = setting(
        "morphable", "the listener's: of the 3DMM, or of a recognised face", choices=tuple(IDENTITIES)
    )
    first_frame: bool = setting(True, "the listener's first frame and the distance from it are inputs")
    step_modulates: bool = setting(True, "the step modulates the latent as identity does")
    finds: str = setting("v", "what the network's output is: the noise, or v from which it follows", choices=FINDS)
    limit: float = setting(6.0, "of an estimate of the data, in standard deviations; 0: none")
    diffusion: bool = setting(True, "denoising; without it an LSTM says the motion")
    aggregation: str = setting(
        "fam", "of features: the Feature Aggregation Module, or side by side", choices=AGGREGATIONS
    )
    steps: int = setting(1000, "of the diffusion", least=1)
    schedule: str = setting("cosine", "of their noise", choices=SCHEDULES)
    sampling_steps: int = setting(100, "of them, in prediction", least=1)


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
    """v or noise in windows of motion, given speaker, attitude, step, identity and distance from the first frame."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, width = settings, settings.width
        identity = identity_size(settings, sizes)
        self.latent = nn.Linear(sizes.coefficients, width)
        self.speaker = nn.Linear(sizes.coefficients + sizes.audio, width)
        self.identity = nn.Sequential(nn.LayerNorm(identity), nn.Linear(identity, width), nn.SiLU())
        self.reference = nn.Linear(sizes.coefficients, width) if settings.first_frame else None
        self.attitude = nn.Embedding(sizes.attitudes, width)
        self.step = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        away = (nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)) if settings.first_frame else ()
        self.away = nn.Sequential(*away)
        self.layers = nn.ModuleList(AggregationLayer(settings) for _ in range(settings.layers))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sizes.coefficients))

    def forward(self, noisy: Tensor, step: Tensor, away: Tensor, window: Batch) -> Tensor:
        """``noisy`` (batch, frame, coefficient); ``step`` and ``away`` (batch,) in steps and frames."""
        width = self.latent.out_features
        positions = waves(torch.arange(noisy.shape[1], device=noisy.device), width)
        latent = self.latent(noisy) + positions
        speaker = self.speaker(torch.cat([window.speaker, window.audio], dim=-1)) + positions
        when = self.step(waves(step, width))
        tokens = [self.attitude(window.attitude), when]
        identity = self.identity(identity_of(window, self.settings))
        if self.settings.step_modulates:
            identity = identity + when
        if self.reference is not None:
            far = self.away(waves(away, width))
            tokens += [far, self.reference(window.reference)]
            identity = identity + far
        condition = torch.cat([speaker, torch.stack(tokens, dim=1)], dim=1)
        padding = padded(window)
        for layer in self.layers:
            latent = layer(latent, identity, condition, padding)
        return self.last(latent)


class Concatenation(nn.Module):
    """What `FeatureAggregation` finds, by a transformer that is given all features of a frame side by side."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, width = settings, settings.width
        waves_read = width * (1 + settings.first_frame)
        self.join = nn.Linear(sizes.coefficients + side_by_side_size(settings, sizes) + waves_read, width)
        layer = nn.TransformerEncoderLayer(
            width, settings.heads, 4 * width, settings.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False)
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sizes.coefficients))
        self.attitudes = sizes.attitudes

    def forward(self, noisy: Tensor, step: Tensor, away: Tensor, window: Batch) -> Tensor:
        width, frames = self.join.out_features, noisy.shape[1]
        numbers = [step, away] if self.settings.first_frame else [step]
        when = torch.cat([waves(number, width) for number in numbers], dim=1)[:, None].expand(-1, frames, -1)
        parts = [noisy, side_by_side(window, self.settings, self.attitudes), when]
        latent = self.join(torch.cat(parts, dim=-1)) + waves(torch.arange(frames, device=noisy.device), width)
        return self.last(self.layers(latent, src_key_padding_mask=padded(window)))


class LstmBackbone(nn.Module):
    """The motion itself (batch, frame, coefficient), by an LSTM that is given all features of a frame side by side."""

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, self.attitudes = settings, sizes.attitudes
        size = side_by_side_size(settings, sizes)
        self.layers = nn.LSTM(size, settings.width, LSTM_LAYERS, batch_first=True, dropout=settings.dropout)
        self.last = nn.Linear(settings.width, sizes.coefficients)

    def forward(self, window: Batch) -> Tensor:
        return self.last(self.layers(side_by_side(window, self.settings, self.attitudes))[0])


def identity_size(settings: Settings, sizes: Sizes) -> int:
    """Numbers of `identity_of`."""
    return sizes.extra[IDENTITIES[settings.identity]] + sizes.coefficients * settings.first_frame


def identity_of(window: Batch, settings: Settings) -> Tensor:
    """Who listens (batch, feature), and where settings say so how the first frame looks."""
    identity = window.extra[IDENTITIES[settings.identity]]
    if identity.dim() > 2:  # one a frame: prediction has none
        identity = torch.zeros_like(identity[:, 0])
    return torch.cat([identity, window.reference], dim=-1) if settings.first_frame else identity


def side_by_side_size(settings: Settings, sizes: Sizes) -> int:
    """Numbers of a frame of `side_by_side`."""
    return sizes.coefficients + sizes.audio + identity_size(settings, sizes) + sizes.attitudes


def side_by_side(window: Batch, settings: Settings, attitudes: int) -> Tensor:
    """Speaker, sound, identity, first frame and attitude (batch, frame, feature)."""
    of_clip = window.with_attitude(identity_of(window, settings), attitudes)[:, None]
    return torch.cat([window.speaker, window.audio, of_clip.expand(-1, window.speaker.shape[1], -1)], dim=-1)


def padded(window: Batch) -> Tensor:
    """(batch, frame), True where no frame counts; attention to nothing at all would be NaN."""
    return ~window.mask & window.mask.any(dim=1, keepdim=True)


class Mfr(Listener):
    """Motion denoised from Gaussian noise, windows of 40 frames on one sequence."""

    paper = (
        "Liu et al., MFR-Net: Multi-faceted Responsive Listening Head Generation via Denoising Diffusion, ACM MM 2023"
    )
    causal = False
    final_rate = 0.01
    stochastic = True
    Settings = Settings
    deviations = (
        Deviation(
            "sections 3.2 and 4.1.3", "identity is a feature of a face recognition network of VGGFace2",
            "the 3DMM's, which all data have, zeros where a fitter gives one a frame (deep3d); `face` is the column of "
            "stage `face_identity`: dlib's network, or with `face_identity.backend=facenet` one of VGGFace2",
            {"identity": "face"},
        ),
        Deviation(
            "section 3.2", "no motion of the listener is an input", "the first frame is, and how far the window stands "
            "from it: where a head rests cannot be told from a face", {"first_frame": False},
        ),
        Deviation(
            "section 3.2", "identity modulates the latent; the step is a key and value of the attention",
            "the step does both", {"step_modulates": False},
        ),
        Deviation(
            "section 3.1", "the network predicts the noise",
            "v, from which the noise follows: a small error of the noise would be a large one of the data",
            {"finds": "noise"},
        ),
        Deviation(
            "section 3.1, eqs. 1 and 4", "denoising step by step", "in 100 of the 1000 steps", {"sampling_steps": 1000},
        ),
        Deviation(
            "section 3.1, eq. 4", "eq. 4 as it stands; its schedule is not given, that of Ho et al. is linear",
            "what a step takes for the data is held within six deviations; the schedule is iDDPM's cosine, on which "
            "eq. 4 alone ended at a thousand deviations after a short training",
            {"schedule": "linear", "limit": 0.0},
        ),
        Deviation(
            "section 4.1.3", "windows of 40 frames, 20 apart",
            "windows of 40 that are drawn anew in every epoch out of 160 frames, 80 apart",
            {"window_frames": 40, "stride_frames": 20},
        ),
        TRAINS_ON_ALL,
        Deviation(
            "section 3.3", "clip by clip, with windows that overlap; how they are joined is not said",
            "one noisy sequence of the whole clip, so that there is nothing to join",
        ),
        Deviation(
            "section 4.5.1, table 4", "without diffusion an LSTM predicts the noise",
            "`diffusion=False` has no noise: the row's diversity is that of listeners without chance",
        ),
        Deviation(
            "section 3.3, eq. 6", "PIRenderer trained with an identity loss",
            "a loss of the renderer, as is its row of table 4: the listener's motion is the same",
        ),
    )  # fmt: skip
    presets = {"paper": published(deviations)}
    settings: Settings

    @classmethod
    def reads(cls, settings: Settings) -> tuple[str, ...]:
        return (IDENTITIES[settings.identity],)

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        if not settings.diffusion:
            self.module: nn.Module = LstmBackbone(settings, sizes)
            return
        self.module = (FeatureAggregation if settings.aggregation == "fam" else Concatenation)(settings, sizes)
        signal = {"cosine": cosine_signal, "linear": linear_signal}[settings.schedule]
        self.register_buffer("signal", signal(settings.steps), persistent=False)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        count, device = len(batch.mask), batch.mask.device
        reach = (batch.mask.sum(dim=1) - self.settings.model_frames).clamp(min=0)
        drawn = torch.rand(count, generator=generator, device=device)
        starts = (drawn * (reach + 1)).long()  # in their clips as far as those are long enough
        window = cut(batch, torch.arange(count, device=device), starts, self.settings.model_frames)
        if not self.settings.diffusion:
            error = (self.module(window) - window.listener).square().mean(dim=-1)
            return {"motion": masked_mean(error, window.mask)}
        step = torch.randint(self.settings.steps, (count,), generator=generator, device=device)
        noise = torch.randn(window.listener.shape, generator=generator, device=device)
        noisy = add_noise(window.listener, noise, self.signal[step])
        found = self._find_noise(noisy, step, starts, window)
        return {"noise": masked_mean((found - noise).square().mean(dim=-1), window.mask)}

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        if not self.settings.diffusion:
            return Prediction(self.module(batch))
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
        steps = min(self.settings.sampling_steps, self.settings.steps)
        motion = denoise(noise, self.signal, steps, find_noise, generator, self.settings.limit or math.inf)
        return Prediction(motion[:, :frames])

    def _find_noise(self, noisy: Tensor, step: Tensor, starts: Tensor, window: Batch) -> Tensor:
        """eps_theta: the noise in windows (window, frame, coefficient) at steps (window,)."""
        found = self.module(noisy, step, starts.clamp(max=self.settings.far_frames), window)
        if self.settings.finds == "noise":
            return found
        signal = self.signal[step][:, None, None]
        return signal.sqrt() * found + (1 - signal).sqrt() * noisy


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


def linear_signal(steps: int) -> Tensor:
    """`cosine_signal` of Ho, Jain and Abbeel (NeurIPS 2020): beta from 1e-4 to .02 in 1000 steps, more in fewer."""
    beta = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * 1000 / steps
    return (1 - beta.clamp(max=LARGEST_BETA)).cumprod(dim=0).float()


def add_noise(data: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """x_t of data (batch, ...) where ``signal`` (batch,) of the variance is left (Ho et al., NeurIPS 2020, eq. 4)."""
    signal = signal.view(-1, *(1,) * (data.dim() - 1))
    return signal.sqrt() * data + (1 - signal).sqrt() * noise


def denoise(
    noise: Tensor,
    signal: Tensor,
    steps: int,
    predict: Callable[[Tensor, int], Tensor],
    generator: torch.Generator,
    limit: float = math.inf,
) -> Tensor:
    """Data from noise in ``steps`` steps spread evenly over the schedule.

    ``predict`` (values, step of the schedule) returns the noise that it finds. The mean of a step is that of the
    posterior given the data it implies, eq. 4 above (eq. 7 and 11 of Ho, Jain and Abbeel, NeurIPS 2020); the variance
    is the posterior's (a constant, no network's). Early estimates of the data divide by almost nothing: they are held
    within ``limit``.
    """
    chosen = torch.linspace(0, len(signal) - 1, steps).round().long().tolist()
    values = noise
    for place in reversed(range(steps)):
        now = signal[chosen[place]]
        before = signal[chosen[place - 1]] if place else torch.ones_like(now)
        beta = 1 - now / before
        found = predict(values, chosen[place])
        data = ((values - (1 - now).sqrt() * found) / now.sqrt()).clamp(-limit, limit)
        mean = (before.sqrt() * beta * data + (now / before).sqrt() * (1 - before) * values) / (1 - now)
        fresh = torch.randn(values.shape, generator=generator, device=values.device) if place else 0.0
        values = mean + ((1 - before) / (1 - now) * beta).sqrt() * fresh
    return values
