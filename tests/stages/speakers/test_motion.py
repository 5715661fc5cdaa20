"""Who speaks by the mouth's motion: faces made so that one knows what they do, and sound that goes with one of them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.clock import FPS
from stages.speakers import motion

RATE_HZ = 16_000
SECONDS = 6
TIMES_S = np.arange(SECONDS * FPS) / FPS
NOSE_PX = 50.0
HEARD = np.ones(len(TIMES_S))
SILENCE = np.zeros(SECONDS * RATE_HZ)
LAG_S = 0.1  # the voice behind the mouth


def syllables(times_s: np.ndarray) -> np.ndarray:
    """Strength of speech of 4 to 5 syllables a second, 0 to 1."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * (4.5 * times_s + 0.4 * np.sin(2 * np.pi * 0.7 * times_s)))) ** 2


def voice_of(strength: np.ndarray) -> np.ndarray:
    """Noise of the strength (sample,)."""
    return 0.2 * strength * np.random.default_rng(0).normal(0, 1, len(strength))


def face(opening: np.ndarray, yaw_rad: np.ndarray | float = 0.0, noise_px: float = 0.1) -> np.ndarray:
    """Landmarks (frame, 478, 3) of a head that turns, with lips that are so far apart, in noses."""
    head = np.zeros((len(opening), 478, 3))
    head[:, motion.NOSE[0]] = (0, -NOSE_PX, -20)
    head[:, motion.NOSE[1]] = (0, 0, -20)
    head[:, motion.CHIN] = np.stack([0 * opening, 60 + 0.5 * NOSE_PX * opening, 0 * opening - 10], axis=1)
    for k, (upper, lower) in enumerate(motion.LIPS):
        across = (0, -12, 12)[k]
        for point, way in ((upper, -0.5), (lower, 0.5)):
            head[:, point] = np.stack(
                [np.full(len(opening), across), 30 + way * NOSE_PX * opening, np.full(len(opening), -15)], axis=1
            )
    yaw = np.broadcast_to(yaw_rad, len(opening))
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    turned = np.stack(
        [cos * head[..., 0] + sin * head[..., 2], head[..., 1], cos * head[..., 2] - sin * head[..., 0]], -1
    )
    return turned + np.random.default_rng(1).normal(0, noise_px, turned.shape) + (200, 200, 0)


TALKS = 0.05 + 0.25 * syllables(TIMES_S)
STILL = np.full(len(TIMES_S), 0.02)
OTHERS = {
    "is still": face(STILL),
    "smiles": face(0.05 + 0.2 / (1 + np.exp(-(TIMES_S - 2) / 0.2)) - 0.2 / (1 + np.exp(-(TIMES_S - 4.5) / 0.2))),
    "chews": face(0.02 + 0.01 * np.sin(2 * np.pi * 1.5 * TIMES_S)),
    "yawns": face(0.9 * np.exp(-(((TIMES_S - 3) / 0.8) ** 2))),
    "turns the head": face(np.full(len(TIMES_S), 0.1), yaw_rad=0.7 * np.sin(2 * np.pi * 0.6 * TIMES_S)),
    "shakes the head": face(np.full(len(TIMES_S), 0.1), yaw_rad=0.2 * np.sin(2 * np.pi * 2.5 * TIMES_S)),
}


def scores(people: list[np.ndarray], sound: np.ndarray, voice: np.ndarray = HEARD) -> np.ndarray:
    return motion.speaking(np.array([motion.evidence(motion.mouth(one), sound) for one in people]), voice)


@pytest.mark.parametrize("other", OTHERS)
def test_who_talks_is_told_from_who_only_moves(other: str) -> None:
    sound = voice_of(syllables(np.arange(SECONDS * RATE_HZ) / RATE_HZ - LAG_S))
    talker, moving = scores([face(TALKS), OTHERS[other]], sound)
    assert (talker > 0).all()
    assert (moving < 0).all()


