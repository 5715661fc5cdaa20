"""Baseline ``nn_motion``: the listener of the nearest speaker (Ng et al., Learning to Listen, CVPR 2022; also Song et
al., ICCV 2023): of the training segment whose speaker moves most alike.

The clip is cut into segments of ``window_frames``; each finds the training segment with the least squared distance
between the speakers' z-scored motion, relative to the first frame of either clip, and takes over its listener's motion,
likewise relative. As in the paper segments are not blended: where they meet the motion may jump. What looks at a whole
segment of the speaker is not causal.
"""

from __future__ import annotations

from torch import Tensor

from stages.train.listeners.baselines.nearest import Nearest


class NnMotion(Nearest):
    """Nearest neighbour by the speaker's motion."""

    paper = "Ng et al., Learning to Listen, CVPR 2022 (NN motion)"

    def key(self, speaker: Tensor, audio: Tensor) -> Tensor:
        return speaker - speaker[0]
