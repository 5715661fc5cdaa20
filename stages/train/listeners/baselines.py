"""The baselines of the papers, listeners that learn no answer to the speaker.

Patterns are motions of training clips relative to their first frame; what is predicted is added to the reference,
since faces at rest and places in the picture differ. Where somebody is not known, the last known frame stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.stage import setting
from schemas.column import LISTENER, SPEAKER
from stages.train.listener import Batch, Deviation, Listener, Prediction, TrainingSettings, published
from stages.train.listeners.elp import Elp


@dataclass(frozen=True)
class RandomSettings(TrainingSettings):
    noise: float = setting(1.0, "deviation of the noise, in deviations of the training clips")


class Random(Listener):
    """The reference frame and Gaussian noise (Zhou et al., ECCV 2022, Table 3, "Random").

    Paper: "small perturbations in a normal distribution to mimic random head motion"; their size is not given. Its
    errors (.18, .45 and .20 for angle, expression and translation, alike in all attitudes and splits) are those of
    noise about as large as the coefficients' own spread, hence our default of one deviation. Every frame is drawn for
    itself.
    """

    name = "random"
    paper = "Zhou et al., Responsive Listening Head Generation, ECCV 2022 (Random)"
    stochastic = True
    learned = False
    roles = {LISTENER: {}, SPEAKER: {}}
    Settings = RandomSettings
    deviations = (
        Deviation(
            "ViCo, table 3", "small perturbations of the reference frame; how small is not said",
            "one deviation of the training clips (`noise`): the printed errors are those of so much",
        ),
        Deviation(
            "ELP, section 4.1", "random frames of the training data, perturbed",
            "ViCo's: the reference frame, perturbed; so the head stays that of the portrait",
        ),
    )  # fmt: skip
    presets = {"paper": published(deviations)}

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        noise = torch.randn(batch.speaker.shape, generator=generator, device=batch.speaker.device)
        noise[:, 0] = 0.0  # the first frame is the reference itself
        return Prediction(batch.reference[:, None] + self.settings.noise * noise)


@dataclass(frozen=True)
class RelativeSettings(TrainingSettings):
    relative: bool = setting(True, "the motion since the first frame instead of the coefficients themselves")


class Simulation(Listener):
    """The motion of a listener of the training clips, drawn at random (Zhou et al., ECCV 2022, Table 3).

    A clip that is too short runs back and forth, so that nothing jumps; its frames without valid coefficients are left
    out.
    """

    name = "simulation"
    paper = "Zhou et al., Responsive Listening Head Generation, ECCV 2022 (Simulation)"
    stochastic = True
    learned = False
    Settings = RelativeSettings
    deviations = (
        Deviation(
            "table 3", "motion patterns sampled from the training clips are repeated",
            "relative to their first frame, from the reference on: faces at rest and places differ",
            {"relative": False},
        ),
        Deviation(
            "table 3", "how a pattern is repeated that is shorter than the clip is not said",
            "forth and back, so that nothing jumps",
        ),
    )  # fmt: skip
    presets = {"paper": published(deviations)}

    def remember(self, clips: Sequence[Batch]) -> None:
        known = [clip for clip in clips if clip.mask.any()]
        motions = [clip.listener[0][clip.mask[0]] for clip in known]  # (frame, coefficients)
        self.patterns = [motion - motion[0] if self.settings.relative else motion for motion in motions]
        self.attitudes = [int(clip.attitude) for clip in known]

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        moves = []
        for attitude in batch.attitude.tolist():
            patterns = self._fitting(attitude)
            drawn = torch.randint(len(patterns), (), generator=generator, device=generator.device)
            moves.append(repeated(patterns[int(drawn)], batch.speaker.shape[1]))
        return Prediction(torch.stack(moves) + batch.reference[:, None] * self.settings.relative)

    def _fitting(self, attitude: int) -> list[Tensor]:
        """The patterns from which one is drawn."""
        return self.patterns


class SimulationAttitude(Simulation):
    """``simulation`` among clips of the same attitude (Zhou et al., ECCV 2022, Table 3, "Simulation*").

    An attitude that no training clip has is answered with any clip.
    """

    name = "simulation_attitude"
    paper = "Zhou et al., Responsive Listening Head Generation, ECCV 2022 (Simulation*)"

    def _fitting(self, attitude: int) -> list[Tensor]:
        return [p for p, label in zip(self.patterns, self.attitudes, strict=True) if label == attitude] or self.patterns


class Mirror(Listener):
    """The listener does what the speaker does (Zhou et al., ECCV 2022, Table 5, "Mirroring")."""

    name = "mirror"
    paper = "Zhou et al., Responsive Listening Head Generation, ECCV 2022 (Mirroring)"
    learned = False
    Settings = RelativeSettings
    deviations = (
        Deviation(
            "table 5", "the speaker is simply mirrored",
            "its motion since the first frame, from the reference on: faces at rest and places differ",
            {"relative": False},
        ),
    )  # fmt: skip
    presets = {"paper": published(deviations)}

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        speaker = torch.stack([held(*clip) for clip in zip(batch.speaker, batch.mask, strict=True)])
        moved = batch.reference[:, None] + speaker - speaker[:, :1]
        return Prediction(moved if self.settings.relative else speaker)


@dataclass(frozen=True)
class NearestSettings(RelativeSettings):
    window_frames: int = setting(64, "frames of a segment", least=1)
    stride_frames: int = setting(32, "frames from the start of a training segment to that of the next", least=1)


NEAREST = Deviation(
    "ELP, section 4.1, after Ng et al.", "the nearest neighbour's motion is what is said",
    "motions since a clip's first frame, from the reference on: faces at rest and places differ", {"relative": False},
)  # fmt: skip


class Nearest(Listener):
    """The listener's motion of the training segments whose key is nearest, segment by segment.

    Ng et al., Learning to Listen, CVPR 2022; also Song et al., ICCV 2023. The clip is cut into segments of
    ``window_frames``; each finds the training segment with the least squared distance between the keys. As in the paper
    segments are not blended: where they meet the motion may jump. What looks at a whole segment is not causal.
    """

    causal = False
    learned = False
    Settings = NearestSettings

    def key(self, speaker: Tensor, audio: Tensor) -> Tensor:
        """What is compared, (frame, feature), of a clip's motion and audio (frame, feature)."""
        raise NotImplementedError

    def remember(self, clips: Sequence[Batch]) -> None:
        keys, motions = [], []
        for clip in clips:
            if clip.mask.any():
                speaker, motion = (held(values[0], clip.mask[0]) for values in (clip.speaker, clip.listener))
                keys += self._segments(self.key(speaker, clip.audio[0]))
                motions += self._segments(motion - motion[0] * self.settings.relative)
        self.keys = torch.stack(keys)  # (segment, frame, feature)
        self.motions = torch.stack(motions)  # (segment, frame, coefficients)

    def predict(self, batch: Batch, generator: torch.Generator) -> Prediction:
        moves = []
        for speaker, audio, mask in zip(batch.speaker, batch.audio, batch.mask, strict=True):
            queries = self.key(held(speaker, mask), audio).split(self.settings.window_frames)
            moves.append(torch.cat([self._answer(query) for query in queries]))
        return Prediction(batch.reference[:, None] * self.settings.relative + torch.stack(moves))

    def _segments(self, values: Tensor) -> list[Tensor]:
        """Segments of a training clip; one that is shorter than a segment runs back and forth."""
        length = self.settings.window_frames
        values = repeated(values, length) if len(values) < length else values
        return list(values.unfold(0, length, self.settings.stride_frames).transpose(1, 2))

    def _answer(self, query: Tensor) -> Tensor:
        """The motion (frame, coefficients) that goes with a query (frame, feature), which may be a shorter last one."""
        nearest = (self.keys[:, : len(query)] - query).square().sum(dim=(1, 2)).argmin()
        return self.motions[nearest, : len(query)]


