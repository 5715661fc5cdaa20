"""Stage ``speaking``: who of the two speaks in every frame, and whether it is the one that the manifest says.

``motion`` (the default) sets the mouths' motion in the rhythm of speech against the sound, `stages.speakers.motion`;
``lr_asd`` runs the network of Liao et al. (IJCV 2025) with the user's checkpoint, `stages.speakers.lr_asd`. Where
anybody is heard, Silero's voice activity says, whose weights are embedded. On the real clips of
``manifests/vico_examples.csv`` both find every speaker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import frames_in, grid_times_s
from pipeline.media.encode import read_video
from pipeline.stage import Reject, Stage, Warned, setting
from schemas.column import FRAME_AXIS, ROLES, Column, both, per_role
from stages.faces.mesh import face_boxes
from stages.speakers.turns import HEARD

MOTION, LR_ASD = "motion", "lr_asd"
SWAPPED, STILL = "roles_swapped", "listener_is_a_picture"
SCORES = {
    MOTION: "logarithm of the odds that the {role} speaks, by the mouth's motion against the sound",
    LR_ASD: "how much the {role} speaks by LR-ASD, a logit; above 0 the {role} does",
}


class Speaking(Stage):
    """Who speaks in every frame, by the mouths' motion against the sound or by LR-ASD (Liao et al. 2025)."""

    @dataclass(frozen=True)
    class Settings:
        backend: str = setting(MOTION, "motion (embedded) or lr_asd (the user's checkpoint)", choices=(MOTION, LR_ASD))
        strict: bool = setting(False, "whether a clip whose listener is the one who speaks is rejected")
        margin: float = setting(
            0.5, "mean lead of the listener's score over the speaker's in voiced frames from which roles are swapped"
        )

    version = 2
    opt_in = True
    rejects = {
        SWAPPED: "the person typed as listener speaks, and strict is set",
        STILL: "a picture stands for the listener: no mouth moves against which the speaker's could be set",
    }
    warnings = {SWAPPED: "the person typed as listener speaks"}

    def reads(self) -> tuple[str, ...]:
        seen = ("{role}_video",) if self.settings.backend == LR_ASD else ()
        return ("audio", *both("{role}_landmarks", "{role}_landmarks_valid", *seen))

    def weights(self) -> tuple[str, ...]:
        return ("silero_vad", *((LR_ASD,) if self.settings.backend == LR_ASD else ()))

    def writes(self) -> tuple[Column, ...]:
        return per_role(Column("{role}_speaking", "float32", (FRAME_AXIS,), "1", SCORES[self.settings.backend]))

    def setup(self, device: str) -> None:
        from pipeline.weights import find_weights
        from stages.speakers.voice import Voice

        self._voice = Voice(*find_weights("silero_vad").paths())
        if self.settings.backend == LR_ASD:
            from stages.speakers.lr_asd import LrAsd

            self._detector = LrAsd(*find_weights(LR_ASD).paths(), device)

    def process(self, clip: Clip) -> dict[str, Any]:
        from stages.speakers.mfcc import read_sound
        from stages.speakers.voice import at_times

        if clip.has_portrait:
            raise Reject(STILL, "leave [stages.speaking] out for clips with a portrait")
        sound = read_sound(clip.path("audio"))
        voice = at_times(self._voice.probability(sound), grid_times_s(clip.num_frames))
        found = self._by_network(clip, sound) if self.settings.backend == LR_ASD else _by_motion(clip, sound, voice)
        columns = {f"{role}_speaking": scores for role, scores in zip(ROLES, found, strict=True)}
        return self._judged(columns, found, voice > HEARD)

    def _by_network(self, clip: Clip, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        from stages.speakers import lr_asd

        times_s = np.arange(int((clip.num_frames - 1) * lr_asd.FILM_HZ / frames_in(1)) + 1) / lr_asd.FILM_HZ
        shown = np.rint(frames_in(times_s)).astype(np.intp)  # the frame of ours nearest to each of its
        found = []
        for role in ROLES:
            boxes = face_boxes(clip[f"{role}_landmarks"], clip[f"{role}_landmarks_valid"])
            faces = lr_asd.crops(_chosen(read_video(clip.path(f"{role}_video")), shown), boxes[shown])
            scores = self._detector.scores(faces, sound)
            found.append(np.interp(grid_times_s(clip.num_frames), times_s, scores))
        return np.array(found, np.float32)

    def _judged(
        self, columns: dict[str, Any], scores: NDArray[np.float32], voiced: NDArray[np.bool_]
    ) -> dict[str, Any]:
        """The columns, with a warning or a rejection where the listener's scores lead in voiced frames."""
        if not voiced.any():
            return columns
        speaker, listener = scores[:, voiced]
        lead = float((listener - speaker).mean())
        if lead < self.settings.margin:
            return columns
        share = float((listener > speaker).mean())
        detail = (
            f"in {voiced.sum()} voiced frames the listener's score is {lead:.2f} above the speaker's, expected less "
            f"than {self.settings.margin:g}, and the higher one in {share:.0%}"
        )
        if self.settings.strict:
            raise Reject(SWAPPED, detail)
        return Warned(columns, SWAPPED, detail)


def _by_motion(clip: Clip, sound: NDArray[np.float32], voice: NDArray[np.float32]) -> NDArray[np.float32]:
    from stages.speakers import motion

    evidences = []
    for role in ROLES:
        seen = clip[f"{role}_landmarks_valid"][:, None, None]
        mouths = motion.mouth(np.where(seen, clip[f"{role}_landmarks"], np.nan))
        evidences.append(motion.evidence(mouths, sound))
    return motion.speaking(np.array(evidences), voice)


def _chosen(frames: Iterator[NDArray[np.uint8]], wanted: NDArray[np.intp]) -> Iterator[NDArray[np.uint8]]:
    """The frames at rising places of a video, of which one may come twice."""
    place = -1
    for index in wanted:
        while place < index:
            frame, place = next(frames), place + 1
        yield frame
