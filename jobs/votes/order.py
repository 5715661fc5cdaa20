"""In which order an annotator sees the clips: shuffled for each, and one in twenty comes a second time, unannounced.

A pure function of names, so that it needs no file: nobody's order tells anything of another's, and a clip that is
added later changes nothing of the order of the rest.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from jobs.votes.store import FIRST, REPEAT
from pipeline.plan import digest

REPEATED_SHARE = 0.05
FEWEST_FOR_REPEATS = 4  # with fewer clips one remembers what one said


def order(annotator: str, clip_ids: Collection[str]) -> list[tuple[str, str]]:
    """(clip id, round) of everything to be judged; a repeat comes at least a third of all clips after the first."""
    first = sorted(clip_ids, key=lambda clip_id: digest([annotator, clip_id]))
    items = [(clip_id, FIRST) for clip_id in first]
    for clip_id in reversed(_repeated(annotator, first)):
        earliest = items.index((clip_id, FIRST)) + math.ceil(len(first) / 3) + 1
        place = earliest + int(digest([annotator, clip_id, "place"]), 16) % (len(items) - earliest + 1)
        items.insert(place, (clip_id, REPEAT))
    return items


def _repeated(annotator: str, first: Sequence[str]) -> list[str]:
    """The clips that come twice, all from the first half."""
    if len(first) < FEWEST_FOR_REPEATS:
        return []
    number = math.ceil(REPEATED_SHARE * len(first))
    chosen = sorted(first[: len(first) // 2], key=lambda clip_id: digest([annotator, clip_id, REPEAT]))[:number]
    return sorted(chosen, key=first.index)
