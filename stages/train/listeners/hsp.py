"""Listener ``hsp``: Hierarchical Semantic Perceptual listener head, Chang et al., ACM MM 2023, winner of ViCo@2023.

Sound is heard at three levels, and the highest is drawn towards the words by a contrastive loss; the levels, the words
and the MFCC are weighed by an SE-ResNet block, joined with the speaker's coefficients and read by a GRU of six layers.

    L_const = -log exp(sim(f_t, f_high+)/tau) / sum_i sum_l exp(sim(f_t, f_l(i))/tau)                 (2)  sim: cosine
    A(t) = SE-ResNet(f_high, f_mid, f_low, S_T, M_T)                                                  (3)
    e(t) = f_XM(beta(t), p(t), A(t))                                                                  (4)
    beta, p (t+1) = GRU(h(t), e(t))                                                                   (5)
    L_dec = sum |beta - beta'| + |p - p'| + w1 |mu(beta) - mu(beta')| + w2 |mu(p) - mu(p')|, t >= 2   (6)

What the paper leaves open, and our choice:

* Shards hold no spectrogram: ResNetSE34 (stages 2, 3, 4: low, middle, high) reads the 45 acoustic features as a map of
  one channel; M_T are its first 42, cepstrum and differences.
* S_T are the data set's token embeddings, each held for the frames in which its word is spoken, zero in pauses;
  E_text is a linear map of them. Neither recogniser nor text network is trained here.
* Eq. 2: ``contrast_frames`` frames with words are drawn from a batch; the text of each meets the three levels of all of
  them; tau .07 (as in MoCo, CLIP). It is added to eq. 6 with weight ``contrast_weight``.
* f_XM: linear maps of all its inputs to one width, their sum, layer normalisation, ReLU.
* The first frame V(1) enters as input of every frame, as the first hidden states of all layers, and as what the
  GRU's output is added to. The attitude goes with the former two; the paper has none (``attitude=False``, preset
  ``paper``).
* w1 = .1 and w2 = 1e-4 are those of the ViCo baseline; widths, windows and learning rate (to a hundredth on a
  cosine) are ours.
* The GRU runs in both directions: this listener hears the whole clip before it answers (not causal).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.stage import setting
from stages.train.layers.se_resnet import SEResNet34, SqueezeExcite
from stages.train.layers.sequence import BidirectionalGru, MaskedConv, distance, inside, motion_distance
from stages.train.listener import Batch, Listener, Prediction, Sizes, TrainingSettings, cosine

CEPSTRUM = 42  # of the acoustic features: 14 coefficients, their differences, and the differences of those
LAYERS = 6  # of the GRU, in each of two directions


@dataclass(frozen=True)
class Settings(TrainingSettings):
    epochs: int = setting(100, "passes over the training windows")
    batch_size: int = setting(32, "windows a step, over all workers together")
    learning_rate: float = setting(1e-3, "of AdamW at the start")
    weight_decay: float = setting(0.05, "of AdamW")
    audio_width: int = setting(16, "of the first stage of ResNetSE34; doubled in each of the next three")
    width: int = setting(128, "of each of the five that eq. 3 fuses, and of eq. 4")
    hidden: int = setting(256, "of the GRU, in each direction")
    dropout: float = setting(0.1, "between the layers of the GRU")
    expression_motion_weight: float = setting(0.1, "w1 of eq. 6")
    pose_motion_weight: float = setting(1e-4, "w2 of eq. 6")
    contrast_weight: float = setting(0.1, "of eq. 2 beside eq. 6")
    contrast_frames: int = setting(64, "K of eq. 2, frames with words that are drawn from a batch")
    contrast_temperature: float = setting(0.07, "tau of eq. 2")
    attitude: bool = setting(True, "whether the attitude is an input; the paper has none")


class AudioFusion(nn.Module):
    """Eq. 3: five descriptions of a frame's sound, one behind the other, through a residual block with SE weights."""

    def __init__(self, inputs: list[int], width: int) -> None:
        super().__init__()
        self.read = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        total = width * len(inputs)
        self.first = MaskedConv(total, width)
        self.second = MaskedConv(width, total, activate=False)
        self.weigh = SqueezeExcite(total)

    def forward(self, parts: list[Tensor], mask: Tensor) -> Tensor:
        joined = torch.cat([read(part) for read, part in zip(self.read, parts, strict=True)], dim=-1)
        joined = joined.transpose(1, 2) * mask[:, None]  # (batch, 5 width, frame)
        inner = self.weigh(self.second(self.first(joined, mask), mask), mask)
        return (joined + inner).relu().transpose(1, 2)


