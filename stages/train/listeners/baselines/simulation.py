"""Baseline ``simulation``: the motion of a listener of the training clips (Zhou et al., ECCV 2022, Table 3).

Paper: "repeating the motion patterns sampled from D_train". A pattern is here a clip's motion relative to its first
frame, added to the reference; a clip that is too short runs back and forth, so that nothing jumps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.train.listener import Batch, Listener, Prediction
from stages.train.listeners.baselines.patterns import Pattern, patterns_of, repeated


class Simulation(Listener):
    """A training clip's motion, drawn at random."""

    paper = "Zhou et al., Responsive Listening Head Generation, ECCV 2022 (Simulation)"
    stochastic = True
    learned = False

    def remember(self, clips: Sequence[Batch]) -> None:
        self.patterns = patterns_of(clips)

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        frames = batch.speaker.shape[1]
        moves = [repeated(self._draw(self._fitting(label), generator), frames) for label in batch.attitude.tolist()]
        return Prediction(batch.reference[:, None] + torch.stack(moves))

    def _fitting(self, attitude: int) -> list[Pattern]:
        """The patterns from which one is drawn."""
        return self.patterns

    def _draw(self, patterns: list[Pattern], generator: torch.Generator) -> Tensor:
        index = torch.randint(len(patterns), (), generator=generator, device=generator.device)
        return patterns[int(index)].motion
