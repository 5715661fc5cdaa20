"""DualTalk's and TIMAR's layout: of a conversation two files of FLAME coefficients and two of sound, at 25 fps.

A split is a folder. ``X_speaker1`` is the clip's speaker and ``X_speaker2`` its listener; each is ``.npz`` with
``exp`` (frame, 50) and ``pose`` (frame, 6: neck 3, jaw 3) and ``.wav`` at 16 kHz. Their loader cuts windows itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jobs.layouts import Layout, Moved, Row, write_each
from jobs.layouts.motion.sound import sound_of, sounds_in, write_sound
from jobs.layouts.motion.spaces import FLAME, finite, require_space
from pipeline.clock import frames_at
from pipeline.dataset.read import read_clips
from pipeline.dataset.storage import Location

RATE_HZ = 16_000
NUMBERS = {"speaker": 1, "listener": 2}  # role -> of its files' names


class DualTalk(Layout):
    """Where a data set holds ``speaker_audio`` and ``listener_audio`` each file has its person's sound."""

    writes = "a folder a split: X_speaker1, X_speaker2, each .npz (exp, pose) and .wav of 16 kHz"
    loses = "labels, films, all other columns; without a sound a person speaker1 has the mix and speaker2 silence"
    space = FLAME
    fps = 25

    def write(self, dataset: Location, out: Path) -> Moved:
        """Write the clips of a data set; `UserError` if its coefficients are not FLAME's."""
        columns = require_space(dataset, self.name, self.space)
        sounds = sounds_in(dataset)
        rows = read_clips(dataset, [*columns, *filter(None, sounds.values())])

        def write(folder: Path, row: Row) -> None:
            frames = frames_at(row["num_frames"], self.fps)
            (folder / row["split"]).mkdir()
            for role, number in NUMBERS.items():
                path = folder / row["split"] / f"{row['clip_id']}_speaker{number}"
                arrays = {name: finite(row, f"{role}_{name}")[frames] for name in ("exp", "pose")}
                np.savez(path.with_suffix(".npz"), **arrays)
                sound = row[sounds[role]] if sounds[role] else None
                samples = sound_of(dataset, sound, len(frames), self.fps, RATE_HZ)
                write_sound(path.with_suffix(".wav"), samples, RATE_HZ)

        return write_each(rows, out, write)