class Hsp(Listener):
    """The next frame of the listener from all of the speaker's sound, words and motion."""

    paper = "Chang et al., Hierarchical Semantic Perceptual Listener Head Video Generation, ACM MM 2023"
    reads = ("token_embedding",)
    causal = False
    Settings = Settings
    presets = {"paper": {"attitude": False}}
    settings: Settings

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        width, words = settings.width, sizes.extra["token_embedding"]
        self.hear = SEResNet34(settings.audio_width)
        levels = list(self.hear.widths[1:])
        self.align = nn.ModuleList(nn.Linear(size, width) for size in levels)  # of eq. 2, to the width of f_t
        self.text = nn.Linear(words, width)  # E_text
        self.fuse_audio = AudioFusion([*levels, words, CEPSTRUM], width)
        start = sizes.coefficients + sizes.attitudes * settings.attitude
        self.parts = sizes.motion.expression_and_pose
        inputs = [*(part.stop - part.start for part in self.parts), 5 * width, start]
        self.fuse = nn.ModuleList(nn.Linear(size, width) for size in inputs)
        self.norm = nn.LayerNorm(width)
        self.start = nn.Linear(start, 2 * LAYERS * settings.hidden)
        self.gru = BidirectionalGru(width, settings.hidden, LAYERS, settings.dropout)
        self.last = nn.Linear(2 * settings.hidden, sizes.coefficients)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        levels = self.hear(batch.audio, inside(batch.mask))
        motion = self._decode(batch, levels)
        later = batch.mask.clone()
        later[:, 0] = False  # frame 1 of the papers is given
        (beta, p), (beta_true, p_true) = (
            [values[..., part] for part in self.parts] for values in (motion, batch.listener)
        )
        weights = self.settings
        return {
            "expression": distance(beta, beta_true, later),
            "pose": distance(p, p_true, later),
            "expression_motion": weights.expression_motion_weight * motion_distance(beta, beta_true, batch.mask),
            "pose_motion": weights.pose_motion_weight * motion_distance(p, p_true, batch.mask),
            "contrast": weights.contrast_weight * self._contrast(batch, levels, generator),
        }

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        return Prediction(self._decode(batch, self.hear(batch.audio, inside(batch.mask))))

    def learning_rate_factor(self, epoch: float) -> float:
        return cosine(epoch, self.settings.epochs)

    def _decode(self, batch: Batch, levels: list[Tensor]) -> Tensor:
        """Motion (batch, frame, coefficient): the first frame as given, then eq. 5."""
        frames = inside(batch.mask)
        audio = self.fuse_audio([*levels, batch.extra["token_embedding"], batch.audio[..., :CEPSTRUM]], frames)
        start = batch.reference
        if self.settings.attitude:
            start = torch.cat([start, functional.one_hot(batch.attitude, self.sizes.attitudes).to(start.dtype)], dim=1)
        parts = [*(batch.speaker[..., part] for part in self.parts), audio, start[:, None]]
        fused = sum(read(part) for read, part in zip(self.fuse, parts, strict=True))
        state = self.start(start).tanh().unflatten(1, (2 * LAYERS, -1)).transpose(0, 1)
        following = batch.reference[:, None] + self.last(self.gru(self.norm(fused).relu(), frames, state))
        return torch.cat([batch.reference[:, None], following[:, :-1]], dim=1)

    def _contrast(self, batch: Batch, levels: list[Tensor], generator: torch.Generator) -> Tensor:
        """Eq. 2, mean over the drawn frames; zero where no word is spoken."""
        words = batch.extra["token_embedding"]
        spoken = (batch.mask & words.ne(0).any(dim=-1)).flatten().nonzero().squeeze(1)
        order = torch.randperm(len(spoken), generator=generator, device=generator.device)
        drawn = spoken[order[: self.settings.contrast_frames]]
        text = functional.normalize(self.text(words.flatten(0, 1)[drawn]), dim=-1)
        heard = [
            functional.normalize(read(level.flatten(0, 1)[drawn]), dim=-1)
            for read, level in zip(self.align, levels, strict=True)
        ]
        similar = torch.cat([text @ level.T for level in heard[::-1]], dim=1) / self.settings.contrast_temperature
        # the high level stands first, so that the positive of row i is in column i
        losses = similar.logsumexp(dim=1) - similar.diagonal()
        return losses.sum() / max(len(drawn), 1)
