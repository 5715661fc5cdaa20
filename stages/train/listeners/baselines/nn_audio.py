"""Baseline ``nn_audio``: the listener of the nearest sound (Ng et al., Learning to Listen, CVPR 2022; also Song et al.,
ICCV 2023): as ``nn_motion``, but by the acoustic features. There the sound was embedded by a pretrained VGGish; here
it is compared in the 45 z-scored features of the data set.
"""

from __future__ import annotations

from torch import Tensor

from stages.train.listeners.baselines.nearest import Nearest


class NnAudio(Nearest):
    """Nearest neighbour by the sound."""

    paper = "Ng et al., Learning to Listen, CVPR 2022 (NN audio)"

    def key(self, speaker: Tensor, audio: Tensor) -> Tensor:
        return audio
