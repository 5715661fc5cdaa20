"""Why a span of film is a clip or is none, in the order in which spans fall out: the steps of the funnel."""

from __future__ import annotations

from pipeline.media.sandbox import MEDIA_REASONS
from pipeline.sources.availability import OK, OUTCOMES
from schemas import outcome
from stages.faces.sights import MEANINGS, Sight

CLIP = "clip"
FACE_MISSING, FACE_TURNED_AWAY = "face_missing", "face_turned_away"
SILENCE, NOBODY_LEADS = "silence", "nobody_leads"
TOO_SHORT, ONE_TURN, WITHDRAWN = "too_short", "one_turn", "withdrawn"

READ, TWO_PEOPLE, IN_VIEW, ONE_SPEAKS, USABLE, CLIPS = "read", "two people", "in view", "one speaks", "usable", "clips"
STEPS = (READ, TWO_PEOPLE, IN_VIEW, ONE_SPEAKS, USABLE, CLIPS)

_ENGINE = {name: meaning for name, meaning in outcome.OUTCOMES.items() if name not in (outcome.OK, outcome.REJECTED)}
_LOST = {**MEDIA_REASONS, **{name: meaning for name, meaning in OUTCOMES.items() if name != OK}, **_ENGINE}

REASONS: dict[str, tuple[str, str]] = {
    **{name: (READ, meaning) for name, meaning in _LOST.items()},
    **{sight.name.lower(): (TWO_PEOPLE, MEANINGS[sight]) for sight in Sight if sight != Sight.PAIR},
    FACE_MISSING: (IN_VIEW, "a face is not found for longer than max_missing_s"),
    FACE_TURNED_AWAY: (IN_VIEW, "a face is turned by more than max_yaw_deg for longer than max_missing_s"),
    SILENCE: (ONE_SPEAKS, "nobody is heard"),
    NOBODY_LEADS: (ONE_SPEAKS, "somebody is heard, but neither is seen to speak more than the other"),
    TOO_SHORT: (USABLE, "a turn shorter than min_s, or what is left of one at a pause"),
    ONE_TURN: (USABLE, "a turn, and clips of several turns are asked for"),
    WITHDRAWN: (USABLE, "one of the two must not be shown"),
    CLIP: (CLIPS, "a clip"),
}
"""Reason -> step of the funnel at which a span of it falls out, and what it means."""
