"""Nearest-neighbour search among segments of the training clips, for ``nn_motion`` and ``nn_audio``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.stage import setting
from stages.train.listener import Batch, Listener, Prediction, TrainingSettings
from stages.train.listeners.baselines.patterns import held, repeated


@dataclass(frozen=True)
class Settings(TrainingSettings):
    window_frames: int = setting(64, "frames of a segment")
    stride_frames: int = setting(32, "frames from the start of a training segment to that of the next")


class Nearest(Listener):
    """The listener's motion of the training segments whose key is nearest, segment by segment."""

    causal = False
    learned = False
    Settings = Settings

    def key(self, speaker: Tensor, audio: Tensor) -> Tensor:
        """What is compared, (frame, feature), of a clip's motion and audio (frame, feature)."""
        raise NotImplementedError

    def remember(self, clips: Sequence[Batch]) -> None:
        keys, motions = [], []
        for clip in clips:
            if clip.mask.any():
                speaker, motion = (held(values[0], clip.mask[0]) for values in (clip.speaker, clip.listener))
                keys += self._segments(self.key(speaker, clip.audio[0]))
                motions += self._segments(motion - motion[0])
        self.keys = torch.stack(keys)  # (segment, frame, feature)
        self.motions = torch.stack(motions)  # (segment, frame, coefficients)

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        moves = []
        for speaker, audio, mask in zip(batch.speaker, batch.audio, batch.mask, strict=True):
            queries = self.key(held(speaker, mask), audio).split(self.settings.window_frames)
            moves.append(torch.cat([self._answer(query) for query in queries]))
        return Prediction(batch.reference[:, None] + torch.stack(moves))

    def _segments(self, values: Tensor) -> list[Tensor]:
        """Segments of a training clip; one that is shorter than a segment runs back and forth."""
        length, stride = self.settings.window_frames, self.settings.stride_frames
        if len(values) < length:
            values = repeated(values, length)
        return list(values.unfold(0, length, stride).transpose(1, 2))

    def _answer(self, query: Tensor) -> Tensor:
        """The motion (frame, coefficients) that goes with a query (frame, feature), which may be a shorter last one."""
        frames = len(query)
        keys = self.keys[:, :frames]
        nearest = (keys - query).square().sum(dim=(1, 2)).argmin()
        return self.motions[nearest, :frames]
