"""Listener ``pchg``: the regularised driver of Huang, Huang and Zhou, ACM MM 2022, winner of the ViCo challenge 2022.

An LSTM of four layers gives, for every frame, what is to be added to the coefficients of the first frame; batch
normalisation, dropout and large batches keep it from learning the few clips by heart.

    y(t) = y(1) + LSTM(features(1..t))                                            fig. 2: the residual
    L_gen = sum |beta - beta'|_2 + |c - c'|_2 + |p - p'|_1                        (1)
    L_mot = sum |mu(c) - mu(c')|_2, mu(c)(t) = c(t) - c(t-1)                      (2)
    L = L_gen + L_mot                                                            (3)

AdamW, weight decay .05, batches of 128 windows of 90 frames, learning rate 5e-3 to 1e-4 on a cosine. *Self ensemble*:
the mean of the predictions of ``members`` states of one training; *cross-model ensemble*: the mean over trainings
(jobs.predict takes several runs).

What the paper leaves open, and our choice:

* The crop c places the head in the picture. Our crops stand still and all placement is in the translation, a part
  of p; so L_mot is taken of p, and c has no term of its own.
* Widths: 192 before and 96 in the LSTM, as in the authors' release (of their speaker model; the listener was never
  released). That one runs in both directions; the paper says "four-layer LSTM", and a listener that answers in time
  cannot look ahead: ours runs forwards (``causal``).
* A frame's features: speaker's motion and acoustic features, the listener's first frame, and the attitude, which
  the challenge's data lacked (``attitude=False``, preset ``paper``).
* Batch normalisation stands before the LSTM, as in the release; padding is no part of its statistics.
* Which states make a self ensemble: those at the ends of the last ``members`` epochs. Epochs are not given: 300.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.stage import setting
from stages.train.listener import Batch, Listener, Prediction, Sizes, TrainingSettings, cosine, masked_mean
from stages.train.sequence import MaskedBatchNorm, distance, motion_distance


@dataclass(frozen=True)
class Settings(TrainingSettings):
    epochs: int = setting(300, "passes over the training windows")
    batch_size: int = setting(128, "windows a step, over all workers together")
    learning_rate: float = setting(5e-3, "of AdamW at the start")
    final_learning_rate: float = setting(1e-4, "of AdamW at the end of the cosine")
    width: int = setting(192, "of the layer before the LSTM")
    hidden: int = setting(96, "of the LSTM")
    layers: int = setting(4, "of the LSTM")
    dropout: float = setting(0.1, "between the layers of the LSTM")
    members: int = setting(
        3, "states of this training, an epoch apart, whose predictions are averaged; 0 or 1: the last"
    )
    attitude: bool = setting(True, "whether the attitude is an input; the challenge had none")


class Driver(nn.Module):
    """Features of a frame and of all before -> residual to the first frame."""

    def __init__(self, settings: Settings, features: int, coefficients: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, settings.width)
        self.norm = MaskedBatchNorm(settings.width)
        sizes, options = (settings.width, settings.hidden, settings.layers), {"batch_first": True, "bias": False}
        self.lstm = nn.LSTM(*sizes, dropout=settings.dropout, **options)
        self.last = nn.Linear(settings.hidden, coefficients)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        values = self.norm(self.first(features).transpose(1, 2), mask).transpose(1, 2)  # (batch, frame, width)
        return self.last(self.lstm(values.tanh())[0])


class Pchg(Listener):
    """Residual to the first frame, from the speaker's frames so far."""

    paper = (
        "Huang et al., Perceptual Conversational Head Generation with Regularized Driver and Enhanced Renderer, 2022"
    )
    Settings = Settings
    presets = {"paper": {"attitude": False}}
    settings: Settings

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        self.parts = sizes.motion.expression_and_pose
        features = sizes.audio + 2 * sizes.coefficients + sizes.attitudes * settings.attitude
        self.driver = Driver(settings, features, sizes.coefficients)
        size = sum(value.numel() for value in self._state().values())
        self.register_buffer("snapshots", torch.zeros(settings.members, size))
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        motion = batch.reference[:, None] + self.driver(self._features(batch), batch.mask)
        found, expected = ([m[..., part] for part in self.parts] for m in (motion, batch.listener))
        return {
            "expression": distance(found[0], expected[0], batch.mask),
            "pose": masked_mean((found[1] - expected[1]).abs().sum(dim=-1), batch.mask),
            "motion": motion_distance(found[1], expected[1], batch.mask),
        }

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        features = self._features(batch)
        residuals = [functional_call(self.driver, state, (features, batch.mask)) for state in self._members()]
        return Prediction(batch.reference[:, None] + torch.stack(residuals).mean(dim=0))

    def learning_rate_factor(self, epoch: float) -> float:
        return cosine(epoch, self.settings.epochs, self.settings.final_learning_rate / self.settings.learning_rate)

    def end_epoch(self) -> None:
        """Keep this state for the self ensemble, in the place of the oldest."""
        if len(self.snapshots):
            self.snapshots[self.taken % len(self.snapshots)] = torch.cat([v.flatten() for v in self._state().values()])
            self.taken += 1

    def _features(self, batch: Batch) -> Tensor:
        constant = batch.with_attitude(batch.reference, self.sizes.attitudes * self.settings.attitude)
        constant = constant[:, None].expand(-1, batch.audio.shape[1], -1)
        return torch.cat([batch.audio, batch.speaker, constant], dim=-1)

    def _state(self) -> dict[str, Tensor]:
        """The driver's weights and running statistics."""
        return {name: value.detach() for name, value in self.driver.state_dict().items()}

    def _members(self) -> list[dict[str, Tensor]]:
        """The states of the self ensemble, or the present one where none was kept."""
        state = self._state()
        sizes = [value.numel() for value in state.values()]
        kept = [snapshot.split(sizes) for snapshot in self.snapshots[: int(self.taken)]]
        views = [[piece.view_as(value) for piece, value in zip(pieces, state.values(), strict=True)] for pieces in kept]
        return [dict(zip(state, pieces, strict=True)) for pieces in views] or [state]
