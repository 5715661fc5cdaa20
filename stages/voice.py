"""Stage ``voice``: whether anybody is to be heard in every frame, and, with a sound a person, which of them.

By Silero's voice activity, see `stages.speakers.voice`, whose weights are embedded.
"""

from __future__ import annotations

from typing import Any

from pipeline.clip import Clip
from pipeline.clock import grid_times_s
from pipeline.stage import Stage
from schemas.column import FRAME_AXIS, Column
from stages.speakers.turns import HEARD


class VoiceActivity(Stage):
    """The probability of a voice in every frame."""

    opt_in = True
    reads = ("audio",)
    writes = (
        Column(
            "voice", "float32", (FRAME_AXIS,), "1", f"probability that somebody is heard; above {HEARD} somebody is"
        ),
    )
    weights = ("silero_vad",)

    def setup(self, device: str) -> None:
        from pipeline.weights import find_weights
        from stages.speakers.voice import Voice

        self._voice = Voice(*find_weights("silero_vad").paths())

    def process(self, clip: Clip) -> dict[str, Any]:
        from stages.speakers.mfcc import read_sound
        from stages.speakers.voice import at_times

        heard = self._voice.probability(read_sound(clip.path("audio")), amid_speech=False)
        return {"voice": at_times(heard, grid_times_s(clip.num_frames))}
