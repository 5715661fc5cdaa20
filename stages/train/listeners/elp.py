"""Listener ``elp``: Emotional Listener Portrait, Song, Yin, Jin, Dong and Xu, ICCV 2023.

The speaker's style (eq. 1) is encoded into H categorical codes of V values a frame; the attitude opens one of N such
code spaces; two decoders read motion and blinks from the codes, so that another draw of the codes is another listener.

    s(t) = a(t) + sigma(beta(t)) + sigma(d beta/dt) + sigma(dp/dt)      (1)  + joins; a: audio encoder of the MFCC
    v(t, h) = Gumbel-softmax(enc(s)(t, h, 1:V))                         (2)  H x V, then e (one-hot) x v: H x (N V)
    L2 = sum |beta - beta'| + |p - p'|                                  (3)
    CE1: cross-entropy of the blink                                     (4)
    Reg = sum |phi(t) - phi(t-1)|                                       (5)
    CE2: cross-entropy of the emotion, each of the N a binary decision  (6)
    L = L2 + 5 CE1 + 5 CE2 + 0.01 Reg                                   (7)

What the paper leaves open, and our choice:

* It has 25 frames a second and 100 expression coefficients: 2 s are 60 frames here, s(t) has 128 + 64 + 64 + 6 numbers.
* The a(t) of "29T" MFCC: all 45 acoustic features. The span of sigma: ``style_frames`` around the frame.
* Which decoder has two and which four convolutions: motion two, blinks four and the LSTM. All widths: ``width``.
* LSTMs have a way past them: without it nothing of the speaker reached codes and blinks, and no blink was learned.
* The attitude that opens a code space in training is the label's; in prediction too, or what the encoder hears
  (``emotion="heard"``).
* The listener's portrait reaches only its renderer. Data sets of many people need their resting faces: the first frame
  is added to the motion, each coefficient with a learned weight that starts at 1.
* **Sampling.** Eq. 3 alone teaches the codes to be ignored: whatever a draw adds to the mean raises the loss, and all
  samples become one. We draw twice, and in the place of eq. 3 stands the energy score (Gneiting and Raftery, JASA
  2007): the distance to the truth less half that between the draws, least when samples are distributed as the truth.
  It is taken of every coefficient for itself: of the norm of all it would be least for samples too wide in what the
  codes can say, because these would make up for the trembling of 64 coefficients, which they cannot. With
  ``diverse=False`` it is the paper's letter.
* The "initial" learning rate falls to a hundredth on a cosine.
* Noise drawn anew in every frame makes a listener tremble: it lasts ``memory_s``, Gumbel distributed all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.stage import setting
from stages.train.layers import adaptive_space
from stages.train.layers.sequence import both_frames, changes, distance, inside, moving_deviation
from stages.train.listener import Batch, Listener, Prediction, Sizes, TrainingSettings, cosine, masked_mean


@dataclass(frozen=True)
class Settings(TrainingSettings):
    epochs: int = setting(112, "passes over the training windows; of ViCo's, 10 000 steps as in the paper")
    batch_size: int = setting(32, "windows a step, over all workers together")
    learning_rate: float = setting(1e-3, "of AdamW at the start")
    weight_decay: float = setting(0.01, "of AdamW; the paper gives none, this is PyTorch's")
    window_frames: int = setting(60, "frames of a training window: 2 s")
    stride_frames: int = setting(60, "frames from the start of a window to that of the next")
    heads: int = setting(128, "H, categorical codes a frame; a multiple of 8")
    codes: int = setting(64, "V, values of a code")
    width: int = setting(256, "of convolutions and LSTMs")
    audio_width: int = setting(64, "of the first blocks of the audio encoder; ResNet-50 has 64")
    audio_outputs: int = setting(128, "length of a(t)")
    channels: int = setting(16, "of the decoders' 2-d convolutions")
    dropout: float = setting(0.5, "after the audio encoder")
    style_frames: int = setting(15, "frames over which sigma of eq. 1 is taken, odd")
    temperature: float = setting(1.0, "of the Gumbel-softmax")
    memory_s: float = setting(0.5, "how long the noise of a code lasts; 0 draws it anew in every frame")
    diverse: bool = setting(True, "the energy score of two draws in the place of eq. 3")
    sampling: float = setting(1.0, "scale of the noise in prediction; 0 takes the most probable code")
    blink_weight: float = setting(5.0, "lambda 1 of eq. 7")
    emotion_weight: float = setting(5.0, "lambda 2 of eq. 7")
    steadiness_weight: float = setting(0.01, "lambda 3 of eq. 7")
    emotion: str = setting("label", "attitude that opens a code space in prediction", choices=("label", "heard"))


class Elp(Listener):
    """Codes drawn from a categorical distribution given the speaker; motion and blinks decoded from them."""

    paper = "Song et al., Emotional Listener Portrait: Neural Listener Head Generation with Emotion, ICCV 2023"
    reads = ("listener_blink",)
    causal = False
    stochastic = True
    Settings = Settings
    settings: Settings

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        style = settings.audio_outputs + sizes.motion.widths["exp"] + sizes.coefficients
        code_space = {
            "attitudes": sizes.attitudes, "heads": settings.heads, "codes": settings.codes,
            "channels": settings.channels,
        }  # fmt: skip
        self.parts = sizes.motion.expression_and_pose
        self.audio = adaptive_space.AudioEncoder(
            sizes.audio, settings.audio_width, settings.audio_outputs, settings.dropout
        )
        self.emotion = adaptive_space.EmotionEncoder(style, settings.width, sizes.attitudes)
        self.encoder = adaptive_space.HeadEncoder(style, settings.width, settings.heads, settings.codes)
        self.motion = adaptive_space.MotionDecoder(**code_space, outputs=sizes.coefficients)
        self.blink = adaptive_space.BlinkDecoder(**code_space, width=settings.width)
        self.keep = nn.Parameter(torch.ones(sizes.coefficients))  # how much of the first frame stays

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        logits, heard = self._encode(batch)
        one, two = (self._decode(logits, batch, batch.attitude, generator) for _ in range(2))
        closed = batch.extra["listener_blink"].to(one[1].dtype)
        crossed = functional.binary_cross_entropy_with_logits
        blink = sum(masked_mean(crossed(p, closed, reduction="none"), batch.mask) for _, p in (one, two)) / 2
        steps = sum(masked_mean(changes(p.sigmoid()).abs(), both_frames(batch.mask)) for _, p in (one, two)) / 2
        emotion = crossed(heard, functional.one_hot(batch.attitude, self.sizes.attitudes).to(heard.dtype))
        terms = {
            "motion": (energy_score if self.settings.diverse else mean_error)(one[0], two[0], batch, self.parts),
            "blink": self.settings.blink_weight * blink,
            "steadiness": self.settings.steadiness_weight * steps,
        }
        if (
            self.training or self.settings.emotion == "heard"
        ):  # else no prediction depends on it: validation leaves it out
            terms["emotion"] = self.settings.emotion_weight * emotion
        return terms

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        logits, heard = self._encode(batch)
        attitude = batch.attitude if self.settings.emotion == "label" else heard.argmax(dim=1)
        motion, blink = self._decode(logits, batch, attitude, generator, self.settings.sampling)
        return Prediction(motion, blink.sigmoid())

    def learning_rate_factor(self, epoch: float) -> float:
        return cosine(epoch, self.settings.epochs)

    def _encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of the codes (batch, frame, H, V) and of the emotion (batch, N)."""
        frames = inside(batch.mask)
        speaker, moved = batch.speaker, changes(batch.speaker)
        still = moving_deviation(speaker[..., self.parts[0]], frames, self.settings.style_frames)
        moving = moving_deviation(moved, frames, self.settings.style_frames)
        style = torch.cat([self.audio(batch.audio, frames), still, moving], dim=-1) * frames[..., None]
        return self.encoder(style, frames), self.emotion(style, frames)

    def _decode(
        self, logits: Tensor, batch: Batch, attitude: Tensor, generator: torch.Generator, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """One draw: motion (batch, frame, coefficient) and logits of closed eyes (batch, frame)."""
        frames = inside(batch.mask)
        noise = scale * adaptive_space.lasting_gumbel_noise(logits.shape, self.settings.memory_s, generator)
        codes = adaptive_space.gumbel_softmax(logits, noise, self.settings.temperature)
        codes = codes * frames[..., None, None]
        motion = self.keep * batch.reference[:, None] + self.motion(codes, attitude, frames)
        return motion * frames[..., None], self.blink(codes, attitude, frames)


def mean_error(one: Tensor, two: Tensor, batch: Batch, parts: tuple[slice, slice]) -> Tensor:
    """Eq. 3, mean over frames, of two draws; ``parts`` are beta and p."""
    wanted = batch.listener
    return sum(distance(said[..., p], wanted[..., p], batch.mask) for said in (one, two) for p in parts) / 2


def energy_score(one: Tensor, two: Tensor, batch: Batch, parts: tuple[slice, slice]) -> Tensor:
    """The energy score of every coefficient, from two draws; as large as eq. 3 where all coefficients err alike."""
    total = one.new_zeros(())
    for part in parts:
        first, second, truth = (values[..., part] for values in (one, two, batch.listener))
        errors = ((first - truth).abs() + (second - truth).abs() - (first - second).abs()) / 2
        total = total + masked_mean(errors.mean(dim=-1) * first.shape[-1] ** 0.5, batch.mask)
    return total
