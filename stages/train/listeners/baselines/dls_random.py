"""Baseline ``dls_random``: random codes of the discrete latent space (Song et al., ICCV 2023, "DLS-Random").

Paper: draw the codes at random and let the trained decoders make motion of them. The decoders are those of ``elp``, so
this one is trained as ``elp`` is; in prediction all codes are equally probable, whatever the speaker does. The
attitude opens its code space all the same (the paper's row "DLS-Rand.+U").
"""

from __future__ import annotations

import torch

from stages.train.listener import Batch, Prediction
from stages.train.listeners.elp import Elp


class DlsRandom(Elp):
    """The decoders of ``elp`` on codes that know nothing of the speaker."""

    paper = "Song et al., Emotional Listener Portrait, ICCV 2023 (DLS-Random)"
    causal = True  # the speaker is not looked at

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        shape = (*batch.mask.shape, self.settings.heads, self.settings.codes)
        equal = batch.speaker.new_zeros(shape)
        motion, blink = self._decode(equal, batch, batch.attitude, generator)
        return Prediction(motion, blink.sigmoid())
