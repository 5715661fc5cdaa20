"""Stage ``acoustic``: the 45-dimensional acoustic features of listening-head models, one row a video frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import HOP_SAMPLES, SAMPLE_RATE_HZ
from pipeline.media.encode import read_wav
from pipeline.stage import Stage, setting
from schemas.column import FRAME_AXIS, Column
from stages.acoustics import vico45_code, vico45_paper

PAPER, CODE = "vico45-paper", "vico45-code"


class Acoustic(Stage):
    """45 acoustic features a frame (Zhou et al., "Responsive Listening Head Generation", ECCV 2022, section 5.2).

    The paper's description and the released code do not agree: `stages.acoustics.vico45_paper` computes what the paper
    describes and is what one should train on; `stages.acoustics.vico45_code` computes what the code computes, 26
    dimensions of rounding noise included, and is for reproducing the baseline. Values are not normalised: mean and
    standard deviation belong to the training split, which one clip does not know.
    """

    @dataclass(frozen=True)
    class Settings:
        preset: str = setting(PAPER, "definition of the 45 dimensions", choices=(PAPER, CODE))
        delta_width_frames: int = setting(
            9, "rows that a delta of vico45-paper looks at; 9 is librosa's default", choices=(3, 5, 7, 9, 11)
        )
        loudness_filter: str = setting(
            "K-weighting",
            "pyloudnorm's filter in vico45-paper; DeMan meets BS.1770 to .001 LU, K-weighting reads .046 LU low",
            choices=("K-weighting", "DeMan"),
        )

    reads = ("audio",)

    def writes(self) -> tuple[Column, ...]:  # the meaning depends on the preset
        meaning = vico45_code.MEANING if self.settings.preset == CODE else vico45_paper.MEANING
        return (Column("acoustic", "float32", (FRAME_AXIS, 45), meaning=meaning),)

    def setup(self, device: str) -> None:
        # the import of SciPy's filters belongs to the start, not to the first clip
        self._features(np.zeros(HOP_SAMPLES, np.float32))

    def process(self, clip: Clip) -> dict[str, Any]:
        samples, rate_hz = read_wav(clip.path("audio"))
        expected = clip.num_frames * HOP_SAMPLES
        if rate_hz != SAMPLE_RATE_HZ or samples.shape != (expected,):
            raise ValueError(
                f"acoustic: {clip.path('audio')} of clip {clip.clip_id} must hold {expected} mono samples at "
                f"{SAMPLE_RATE_HZ} Hz, found shape {samples.shape} at {rate_hz} Hz; write it again with --redo clip"
            )
        return {"acoustic": self._features(samples)}

    def _features(self, samples: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        if self.settings.preset == CODE:
            return vico45_code.features(samples)
        return vico45_paper.features(samples, self.settings.delta_width_frames, self.settings.loudness_filter)
