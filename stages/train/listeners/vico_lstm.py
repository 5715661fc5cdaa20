"""Listener ``vico_lstm``: Zhou et al., Responsive Listening Head Generation, ECCV 2022: the baseline of ViCo.

Equation 3: (beta, p)_{t+1} = G_m(h_t, f_am(s_t, m_t^s)): an LSTM is driven by the speaker's sound and motion, frame by
frame, and its output at t is the listener's motion at t + 1; the last output is dropped. It never sees what it said
itself: the listener enters through the initial state alone, made from the reference frame and the attitude. Loss
(equations 4 to 6): L2 norms of the error of expression and of pose, and of the error of their steps between frames,
the step from the reference frame to the first prediction among them.

The defaults are section 5.2: attitude, learning rate 1e-3, times 0.8 every 30 epochs, 300 epochs, w1 = 0.1 (steps of
expression), w2 = 1e-4 (steps of pose). What the paper leaves open, and our choice:

* Layer sizes, dropout, weight decay and f_am (both inputs side by side, layer normalisation, a linear layer, tanh) are
  the released code's. T: windows of 90 frames that start every 30 frames; a batch holds 32.
* Which network the rows of table 5 are: ``inputs=audio`` and ``inputs=visual`` are trained without the other signal;
  "wrong audio" is the network of both, given another clip's sound (``jobs.predict --sound another``).

Preset ``code`` is the released configuration: angle, exp, trans and crop (73) with a norm each, no attitude, 248,449
parameters, steps weighted 0.001 for exp and 1 for the others and counted from the first prediction on, learning rate
2e-3, halved every 30 epochs, 500 epochs, batches of 16 windows that start in every frame. What differs from it: padded
frames do not count in the means, nor does the step from the last frame into the padding; z-scores have a floor; the
rate is halved after epochs 30, 60, ... instead of one epoch earlier; the last batch of an epoch is kept; validation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.stage import setting
from stages.train.listener import (
    TRAINS_ON_ALL,
    Batch,
    Listener,
    Prediction,
    Sizes,
    TrainingSettings,
    masked_mean,
    published,
)

INPUTS = ("both", "audio", "visual")
HIDDEN, LAYERS, FUSED = 96, 2, 192  # of the LSTM; width of the fused speaker features


@dataclass(frozen=True)
class VicoSettings(TrainingSettings):
    epochs: int = setting(300, "passes over the training windows")
    inputs: str = setting("both", "signals of the speaker (table 5): sound and motion, or one alone", choices=INPUTS)
    attitude: bool = setting(True, "whether the attitude enters the initial state")
    joint_pose: bool = setting(True, "one norm over angle and trans instead of a norm each")
    step_exp: float = setting(0.1, "w1: weight of the error of the expression's steps")
    step_pose: float = setting(1e-4, "w2: weight of the error of the pose's steps")
    first_step: bool = setting(True, "whether the step from the reference to the first prediction counts in eq. 5")
    dropout: float = setting(0.1, "between the layers of the LSTM")
    decay: float = setting(0.8, "what the learning rate is multiplied with ...")
    decay_epochs: int = setting(30, "... after every so many epochs", least=1)


class VicoLstm(Listener):
    """Speaker features drive an LSTM that starts from the listener's reference frame and attitude."""

    paper = "Zhou et al., Responsive Listening Head Generation, ECCV 2022"
    Settings = VicoSettings
    deviations = (TRAINS_ON_ALL,)
    presets = {
        "paper": published(deviations),
        "code": {
            "order": "baseline73", "attitude": False, "joint_pose": False, "step_exp": 0.001, "step_pose": 1.0,
            "first_step": False, "learning_rate": 2e-3, "decay": 0.5, "epochs": 500, "batch_size": 16,
            "stride_frames": 1,
        },
    }  # fmt: skip

    def __init__(self, settings: VicoSettings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        motion = sizes.coefficients
        speaker = motion * (settings.inputs != "audio") + sizes.audio * (settings.inputs != "visual")
        self.attitudes = sizes.attitudes if settings.attitude else 0
        self.reference_norm = nn.LayerNorm(motion)
        layers = (nn.Linear(motion + self.attitudes, motion), nn.Tanh(), nn.Linear(motion, 2 * LAYERS * HIDDEN))
        self.initial = nn.Sequential(*layers)
        self.fuse = nn.Sequential(nn.LayerNorm(speaker), nn.Linear(speaker, FUSED), nn.Tanh())
        self.lstm = nn.LSTM(FUSED, HIDDEN, LAYERS, bias=False, batch_first=True, dropout=settings.dropout)
        self.out = nn.Linear(HIDDEN, motion)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        error, mask = self.predict(batch, generator).motion - batch.listener, batch.mask
        steps, both = error[:, 1:] - error[:, :-1], mask[:, 1:] & mask[:, :-1]  # error of steps = steps of error
        error, mask = error[:, 1:], mask[:, 1:]  # frame 1 is the reference
        if not self.settings.first_step:
            steps, both = steps[:, 1:], both[:, 1:]
        terms = {}
        for name, columns in self._groups().items():
            weight = self.settings.step_exp if name == "exp" else self.settings.step_pose
            terms[name] = masked_mean(torch.linalg.vector_norm(error[..., columns], dim=-1), mask)
            terms[f"{name}_step"] = weight * masked_mean(torch.linalg.vector_norm(steps[..., columns], dim=-1), both)
        return terms

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        return Prediction(torch.cat([batch.reference[:, None], self._next_frames(batch)[:, :-1]], dim=1))

    def learning_rate_factor(self, epoch: float, epochs: float) -> float:
        return self.settings.decay ** (epoch // self.settings.decay_epochs)

    def _next_frames(self, batch: Batch) -> Tensor:
        """At t the motion of frame t + 1, from the speaker up to t: (batch, frame, coefficients)."""
        start = batch.with_attitude(self.reference_norm(batch.reference), self.attitudes)
        state = self.initial(start).view(-1, 2, LAYERS, HIDDEN).permute(1, 2, 0, 3).contiguous()
        seen = {"both": [batch.audio, batch.speaker], "audio": [batch.audio], "visual": [batch.speaker]}
        speaker = self.fuse(torch.cat(seen[self.settings.inputs], dim=-1))
        driven, _ = self.lstm(speaker, (state[0], state[1]))
        return self.out(driven)

    def _groups(self) -> dict[str, list[int]]:
        """Coefficients that share a norm: ``exp`` and ``pose``, or each part of the order for itself."""
        groups: dict[str, list[int]] = {}
        for part, place in self.sizes.motion.parts.items():
            name = "pose" if self.settings.joint_pose and part != "exp" else part
            groups.setdefault(name, []).extend(range(place.start, place.stop))
        return groups
