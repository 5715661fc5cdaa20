"""Stage ``turns``: who has the floor from when to when, in clips in which both people speak by turns.

ViCo's clips have one turn each; of ViCo-X, and of conversations at large, a clip has many, and a model of both people
needs to know whose turn it is. From the scores of the stage `speaking`; see `stages.speakers.turns`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.clip import Clip
from pipeline.clock import grid_times_s
from pipeline.stage import Stage
from schemas.column import ROLES, Column, both
from stages.speakers import turns


class Turns(Stage):
    """Turns of speaker and listener: where one leads in the scores of the stage `speaking` while somebody is heard."""

    @dataclass(frozen=True)
    class Settings(turns.Settings):
        pass

    opt_in = True
    reads = ("audio", *both("{role}_speaking", "{role}_landmarks_valid"))
    writes = (
        Column("turns", "int32", ("turn", 3), "", "start frame, end frame and who speaks: 0 speaker, 1 listener"),
    )
    weights = ("silero_vad",)

    def setup(self, device: str) -> None:
        from pipeline.weights import find_weights
        from stages.speakers.voice import Voice

        self._voice = Voice(*find_weights("silero_vad").paths())

    def process(self, clip: Clip) -> dict[str, Any]:
        from stages.speakers.mfcc import read_sound
        from stages.speakers.voice import at_times

        heard = self._voice.probability(read_sound(clip.path("audio")))
        voiced = at_times(heard, grid_times_s(clip.num_frames)) > turns.HEARD
        scores = [np.where(clip[f"{role}_landmarks_valid"], clip[f"{role}_speaking"], np.nan) for role in ROLES]
        found = turns.turns(np.stack(scores, axis=1), voiced, self.settings)
        return {"turns": np.array(found, np.int32).reshape(-1, 3)}
