"""Turns of two open heads side by side in one shot, whose onsets are known: both backends, from the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.clock import frames_at, grid_times_s, seconds_of
from pipeline.weights import find_weights
from stages.faces.mesh import NUM_POINTS, face_boxes
from stages.faces.tracker import Tracker
from stages.speakers import lr_asd, motion
from stages.speakers.turns import HEARD, Settings, Turn, turns
from stages.speakers.voice import Voice, at_times
from tests.labs.duets import Duet, duet

PAIRS = (("tps", "studio"), ("retalk", "grid"), ("chat", "tps"))
TOLERANCE_S = 0.5  # from which an onset is missed
MEDIAN_S, F1 = 0.25, 0.9


@pytest.fixture(scope="module")
def duets(shared: Path) -> list[tuple[Duet, np.ndarray, np.ndarray]]:
    """Each with the landmarks of its heads (side, frame, 478, 3) and the probability of a voice (frame,)."""
    tracker = Tracker(min_detection=0.5, min_presence=0.9)
    voice = Voice(*find_weights("silero_vad").paths())
    found = []
    for seed, names in enumerate(PAIRS):
        made = duet(shared / "media/b_heads", names, seed)
        missing = np.full((NUM_POINTS, 3), np.nan, np.float32)
        landmarks = np.stack(
            [
                np.stack([missing if points is None else points for points in tracker.follow(tile)])
                for tile in made.tiles
            ]
        )
        found.append((made, landmarks, at_times(voice.probability(made.sound), grid_times_s(landmarks.shape[1]))))
    return found


def onset_errors_s(found: list[Turn], true: list[Turn]) -> list[float]:
    """How far the nearest onset of a turn of the same person lies from each that is."""
    return [
        min((float(seconds_of(abs(one.start - turn.start))) for one in found if one.person == turn.person), default=9.0)
        for turn in true
    ]


def check(scored: list[tuple[Duet, np.ndarray, np.ndarray]]) -> None:
    """Median error and F1 over all duets with scores (person, frame) and the probability of a voice."""
    errors, count = [], 0
    for made, scores, voice in scored:
        found = turns(scores.T, voice > HEARD, Settings())
        errors += onset_errors_s(found, made.turns)
        count += len(found)
    hits = sum(error <= TOLERANCE_S for error in errors)
    print(f"median {np.median(errors):.3f} s, F1 {2 * hits / (count + len(errors)):.3f} of {len(errors)} turns")
    assert np.median(errors) <= MEDIAN_S
    assert 2 * hits / (count + len(errors)) >= F1


@pytest.mark.shared
@pytest.mark.slow
def test_turns_of_two_heads_in_one_shot_are_found_by_the_motion_of_their_mouths(
    duets: list[tuple[Duet, np.ndarray, np.ndarray]],
) -> None:
    check(
        [
            (
                made,
                motion.speaking(np.array([motion.evidence(motion.mouth(p), made.sound) for p in points]), voice),
                voice,
            )
            for made, points, voice in duets
        ]
    )


@pytest.mark.shared
@pytest.mark.slow
def test_turns_of_two_heads_in_one_shot_are_found_by_lr_asd(
    duets: list[tuple[Duet, np.ndarray, np.ndarray]], shared: Path
) -> None:
    detector = lr_asd.LrAsd(shared / "models/lr_asd/finetuning_TalkSet.model")
    scored = []
    for made, landmarks, voice in duets[:1]:
        shown = frames_at(len(voice), lr_asd.FILM_HZ)
        scores = []
        for tile, points in zip(made.tiles, landmarks, strict=True):
            boxes = face_boxes(points, np.isfinite(points).all(axis=(1, 2)))
            found = detector.scores(lr_asd.crops(tile[shown], boxes[shown]), made.sound)
            scores.append(np.interp(grid_times_s(len(voice)), np.arange(len(found)) / lr_asd.FILM_HZ, found))
        scored.append((made, np.array(scores), voice))
    check(scored)
