"""Stage ``sync``: how well each person's lips go with the sound, by SyncNet; only with SyncNet's published weights.

Chung and Zisserman, "Out of Time", ACCV Workshops 2016: lips and sound are embedded a fifth of a second at a time, and
compared with each other at shifts of up to 15 frames at 25 fps. The offset is the shift at which they are nearest, the
confidence by how much they are nearer there than at the median shift: Sync-C (LSE-C) of papers, who keep clips from 3
or 4 on. What is embedded and how, `stages.speakers.syncnet` says; the numbers are those of AVConf and AVOffset,
`stages.evaluate.metrics.lip_sync`, so that data and predictions compare. A listener's portrait has none.

Somebody who listens, or whose voice is another's, has a low confidence, and an offset that means nothing. There is no
weaker backend for those who lack the weights: what the mesh's mouth alone can say is in ``docs/quality.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.clip import Clip
from pipeline.clock import frames_at
from pipeline.media.encode import read_video
from pipeline.stage import Reject, Stage, setting
from schemas.column import LISTENER, ROLES, SPEAKER, Column, both, per_role

WEIGHTS = "syncnet_v2"


class Sync(Stage):
    """Offset and confidence of both people's lips against the sound, by SyncNet (Chung and Zisserman 2016)."""

    @dataclass(frozen=True)
    class Settings:
        min_confidence: float = setting(0.0, "least confidence of the speaker; papers ask for 3 or 4, 0 for nothing")
        max_offset: int = setting(15, "largest offset of the speaker to either side, in frames at 25 fps")

    opt_in = True
    reads = ("audio", *both("{role}_video"))
    writes = per_role(
        Column(
            "{role}_sync", "float32", (), "1", "confidence of SyncNet that the {role}'s lips go with the sound, Sync-C"
        ),
        Column(
            "{role}_sync_offset",
            "int32",
            (),
            "1",
            "shift in frames at 25 fps at which the {role}'s lips go best with the sound: > 0 where the sound is early",
        ),
    )
    rejects = {
        "too_short": "shorter than the shifts at which lips and sound are compared",
        "no_face": "in no frame of a role a face is found",
        "out_of_sync": "the speaker's confidence lies below min_confidence, or the offset beyond max_offset",
    }
    weights = (WEIGHTS, "mtcnn")
    gpus = 0.25

    def setup(self, device: str) -> None:
        from pipeline.weights import find_weights
        from stages.faces.detector import FaceDetector
        from stages.speakers.syncnet import SyncNet

        self._detector = FaceDetector(device)
        self._network = SyncNet(*find_weights(WEIGHTS).paths(), device)

    def process(self, clip: Clip) -> dict[str, Any]:
        from stages.evaluate.metrics.lip_sync import SHIFT_FRAMES, confidence, offset
        from stages.speakers.mfcc import read_sound
        from stages.speakers.syncnet import FILM_HZ, SEEN, face_boxes, squares

        sound = read_sound(clip.path("audio"))
        shown = frames_at(clip.num_frames, FILM_HZ)  # of 30 a second: none is shown twice
        if len(shown) <= SHIFT_FRAMES + SEEN:
            raise Reject("too_short", f"{len(shown)} frames at 25 fps, expected more than {SHIFT_FRAMES + SEEN}")
        columns: dict[str, Any] = {}
        for role in ROLES[: 1 if clip.has_portrait else None]:
            film, wanted = clip.path(f"{role}_video"), set(shown.tolist())
            boxes = face_boxes(read_video(film, wanted), self._detector)
            if not np.isfinite(boxes).all():
                raise Reject("no_face", f"{role}: in none of {len(shown)} frames a face is found")
            places = self._network.embeddings(squares(read_video(film, wanted), boxes), len(shown), sound)
            columns |= {f"{role}_sync": confidence(places), f"{role}_sync_offset": np.int32(offset(places))}
        if clip.has_portrait:
            columns |= dict.fromkeys((f"{LISTENER}_sync", f"{LISTENER}_sync_offset"))
        self._check(columns[f"{SPEAKER}_sync"], int(columns[f"{SPEAKER}_sync_offset"]))
        return columns

    def _check(self, confident: float, shift: int) -> None:
        if confident < self.settings.min_confidence:
            raise Reject(
                "out_of_sync", f"confidence {confident:.2f}, expected {self.settings.min_confidence:g} or more"
            )
        if abs(shift) > self.settings.max_offset:
            raise Reject("out_of_sync", f"offset {shift} frames at 25 fps, expected {self.settings.max_offset} at most")
