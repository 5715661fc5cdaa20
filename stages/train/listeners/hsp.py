"""Listener ``hsp``: Hierarchical Semantic Perceptual listener head, Chang et al., ACM MM 2023, winner of ViCo@2023.

Sound is heard at three levels, and the highest is drawn towards the words by a contrastive loss; the levels, the words
and the MFCC are weighed by an SE-ResNet block, joined with the speaker's coefficients and read by a GRU of six layers.

    L_const = -log exp(sim(f_t, f_high+)/tau) / sum_i sum_l exp(sim(f_t, f_l(i))/tau)                 (2)  sim: cosine
    A(t) = SE-ResNet(f_high, f_mid, f_low, S_T, M_T)                                                  (3)
    e(t) = f_XM(beta(t), p(t), A(t))                                                                  (4)
    beta, p (t+1) = GRU(h(t), e(t))                                                                   (5)
    L_dec = sum |beta - beta'| + |p - p'| + w1 |mu(beta) - mu(beta')| + w2 |mu(p) - mu(p')|, t >= 2   (6)

What the paper leaves open, and our choice:

* ResNetSE34 (stages 2, 3, 4: low, middle, high) reads the 45 acoustic features as a map of one channel, or with
  ``spectrogram=True`` the log-mel spectrogram of the stage of that name, each band normalised over the clip as in Chung
  et al.; its second stage makes one of the rows of a frame. M_T are the first 42 features, cepstrum and differences.
* S_T are the data set's token embeddings, each held for the frames in which its word is spoken, zero in pauses;
  E_text is a linear map of them. Neither recogniser nor text network is trained here.
* Eq. 2: ``contrast_frames`` frames with words are drawn from a batch; the text of each meets the three levels of all of
  them; tau .07 (as in MoCo, CLIP). It is added to eq. 6 with weight ``contrast_weight``.
* f_XM: linear maps of all its inputs to one width, their sum, layer normalisation, ReLU.
* The first frame V(1) enters as the first hidden states of all layers, as an input of every frame
  (``start_everywhere``), and as what the GRU's output is added to (``residual``). The attitude goes with the first two.
* w1 = .1 and w2 = 1e-4 are those of the ViCo baseline; widths, windows and learning rate (to a hundredth on a
  cosine) are ours.
* The GRU runs in both directions: this listener hears the whole clip before it answers (not causal).

Preset ``paper`` is the text; `Hsp.deviations` lists where the defaults differ.

Table 2 has one row of another listener, the challenge's baseline (here ``vico_lstm`` with preset ``code``); the others
differ in the renderer. The parts that its discussion names are settings: ``audio_encoder=baseline`` is this decoder on
the ViCo baseline's 45 features, ``none`` hears nothing; ``text_encoder=False`` has no words and no eq. 2;
``visual_encoder=False`` does not see the speaker.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.stage import setting
from schemas.errors import UserError
from stages.train.listener import (
    TRAINS_ON_ALL,
    Batch,
    Deviation,
    Listener,
    Prediction,
    Sizes,
    TrainingSettings,
    published,
)
from stages.train.sequence import BidirectionalGru, MaskedBatchNorm, MaskedConv, distance, inside, motion_distance

CEPSTRUM = 42  # of the acoustic features: 14 coefficients, their differences, and the differences of those
ROWS = 3  # of a video frame in the column log_mel
LAYERS = 6  # of the GRU, in each of two directions
BLOCKS = (3, 4, 6, 3)  # of the four stages of a ResNet-34
REDUCTION = 8  # of the squeezed vector inside an SE layer
ENCODERS = ("hierarchical", "baseline", "none")


@dataclass(frozen=True)
class Settings(TrainingSettings):
    audio_width: int = setting(16, "of the first stage of ResNetSE34; doubled in each of the next three", least=1)
    width: int = setting(128, "of each of the five that eq. 3 fuses, and of eq. 4", least=1)
    hidden: int = setting(256, "of the GRU, in each direction", least=1)
    dropout: float = setting(0.1, "between the layers of the GRU")
    expression_motion_weight: float = setting(0.1, "w1 of eq. 6")
    pose_motion_weight: float = setting(1e-4, "w2 of eq. 6")
    contrast_weight: float = setting(0.1, "of eq. 2 beside eq. 6")
    contrast_frames: int = setting(64, "K of eq. 2, frames with words that are drawn from a batch", least=1)
    contrast_temperature: float = setting(0.07, "tau of eq. 2")
    attitude: bool = setting(True, "whether the attitude is an input; the paper has none")
    residual: bool = setting(True, "what the GRU says is added to the listener's first frame")
    start_everywhere: bool = setting(
        True, "first frame and attitude are inputs of all frames, not of the first state alone"
    )
    spectrogram: bool = setting(False, "ResNetSE34 reads log_mel, of stage spectrogram, instead of 45 features a frame")
    audio_encoder: str = setting(
        "hierarchical", "the paper's, the ViCo baseline's 45 features, or none", choices=ENCODERS
    )
    visual_encoder: bool = setting(True, "whether the speaker's coefficients are inputs")
    text_encoder: bool = setting(True, "whether words are inputs of the hierarchical audio encoder, and eq. 2 a loss")


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
    """Two 3x3 convolutions, squeeze and excitation, and a shortcut, on maps (batch, channel, feature, frame).

    With ``rows`` a frame has so many columns in the map that is read, and one in what comes out.
    """

    def __init__(self, channels: int, width: int, stride: int, rows: int = 1) -> None:
        super().__init__()
        kernel, padding = ((3, 3), (1, 1)) if rows == 1 else ((3, rows), (1, 0))
        self.first = nn.Conv2d(channels, width, kernel, stride=(stride, rows), padding=padding, bias=False)
        self.first_norm = MaskedBatchNorm(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = MaskedBatchNorm(width)
        self.weigh = SqueezeExcite(width)
        changes = stride != 1 or channels != width
        pooled = {"kernel_size": (1, rows), "stride": (stride, rows)}
        self.shortcut = nn.Conv2d(channels, width, **pooled, bias=False) if changes else None

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        inner = self.first_norm(self.first(values), mask).relu()
        inner = self.weigh(self.second_norm(self.second(inner), mask), mask)
        return (inner + (values if self.shortcut is None else self.shortcut(values))).relu()


class SEResNet34(nn.Module):
    """Maps of sound (batch, frame * rows, feature) -> outputs of stages 2, 3 and 4, each (batch, frame, width).

    The thin ResNet-34 with squeeze and excitation of Chung et al. (In defence of metric learning for speaker
    recognition, Interspeech 2020; SE: Hu, Shen and Sun, CVPR 2018). Strides run along the features, and along time only
    where stage 2 joins a frame's rows: every frame keeps its own vector.
    """

    def __init__(self, width: int, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.stem = nn.Conv2d(1, width, (7, 7), padding=3, bias=False)
        self.stem_norm = MaskedBatchNorm(width)
        self.widths = tuple(width * 2**stage for stage in range(4))
        self.stages = nn.ModuleList()
        before = [width, *self.widths[:3]]
        for stage, (blocks, channels, after) in enumerate(zip(BLOCKS, before, self.widths, strict=True)):
            first = SEBlock(channels, after, stride=after // channels, rows=rows if stage == 1 else 1)
            self.stages.append(nn.ModuleList([first, *(SEBlock(after, after, 1) for _ in range(blocks - 1))]))

    def forward(self, audio: Tensor, mask: Tensor) -> list[Tensor]:
        """``mask`` is the frames'."""
        rows = mask.repeat_interleave(self.rows, dim=1)
        values = self.stem_norm(self.stem(audio.transpose(1, 2)[:, None]), rows).relu()
        levels = []
        for number, stage in enumerate(self.stages):
            for block in stage:
                values = block(values, mask if number else rows)
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
    causal = False
    final_rate = 0.01
    Settings = Settings
    deviations = (
        Deviation(
            "section 4.2", "64 numbers of expression, by a work that gives 10 (3DDFA-V2)",
            "as many as the data's fitter gives",
        ),
        Deviation(
            "section 3.1, eq. 1", "speaker, sound and the listener's first frame",
            "the attitude too, which ViCo labels", {"attitude": False},
        ),
        Deviation(
            "section 4.3", "a ResNetSE34 of speaker recognition, which hears a spectrogram",
            "it reads the 45 acoustic features, which all data have; the column `log_mel` is stage `spectrogram`'s",
            {"spectrogram": True},
        ),
        Deviation(
            "section 4.3", "that network's stages 2 to 4 each halve time; how frames find their vectors is not said",
            "they stride along the bands alone: a vector a frame, which eqs. 2 and 3 ask for",
        ),
        Deviation(
            "section 4.3", "a text encoder of its own, E_text, beside BERT; neither is named further",
            "a linear map of the data's token embeddings (`text.model`, MiniLM by default) is E_text",
        ),
        Deviation(
            "section 4.4, eq. 4", "the GRU is driven by the speaker alone",
            "by the listener's first frame (and the attitude) as well", {"start_everywhere": False},
        ),
        Deviation(
            "eq. 5", "the GRU says the coefficients", "what it says is added to those of the first frame: it then says "
            "how they move, of people it never saw too", {"residual": False},
        ),
        Deviation(
            "section 1", "training techniques for little data, which are not named",
            "dropout between the layers of the GRU",
        ),
        TRAINS_ON_ALL,
        Deviation(
            "section 4.5", "3DFaceShop draws the pictures, RVRT restores them",
            "a matter of jobs.render, which has neither",
        ),
    )  # fmt: skip
    presets = {"paper": published(deviations)}
    settings: Settings

    @classmethod
    def reads(cls, settings: Settings) -> tuple[str, ...]:
        wanted = {"token_embedding": settings.text_encoder, "log_mel": settings.spectrogram}
        hears = settings.audio_encoder == "hierarchical"
        return tuple(name for name, read in wanted.items() if read and hears)

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        width, words = settings.width, sizes.extra.get("token_embedding", 0)
        self.parts = sizes.motion.expression_and_pose
        self.hears = settings.audio_encoder == "hierarchical"
        self.reads_words = self.hears and settings.text_encoder
        sound = sizes.audio if settings.audio_encoder == "baseline" else 0
        if self.hears:
            self.hear = SEResNet34(settings.audio_width, ROWS if settings.spectrogram else 1)
            described = [*self.hear.widths[1:], *([words] if self.reads_words else []), CEPSTRUM]
            if self.reads_words:
                self.align = nn.ModuleList(nn.Linear(size, width) for size in self.hear.widths[1:])  # of eq. 2, to f_t
                self.text = nn.Linear(words, width)  # E_text
            self.fuse_audio = AudioFusion(described, width)
            sound = width * len(described)
        start = sizes.coefficients + sizes.attitudes * settings.attitude
        seen = [sizes.motion.widths["exp"], sizes.coefficients - sizes.motion.widths["exp"]]
        inputs = [*seen * settings.visual_encoder, sound, start * settings.start_everywhere]
        if not settings.visual_encoder and not sound:
            raise UserError("hsp: a listener that neither sees nor hears the speaker; --set visual_encoder=true")
        self.fuse = nn.ModuleList(nn.Linear(size, width) for size in inputs if size)
        self.norm = nn.LayerNorm(width)
        self.start = nn.Linear(start, 2 * LAYERS * settings.hidden)
        self.gru = BidirectionalGru(width, settings.hidden, LAYERS, settings.dropout)
        self.last = nn.Linear(2 * settings.hidden, sizes.coefficients)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        levels = self._levels(batch)
        motion = self._decode(batch, levels)
        later = batch.mask.clone()
        later[:, 0] = False  # frame 1 of the papers is given
        beta, p = (motion[..., part] for part in self.parts)
        beta_true, p_true = (batch.listener[..., part] for part in self.parts)
        weights = self.settings
        terms = {
            "expression": distance(beta, beta_true, later),
            "pose": distance(p, p_true, later),
            "expression_motion": weights.expression_motion_weight * motion_distance(beta, beta_true, batch.mask),
            "pose_motion": weights.pose_motion_weight * motion_distance(p, p_true, batch.mask),
        }
        if self.reads_words:
            terms["contrast"] = weights.contrast_weight * self._contrast(batch, levels, generator)
        return terms

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        return Prediction(self._decode(batch, self._levels(batch)))

    def _levels(self, batch: Batch) -> list[Tensor]:
        """f_low, f_mid, f_high, each (batch, frame, width); none where another audio encoder hears."""
        frames = inside(batch.mask)
        if not self.hears:
            return []
        sound = normalised(batch.extra["log_mel"], frames) if self.settings.spectrogram else batch.audio
        return self.hear(sound, frames)

    def _decode(self, batch: Batch, levels: list[Tensor]) -> Tensor:
        """Motion (batch, frame, coefficient): the first frame as given, then eq. 5."""
        frames, parts = inside(batch.mask), []
        start = batch.with_attitude(batch.reference, self.sizes.attitudes * self.settings.attitude)
        if self.settings.visual_encoder:
            parts += [batch.speaker[..., part] for part in self.parts]
        if self.hears:
            words = [batch.extra["token_embedding"]] if self.reads_words else []
            parts.append(self.fuse_audio([*levels, *words, batch.audio[..., :CEPSTRUM]], frames))
        elif self.settings.audio_encoder == "baseline":
            parts.append(batch.audio)
        if self.settings.start_everywhere:
            parts.append(start[:, None])
        fused = sum(read(part) for read, part in zip(self.fuse, parts, strict=True))
        state = self.start(start).tanh().unflatten(1, (2 * LAYERS, -1)).transpose(0, 1)
        following = self.last(self.gru(self.norm(fused).relu(), frames, state))
        if self.settings.residual:
            following = batch.reference[:, None] + following
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


def normalised(spectrogram: Tensor, mask: Tensor) -> Tensor:
    """Rows (batch, frame * rows, band) of a log-mel spectrogram (batch, frame, rows, band), z-scored band by band.

    Mean and deviation are those of the clip or window, of its frames in the mask (batch, frame); zeros outside it.
    """
    weights = mask[..., None, None].to(spectrogram.dtype)
    count = (weights.sum(dim=(1, 2), keepdim=True) * spectrogram.shape[2]).clamp(min=1)
    centred = (spectrogram - (spectrogram * weights).sum(dim=(1, 2), keepdim=True) / count) * weights
    deviation = (centred.square().sum(dim=(1, 2), keepdim=True) / count + 1e-5).sqrt()
    return (centred / deviation).flatten(1, 2)
