"""Listener ``pchg``: the regularised driver of Huang, Huang and Zhou, ACM MM 2022, winner of the ViCo challenge 2022.

An LSTM of four layers gives, for every frame, what is to be added to the coefficients of the first frame; batch
normalisation, dropout and large batches keep it from learning the few clips by heart.

    y(t) = y(1) + LSTM(features(1..t))                                            fig. 2: the residual
    L_gen = sum |beta - beta'|_2 + |c - c'|_2 + |p - p'|_1                        (1)
    L_mot = sum |mu(c) - mu(c')|_2, mu(c)(t) = c(t) - c(t-1)                      (2)
    L = L_gen + L_mot                                                            (3)

AdamW, weight decay .05, batches of 128 windows of 90 frames, learning rate 5e-3 to 1e-4 on a cosine. *Self ensemble*:
the mean of the predictions of ``members`` states of one training; *cross-model ensemble*: the mean over trainings
(jobs.predict takes several runs). Of ten models validated the best five (section 5.2): ``jobs.train --seeds 10`` and
``jobs.predict --best 5``.

What the paper leaves open, and our choice:

* Widths: 192 before and 96 in the LSTM, as in the authors' release (of their speaker model; the listener was never
  released). That one runs in both directions; the paper says "four-layer LSTM", and a listener that answers in time
  cannot look ahead: ours runs forwards (``causal``).
* A frame's features are side by side, those that are the same in all frames too: the first frame, the attitude.
* Dropout of .1 is the ViCo baseline's.
* Batch normalisation stands before the LSTM, as in the release; padding is no part of its statistics.
* Which states make a self ensemble: those at the ends of the last ``members`` epochs. Epochs are not given: 300.
* How the ten were validated: by their losses on the clips held out, which must be the same for all.
* A window's first frame has no frame before it in eq. 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pipeline.stage import setting
from schemas.column import LISTENER, SPEAKER
from stages.train.listener import (
    TRAINS_ON_ALL,
    Batch,
    Deviation,
    Listener,
    Prediction,
    Sizes,
    TrainingSettings,
    cosine,
    masked_mean,
    published,
)
from stages.train.sequence import MaskedBatchNorm, distance, motion_distance


@dataclass(frozen=True)
class Settings(TrainingSettings):
    epochs: int = setting(300, "passes over the training windows")
    batch_size: int = setting(128, "windows a step, over all workers together", least=1)
    learning_rate: float = setting(5e-3, "of AdamW at the start")
    final_learning_rate: float = setting(1e-4, "of AdamW at the end of the cosine")
    width: int = setting(192, "of the layer before the LSTM", least=1)
    hidden: int = setting(96, "of the LSTM", least=1)
    layers: int = setting(4, "of the LSTM", least=1)
    dropout: float = setting(0.1, "between the layers of the LSTM")
    norm: bool = setting(True, "whether there is batch normalisation (table 2)")
    residual: bool = setting(True, "whether what the LSTM says is added to the first frame (table 2)")
    members: int = setting(
        3, "states of this training, an epoch apart, whose predictions are averaged; 0 or 1: the last"
    )
    inputs: str = setting("both", "signals of the speaker: sound and motion, or sound alone", choices=("both", "audio"))
    attitude: bool = setting(True, "whether the attitude is an input; the challenge's data had none")


class Driver(nn.Module):
    """Features of a frame and of all before -> residual to the first frame."""

    def __init__(self, settings: Settings, features: int, coefficients: int) -> None:
        super().__init__()
        self.first = nn.Linear(features, settings.width)
        self.norm = MaskedBatchNorm(settings.width) if settings.norm else None
        sizes, options = (settings.width, settings.hidden, settings.layers), {"batch_first": True, "bias": False}
        between = settings.dropout if settings.layers > 1 else 0.0  # torch warns where nothing lies between
        self.lstm = nn.LSTM(*sizes, dropout=between, **options)
        self.last = nn.Linear(settings.hidden, coefficients)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        values = self.first(features)  # (batch, frame, width)
        if self.norm is not None:
            values = self.norm(values.transpose(1, 2), mask).transpose(1, 2)
        return self.last(self.lstm(values.tanh())[0])


class Pchg(Listener):
    """Residual to the first frame, from the speaker's frames so far."""

    paper = (
        "Huang et al., Perceptual Conversational Head Generation with Regularized Driver and Enhanced Renderer, 2022"
    )
    Settings = Settings
    deviations = (
        TRAINS_ON_ALL,
        Deviation(
            "section 3.1", "a listener is given the speaker's sound, a reference image and the attitude",
            "the speaker's motion too: listeners answer what they see", {"inputs": "audio"},
        ),
        Deviation(
            "section 4.2", "clips of 90 frames are drawn at random",
            "windows of 90 frames begin every 30, each once an epoch", {"windows": "random"},
        ),
        Deviation(
            "tables 2, 3", "the final model of table 2 is one state of one training; ensembles are rows of table 3",
            "the self ensemble of table 3: three states", {"members": 0},
        ),
        Deviation(
            "tables 2, 3", "their rows are of the talking head: the speaker's own motion from the sound",
            "`--role speaker` trains that one, which hears the sound and is given no attitude; without it the same "
            "parts are left out of the listener",
        ),
        Deviation(
            "eqs. 1, 2", "the crop c has a term of its own in eq. 1, and eq. 2 is of its changes",
            "so it is where the data's crop moves from frame to frame; where it stands still (`landmark_gn`), or the "
            "layout leaves it out, all placement is in p, and eq. 2 is of the changes of p",
        ),
        Deviation(
            "section 4.3, eqs. 4 to 7", "PIRenderer, and U2-Net tells the person from the background",
            "a matter of jobs.render: MediaPipe's selfie segmentation does, and what the person has just reached stays "
            "the person's",
        ),
    )  # fmt: skip
    roles = {LISTENER: {}, SPEAKER: {"inputs": "audio", "attitude": False}}  # section 3.1
    presets = {"paper": published(deviations)}
    settings: Settings

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__(settings, sizes)
        parts, (self.beta, others) = sizes.motion.parts, sizes.motion.expression_and_pose
        self.crop = parts.get("crop")
        self.pose = [i for i in others if self.crop is None or not self.crop.start <= i < self.crop.stop]
        self.place = self.crop or self.pose  # whose changes eq. 2 is of
        speaker = sizes.audio + sizes.coefficients * (settings.inputs == "both")
        features = speaker + sizes.coefficients + sizes.attitudes * settings.attitude
        self.driver = Driver(settings, features, sizes.coefficients)
        size = sum(value.numel() for value in self._state().values())
        self.register_buffer("snapshots", torch.zeros(settings.members, size))
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        said, truth = self._motion(batch, self.driver(self._features(batch), batch.mask)), batch.listener
        terms = {
            "expression": distance(said[..., self.beta], truth[..., self.beta], batch.mask),
            "pose": masked_mean((said - truth)[..., self.pose].abs().sum(dim=-1), batch.mask),
            "motion": motion_distance(said[..., self.place], truth[..., self.place], batch.mask),
        }
        if self.crop:
            terms["crop"] = distance(said[..., self.crop], truth[..., self.crop], batch.mask)
        return terms

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        features = self._features(batch)
        residuals = [functional_call(self.driver, state, (features, batch.mask)) for state in self._members()]
        return Prediction(self._motion(batch, torch.stack(residuals).mean(dim=0)))

    def learning_rate_factor(self, epoch: float, epochs: float) -> float:
        return cosine(epoch, epochs, self.settings.final_learning_rate / self.settings.learning_rate)

    def end_epoch(self) -> None:
        """Keep this state for the self ensemble, in the place of the oldest."""
        if len(self.snapshots):
            self.snapshots[self.taken % len(self.snapshots)] = torch.cat([v.flatten() for v in self._state().values()])
            self.taken += 1

    def _motion(self, batch: Batch, driven: Tensor) -> Tensor:
        return batch.reference[:, None] + driven if self.settings.residual else driven

    def _features(self, batch: Batch) -> Tensor:
        constant = batch.with_attitude(batch.reference, self.sizes.attitudes * self.settings.attitude)
        constant = constant[:, None].expand(-1, batch.audio.shape[1], -1)
        speaker = [batch.audio] if self.settings.inputs == "audio" else [batch.audio, batch.speaker]
        return torch.cat([*speaker, constant], dim=-1)

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
