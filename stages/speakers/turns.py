"""Who has the floor from when to when: turns of people in a picture, from a score a person and frame.

A turn is somebody's by the *lead* of his score over the highest of the others, not by the sign of the score: who hardly
opens the mouth leads all the same. Of all ways to give the voiced frames to the people or to nobody that is taken which
adds up to the most, where a frame counts as its lead, 1 at most, and a change of the floor costs as much as the
longest backchannel ("mhm", "yes") that leaves it where it is; a change amid a voice costs a little more than one at a
pause, since people change at pauses. So neither a backchannel nor a score that wavers ends a turn, and an edge lies at
the first or last voiced frame where the speech says so. Voices in which nobody leads belong to nobody, and so
do those in which the leading score is low all the while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.clock import frames_in
from pipeline.stage import setting

HEARD = 0.5  # probability of a voice from which a frame is voiced, Silero's own
NOBODY = -1
NOBODYS_SHARE = 0.25  # of a full lead: a voice in which people lead by less on the average is nobody's
TO_NOBODY = 0.75  # of the price of a change: nobody comes between two people, but not for a backchannel
AMID_S = 0.3  # a change amid a voice is worth so many seconds wrongly given, before it is put at a pause nearby
BREATH_S = 0.1  # a silence from which a pause counts as one: stops of the lips are shorter


@dataclass(frozen=True)
class Settings:
    """What ends a turn, and which turns count."""

    pause_s: float = setting(1.0, "longest silence inside a turn, seconds (Jefferson 1989: silences end by 1 s)")
    backchannel_s: float = setting(1.0, "longest utterance of the other that does not end a turn, seconds")
    least_s: float = setting(1.0, "shortest turn that counts, seconds")
    margin: float = setting(0.5, "least mean lead of a turn's person over the others, in the scores' unit")
    least_score: float = setting(
        -0.5, "least mean score of a turn's person where he leads; of a lower one the voice is off screen"
    )


class Turn(NamedTuple):
    """Frames ``start`` to ``end``, without the last, in which the person of that column has the floor."""

    start: int
    end: int
    person: int


def turns(scores: NDArray[np.floating[Any]], voiced: NDArray[np.bool_], settings: Settings) -> list[Turn]:
    """Turns in the order of time; none overlap, each begins and ends in a voiced frame.

    Parameters
    ----------
    scores : (frame, person), of one unit for all; NaN where a person is not seen.
    voiced : (frame,) whether anybody is heard.
    """
    leads = lead(scores)
    found = []
    frames = np.flatnonzero(voiced)  # only these count; between two of them may lie a silence
    if not len(frames):
        return []
    silences = np.diff(frames) - 1  # frames of silence between each voiced frame and the next
    who = floor(leads[frames] / settings.margin, silences, settings)
    ends = np.flatnonzero((np.diff(who) != 0) | (silences > frames_in(settings.pause_s)))
    for first, last in zip([0, *(ends + 1)], [*ends, len(frames) - 1], strict=True):
        turn = Turn(int(frames[first]), int(frames[last]) + 1, int(who[first]))
        if turn.person == NOBODY or turn.end - turn.start < frames_in(settings.least_s):
            continue
        spoken = frames[first : last + 1]
        ahead = leads[spoken, turn.person]
        if ahead.mean() >= settings.margin and scores[spoken[ahead > 0], turn.person].mean() >= settings.least_score:
            found.append(turn)
    return found


def lead(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Score of each person over the highest of the others, (frame, person); 0 where there is nobody to compare."""
    known = np.where(np.isfinite(scores), scores, -np.inf).astype(np.float64)
    ahead = np.zeros_like(known)
    for person in range(known.shape[1]):
        others = np.delete(known, person, axis=1).max(axis=1, initial=-np.inf)
        both = np.isfinite(known[:, person]) & np.isfinite(others)
        ahead[both, person] = known[both, person] - others[both]
    return ahead


def floor(gains: NDArray[np.float64], silences: NDArray[np.intp], settings: Settings) -> NDArray[np.intp]:
    """Who has the floor in every voiced frame (voiced,), a person or `NOBODY`, by Viterbi's algorithm.

    Parameters
    ----------
    gains : leads (voiced, person) in margins.
    silences : frames without a voice between each voiced frame and the next, (voiced - 1,).
    """
    gains = np.concatenate([np.full((len(gains), 1), NOBODYS_SHARE), gains.clip(-1, 1)], axis=1)
    price = np.full(len(silences), frames_in(settings.backchannel_s))
    price[silences < frames_in(BREATH_S)] += 2 * frames_in(AMID_S)  # a frame wrongly given loses 1 and gains -1
    price[silences > frames_in(settings.pause_s)] = 0
    states = gains.shape[1]
    costs = 1.0 - np.eye(states)  # (after, before)
    costs[0, 1:] = costs[1:, 0] = TO_NOBODY
    total = gains[0]
    came_from = np.zeros(gains.shape, np.intp)
    for k in range(1, len(gains)):
        ways = total - price[k - 1] * costs
        came_from[k] = ways.argmax(axis=1)
        total = ways[np.arange(states), came_from[k]] + gains[k]
    who = np.zeros(len(gains), np.intp)
    who[-1] = total.argmax()
    for k in range(len(gains) - 1, 0, -1):
        who[k - 1] = came_from[k, who[k]]
    return who - 1  # nobody stands first
