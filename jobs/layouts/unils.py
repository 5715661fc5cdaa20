"""UniLS's layout: an LMDB of people and a list of the pairs among them, at 25 fps.

``seamless_interaction_lmdb`` has a key ``X_speaker`` and ``X_listener`` a clip, each what ``np.savez`` makes of
``audio`` (sample,) at 16 kHz, ``motioncode`` (frame, 56: FLAME's expression 50 and pose 6) and ``speech_mask``
(frame,), true where the person speaks; ``seamless_interaction_pairs.json`` is {split: {X: [key, key, frames]}}. Of the
values only names are known: widths, the order of the 56 and the types are ours, as in `jobs.layouts.l2l`.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from pathlib import Path

import lmdb
import numpy as np

from jobs.layouts import Layout, Moved, Row, staged
from jobs.layouts.motion.sound import sound_of, sounds_in
from jobs.layouts.motion.spaces import FLAME, WIDTHS, finite, require_space
from pipeline.clock import frames_at
from pipeline.dataset.read import read_clips, read_description
from pipeline.dataset.storage import Location
from schemas.column import ROLES, both
from schemas.errors import UserError

RATE_HZ = 16_000
PEOPLE, PAIRS = "seamless_interaction_lmdb", "seamless_interaction_pairs.json"
MAP_BYTES = 2**40  # of addresses: LMDB wants to know how far it may grow; the file is as long as what it holds
SPEAKING = both("{role}_speaking")  # above 0 the person speaks, whatever the backend


class UniLS(Layout):
    """Who speaks is what the stage `speaking` found."""

    writes = f"{PEOPLE}: X_speaker, X_listener, each npz (audio of 16 kHz, motioncode, speech_mask); {PAIRS}"
    loses = "labels, films, all other columns; without a sound a person the speaker has the mix, the listener silence"
    space = FLAME
    fps = 25

    def write(self, dataset: Location, out: Path) -> Moved:
        """Write the clips of a data set; `UserError` if its coefficients are not FLAME's or nobody knows who speaks."""
        columns = require_space(dataset, self.name, self.space)
        if not set(SPEAKING) <= set(read_description(dataset).packed):
            raise UserError(
                f"{dataset}: the layout {self.name} says who speaks in every frame; expected the columns "
                f"{' and '.join(SPEAKING)}, found neither; build the data set with the stage speaking"
            )
        sounds = sounds_in(dataset)
        moved, pairs = Moved(), defaultdict[str, dict[str, tuple[str, str, int]]](dict)
        with staged(out) as folder:
            with lmdb.open(str(folder / PEOPLE), map_size=MAP_BYTES, lock=False) as people:
                for row in read_clips(dataset, [*columns, *SPEAKING, *filter(None, sounds.values())]):
                    keys = {role: f"{row['clip_id']}_{role}" for role in ROLES}
                    try:
                        values = {keys[role]: self._value(dataset, row, role, sounds[role]) for role in ROLES}
                    except UserError as error:
                        moved.problems.append(f"{row['clip_id']}: {error}")
                        continue
                    with people.begin(write=True) as transaction:
                        for key, value in values.items():
                            transaction.put(key.encode(), value)
                    frames = len(frames_at(row["num_frames"], self.fps))
                    pairs[row["split"]][row["clip_id"]] = (*keys.values(), frames)
                    moved.clips.append(row["clip_id"])
            (folder / PAIRS).write_text(json.dumps(pairs, indent=1))
        return moved

    def _value(self, dataset: Location, row: Row, role: str, sound: str | None) -> bytes:
        """What a person's key holds."""
        frames = frames_at(row["num_frames"], self.fps)
        motion = np.hstack([finite(row, f"{role}_{name}") for name in WIDTHS[self.space]])
        speaks = np.asarray(row[f"{role}_speaking"]) > 0
        samples = sound_of(dataset, row[sound] if sound else None, len(frames), self.fps, RATE_HZ)
        value = io.BytesIO()
        np.savez(value, audio=samples, motioncode=motion[frames], speech_mask=speaks[frames])
        return value.getvalue()
