"""Baseline ``mirror``: the listener does what the speaker does (Zhou et al., ECCV 2022, Table 5, "Mirroring").

The speaker's motion relative to its first frame is added to the reference, since faces at rest and places in the
picture differ; with ``relative = false`` it is copied as it is. Where the speaker is not known the last frame stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.stage import setting
from stages.train.listener import Batch, Listener, Prediction, TrainingSettings
from stages.train.listeners.baselines.patterns import held


@dataclass(frozen=True)
class Settings(TrainingSettings):
    relative: bool = setting(True, "the motion since the first frame instead of the coefficients themselves")


class Mirror(Listener):
    """The speaker's motion."""

    paper = "Zhou et al., Responsive Listening Head Generation, ECCV 2022 (Mirroring)"
    learned = False
    Settings = Settings

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        speaker = torch.stack([held(*clip) for clip in zip(batch.speaker, batch.mask, strict=True)])
        if not self.settings.relative:
            return Prediction(speaker)
        return Prediction(batch.reference[:, None] + speaker - speaker[:, :1])