def test_the_order_of_people_changes_nothing() -> None:
    sound = voice_of(syllables(np.arange(SECONDS * RATE_HZ) / RATE_HZ))
    people = [face(TALKS), OTHERS["smiles"]]
    np.testing.assert_allclose(scores(people, sound), scores(people[::-1], sound)[::-1], atol=1e-4)


def test_a_voice_from_elsewhere_belongs_to_nobody() -> None:
    sound = voice_of(syllables(np.arange(SECONDS * RATE_HZ) / RATE_HZ))
    assert (scores([OTHERS["is still"], OTHERS["smiles"]], sound) < 0).all()


def test_a_mouth_that_moves_without_a_voice_does_not_speak() -> None:
    assert (scores([face(TALKS), face(STILL)], SILENCE, np.zeros(len(TIMES_S))) < 0).all()


def test_a_pause_leaves_the_floor_to_who_had_it() -> None:
    pause = (TIMES_S > 2.5) & (TIMES_S < 3.3)
    times_s = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    sound = voice_of(syllables(times_s - LAG_S) * ~((times_s > 2.5) & (times_s < 3.3)))
    talker, listener = scores([face(np.where(pause, 0.02, TALKS)), face(STILL)], sound, (~pause).astype(float))
    assert (talker > listener).all()
    assert (talker[pause] < 0).all() and (talker[~pause] > 0).all()


def test_turns_begin_where_the_other_begins_to_speak() -> None:
    first = TIMES_S < 3.2
    mouths = [face(np.where(turn, TALKS, 0.02)) for turn in (first, ~first)]
    sound = voice_of(syllables(np.arange(SECONDS * RATE_HZ) / RATE_HZ))
    one, other = scores(mouths, sound)
    (change,) = np.flatnonzero(np.diff((other > one).astype(int)))
    assert abs(TIMES_S[change] - 3.2) <= 0.25


def test_of_two_mouths_that_move_alike_the_voice_goes_to_the_one_that_moves_with_it() -> None:
    times_s = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    elsewhere = 0.05 + 0.25 * syllables(1.37 * TIMES_S + 0.5)
    evidences = [
        motion.evidence(motion.mouth(face(opening)), voice_of(syllables(times_s - LAG_S))).mean()
        for opening in (TALKS, elsewhere)
    ]
    assert evidences[0] > evidences[1]


def test_frames_without_a_face_say_nothing_and_harm_nobody_else() -> None:
    hidden = face(TALKS)
    hidden[60:80] = np.nan
    found = motion.evidence(motion.mouth(hidden), SILENCE)
    assert (found[60:80] == 0).all() and np.isfinite(found).all()
    nowhere = np.full_like(hidden, np.nan)
    assert (motion.evidence(motion.mouth(nowhere), SILENCE) == 0).all()


def test_the_rhythm_of_speech_passes_and_what_is_slower_or_faster_does_not() -> None:
    times_s = np.arange(20 * FPS) / FPS
    size = {hz: np.abs(motion.in_rhythm(np.sin(2 * np.pi * hz * times_s))[90:-90]).max() for hz in (0.3, 4, 14)}
    assert size[4] > 0.9
    assert size[0.3] < 0.05 and size[14] < 0.05


def test_odds_are_those_of_the_two_distributions_and_bounded() -> None:
    from scipy.stats import norm

    yes, no = motion.TALKING_LEVEL, motion.STILL_LEVEL
    found = np.array([-4.9, -4.5, -4.0])
    expected = norm.logpdf(found, *yes) - norm.logpdf(found, *no)
    np.testing.assert_allclose(motion.odds(found, yes, no), expected, rtol=1e-9)
    far = motion.odds(np.array([-30.0, 5.0]), yes, no)
    assert far[0] == -far[1]
    assert motion.odds(np.linspace(-9, 0, 50), yes, no).tolist() == sorted(motion.odds(np.linspace(-9, 0, 50), yes, no))


def test_one_person_and_one_frame_are_enough() -> None:
    assert scores([face(TALKS)], SILENCE).shape == (1, len(TIMES_S))
    assert scores([face(TALKS[:1]), face(STILL[:1])], SILENCE, HEARD[:1]).shape == (2, 1)
