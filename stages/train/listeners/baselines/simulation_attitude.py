"""Baseline ``simulation_attitude``: ``simulation`` among clips of the same attitude (Zhou et al., ECCV 2022, Table 3,
"Simulation*"). An attitude that no training clip has is answered with any clip.
"""

from __future__ import annotations

from stages.train.listeners.baselines.patterns import Pattern
from stages.train.listeners.baselines.simulation import Simulation


class SimulationAttitude(Simulation):
    """A training clip's motion, drawn at random from those of the wanted attitude."""

    paper = "Zhou et al., Responsive Listening Head Generation, ECCV 2022 (Simulation*)"

    def _fitting(self, attitude: int) -> list[Pattern]:
        return [pattern for pattern in self.patterns if pattern.attitude == attitude] or self.patterns
