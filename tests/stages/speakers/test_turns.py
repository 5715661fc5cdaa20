"""Turns from scores that are known by construction."""

from __future__ import annotations

import numpy as np

from pipeline.clock import FPS
from stages.speakers.turns import Settings, Turn, turns

SETTINGS = Settings(pause_s=1.0, backchannel_s=0.8, least_s=1.0, margin=0.5)
LEAD = 2.0


def spoken(*parts: tuple[float, str], people: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Scores (frame, person) and voiced (frame,) of parts, each seconds and who: a digit, "-" silence, "?" nobody."""
    scores, voiced = [], []
    for seconds, who in parts:
        rows = np.full((round(seconds * FPS), people), -2.25)
        if who.isdigit():
            rows[:, int(who)] += LEAD
        scores.append(rows)
        voiced.append(np.full(len(rows), who != "-"))
    return np.concatenate(scores).astype(np.float32), np.concatenate(voiced)


def test_turns_alternate_at_the_exact_frames_though_no_score_is_above_zero() -> None:
    assert turns(*spoken((0.5, "-"), (3, "0"), (0.3, "-"), (2, "1"), (0.2, "-")), SETTINGS) == [
        Turn(15, 105, 0),
        Turn(114, 174, 1),
    ]
    assert turns(*spoken((3, "0"), (2, "1")), SETTINGS) == [Turn(0, 90, 0), Turn(90, 150, 1)]


def test_a_turn_is_split_at_a_pause_and_not_at_a_shorter_silence() -> None:
    assert turns(*spoken((2, "0"), (1, "-"), (2, "0")), SETTINGS) == [Turn(0, 150, 0)]
    assert turns(*spoken((2, "0"), (1.1, "-"), (2, "0")), SETTINGS) == [Turn(0, 60, 0), Turn(93, 153, 0)]


def test_a_backchannel_does_not_end_a_turn_and_a_longer_answer_does() -> None:
    for around in ("0", "-"):  # amid the voice, and with silence on both sides
        parts = [(2, "0"), (0.3, around), (0.7, "1"), (0.3, around), (2, "0")]
        assert turns(*spoken(*parts), SETTINGS) == [Turn(0, 159, 0)]
    assert [turn.person for turn in turns(*spoken((2, "0"), (0.3, "-"), (2, "1"), (2, "0")), SETTINGS)] == [0, 1, 0]


def test_a_score_that_is_late_behind_a_pause_does_not_move_the_edge() -> None:
    late = turns(*spoken((2, "0"), (0.3, "-"), (0.2, "0"), (2, "1")), SETTINGS)
    assert late == [Turn(0, 60, 0), Turn(69, 135, 1)]


def test_a_voice_in_which_nobody_leads_belongs_to_nobody() -> None:
    assert turns(*spoken((3, "?")), SETTINGS) == []
    assert turns(*spoken((2, "0"), (3, "?"), (2, "1")), SETTINGS) == [Turn(0, 60, 0), Turn(150, 210, 1)]
    scores, voiced = spoken((3, "?"))
    scores[:, 0] += 0.4  # a lead under the margin
    assert turns(scores, voiced, SETTINGS) == []


def test_a_lead_between_low_scores_belongs_to_somebody_off_screen() -> None:
    scores, voiced = spoken((3, "0"))
    assert turns(scores, voiced, SETTINGS) == [Turn(0, 90, 0)]
    assert turns(scores - 1, voiced, SETTINGS) == []


def test_short_turns_silence_and_nothing_at_all_are_no_turns() -> None:
    assert turns(*spoken((0.9, "0")), SETTINGS) == []
    assert turns(*spoken((3, "-")), SETTINGS) == []
    assert turns(np.zeros((0, 2), np.float32), np.zeros(0, bool), SETTINGS) == []


def test_the_order_of_people_and_more_of_them_change_nothing() -> None:
    parts = [(2.0, "0"), (0.5, "-"), (2.0, "1"), (2.0, "2")]
    scores, voiced = spoken(*parts, people=3)
    assert turns(scores, voiced, SETTINGS) == [Turn(0, 60, 0), Turn(75, 135, 1), Turn(135, 195, 2)]
    backwards = [turn._replace(person=2 - turn.person) for turn in turns(scores[:, ::-1], voiced, SETTINGS)]
    assert backwards == turns(scores, voiced, SETTINGS)


def test_someone_who_is_not_seen_has_no_turn_and_a_person_alone_leads_nobody() -> None:
    scores, voiced = spoken((4, "0"))
    scores[:, 0] = np.nan
    assert turns(scores, voiced, SETTINGS) == []
    assert turns(np.full((120, 1), 5.0), np.ones(120, bool), SETTINGS) == []
