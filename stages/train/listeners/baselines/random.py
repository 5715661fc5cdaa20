"""Baseline ``random``: the reference frame and Gaussian noise (Zhou et al., ECCV 2022, Table 3, "Random").

Paper: "small perturbations in a normal distribution to mimic random head motion"; their size is not given. Its errors
(.18, .45 and .20 for angle, expression and translation, alike in all attitudes and splits) are those of noise about as
large as the coefficients' own spread, hence our default of one deviation. Every frame is drawn for itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.stage import setting
from stages.train.listener import Batch, Listener, Prediction, TrainingSettings


@dataclass(frozen=True)
class Settings(TrainingSettings):
    noise: float = setting(1.0, "deviation of the noise, in deviations of the training clips")


class Random(Listener):
    """Reference frame and noise."""

    paper = "Zhou et al., Responsive Listening Head Generation, ECCV 2022 (Random)"
    stochastic = True
    learned = False
    Settings = Settings

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        noise = torch.randn(batch.speaker.shape, generator=generator, device=batch.speaker.device)
        noise[:, 0] = 0.0  # the first frame is the reference itself
        return Prediction(batch.reference[:, None] + self.settings.noise * noise)