class NnMotion(Nearest):
    """By the speaker's z-scored motion since the first frame of the clip, or where not ``relative`` as it is."""

    name = "nn_motion"
    paper = "Ng et al., Learning to Listen, CVPR 2022 (NN motion)"
    deviations = (NEAREST,)
    presets = {"paper": published(deviations)}

    def key(self, speaker: Tensor, audio: Tensor) -> Tensor:
        return speaker - speaker[0] * self.settings.relative


class NnAudio(Nearest):
    """By the sound: there it was embedded by a pretrained VGGish, here its 45 z-scored features are compared."""

    name = "nn_audio"
    paper = "Ng et al., Learning to Listen, CVPR 2022 (NN audio)"
    roles = {LISTENER: {}, SPEAKER: {}}
    deviations = (
        NEAREST,
        Deviation(
            "Ng et al., baselines", "the sound's embedding by a pretrained VGGish is compared",
            "the 45 acoustic features: no further weights",
        ),
    )  # fmt: skip
    presets = {"paper": published(deviations)}

    def key(self, speaker: Tensor, audio: Tensor) -> Tensor:
        return audio


class DlsRandom(Elp):
    """Random codes of the discrete latent space (Song et al., ICCV 2023, "DLS-Random").

    The decoders are those of ``elp``, so this one is trained as ``elp`` is; in prediction all codes are equally
    probable, whatever the speaker does. The attitude opens its code space all the same (the paper's row "DLS-Rand.+U";
    "DLS-Rand.+V" is ``space=shared``): the label's, also where ``elp`` would hear it.
    """

    name = "dls_random"
    paper = "Song et al., Emotional Listener Portrait, ICCV 2023 (DLS-Random)"
    causal = True  # the speaker is not looked at

    def _codes(self, batch: Batch) -> tuple[Tensor, Tensor]:
        shape = (*batch.mask.shape, self.settings.heads, self.settings.codes)
        return batch.speaker.new_zeros(shape), batch.attitude


def repeated(motion: Tensor, frames: int) -> Tensor:
    """Motion (frame, coefficients) forth and back until it has as many frames as wanted."""
    there_and_back = torch.cat([motion, motion[1:-1].flip(0)])
    return there_and_back[torch.arange(frames, device=motion.device) % len(there_and_back)]


def held(values: Tensor, known: Tensor) -> Tensor:
    """Values (frame, ...) in which an unknown frame repeats the last known one, the first known one at the start."""
    places = torch.arange(len(known), device=known.device).where(known, torch.full_like(known, -1, dtype=torch.int64))
    return values[places.cummax(0).values.clamp(min=int(known.int().argmax()))]
