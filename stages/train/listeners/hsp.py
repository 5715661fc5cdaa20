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
from stages.train.listener import Batch, Listener, Prediction, Sizes, TrainingSettings
from stages.train.sequence import BidirectionalGru, MaskedBatchNorm, MaskedConv, distance, inside, motion_distance

CEPSTRUM = 42  # of the acoustic features: 14 coefficients, their differences, and the differences of those
LAYERS = 6  # of the GRU, in each of two directions
BLOCKS = (3, 4, 6, 3)  # of the four stages of a ResNet-34
REDUCTION = 8  # of the squeezed vector inside an SE layer


@dataclass(frozen=True)
class Settings(TrainingSettings):
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


class SqueezeExcite(nn.Module):
    """Weights of features (batch, feature, ..., frame) from their mean over the frames in the mask."""

    def __init__(self, features: int) -> None:
        super().__init__()
        inner = max(features // REDUCTION, 1)
        self.weigh = nn.Sequential(nn.Linear(features, inner), nn.ReLU(), nn.Linear(inner, features), nn.Sigmoid())

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        others = list(range(2, values.dim()))
        places = values[0, 0, ..., 0].numel()
        mean = values.sum(others) / (mask.sum(dim=1, keepdim=True).clamp(min=1) * places)  # zeros in the padding
        return values * self.weigh(mean)[(..., *[None] * len(others))]


class SEBlock(nn.Module):
    """Two 3x3 convolutions, squeeze and excitation, and a shortcut, on maps (batch, channel, feature, frame)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride=(stride, 1), padding=1, bias=False)
        self.first_norm = MaskedBatchNorm(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = MaskedBatchNorm(width)
        self.weigh = SqueezeExcite(width)
        changes = stride != 1 or channels != width
        self.shortcut = nn.Conv2d(channels, width, 1, stride=(stride, 1), bias=False) if changes else None

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        inner = self.first_norm(self.first(values), mask).relu()
        inner = self.weigh(self.second_norm(self.second(inner), mask), mask)
        return (inner + (values if self.shortcut is None else self.shortcut(values))).relu()


class SEResNet34(nn.Module):
    """Acoustic features (batch, frame, feature) -> outputs of stages 2, 3 and 4, each (batch, frame, width).

    The thin ResNet-34 with squeeze and excitation of Chung et al. (In defence of metric learning for speaker
    recognition, Interspeech 2020; SE: Hu, Shen and Sun, CVPR 2018). Strides run along the features alone, so that every
    frame keeps its own vector at every stage.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, (7, 7), padding=3, bias=False)
        self.stem_norm = MaskedBatchNorm(width)
        self.widths = tuple(width * 2**stage for stage in range(4))
        self.stages = nn.ModuleList()
        before = [width, *self.widths[:3]]
        for blocks, channels, after in zip(BLOCKS, before, self.widths, strict=True):
            first = SEBlock(channels, after, stride=after // channels)
            self.stages.append(nn.ModuleList([first, *(SEBlock(after, after, 1) for _ in range(blocks - 1))]))

    def forward(self, audio: Tensor, mask: Tensor) -> list[Tensor]:
        values = self.stem_norm(self.stem(audio.transpose(1, 2)[:, None]), mask).relu()
        levels = []
        for stage in self.stages:
            for block in stage:
                values = block(values, mask)
            levels.append(values.mean(dim=2).transpose(1, 2))  # mean over the features' axis
        return levels[1:]


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
    final_rate = 0.01
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
        beta, p = (motion[..., part] for part in self.parts)
        beta_true, p_true = (batch.listener[..., part] for part in self.parts)
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

    def _decode(self, batch: Batch, levels: list[Tensor]) -> Tensor:
        """Motion (batch, frame, coefficient): the first frame as given, then eq. 5."""
        frames = inside(batch.mask)
        audio = self.fuse_audio([*levels, batch.extra["token_embedding"], batch.audio[..., :CEPSTRUM]], frames)
        start = batch.with_attitude(batch.reference, self.sizes.attitudes * self.settings.attitude)
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
        sounds = [read(level.flatten(0, 1)[drawn]) for read, level in zip(self.align, levels, strict=True)]
        heard = [functional.normalize(sound, dim=-1) for sound in sounds]
        similar = torch.cat([text @ level.T for level in heard[::-1]], dim=1) / self.settings.contrast_temperature
        # the high level stands first, so that the positive of row i is in column i
        losses = similar.logsumexp(dim=1) - similar.diagonal()
        return losses.sum() / max(len(drawn), 1)
