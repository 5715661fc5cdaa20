"""The script of the demo: who sits where, who speaks when, and what every head does in every frame.

Everything here is a function of time and a seed, so what is drawn (`jobs.demo.film`) and what is told of it
(`jobs.demo.truth`) cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from jobs.demo.faces import Expression
from jobs.demo.head import Pose
from jobs.demo.sound import Syllable, mouth_opening, pauses, speak
from pipeline.clock import SAMPLE_RATE_HZ, Span, frames_in
from schemas.clip import SIDES

MOUTH_STEPS = 24  # openings of a speaking mouth are drawn in this many steps, each drawn once and kept
SETTLE_STEPS = 6  # likewise for a listener's face ...
SETTLE_S = 0.5  # ... which takes this long to find its expression
BLINK_RAMP = 0.25  # closure in the one frame before and after a blink: lids half-way down would be nobody's truth
BLINK_MARGIN_S = 0.4  # no blink begins this close to a clip's ends
LEAD_S = 0.2  # nobody speaks this close to a clip's ends
CLICK_PAUSE_S = 0.2  # shorter pauses get no click
PITCH_HZ = {"ada": 205.0, "bea": 180.0, "cleo": 165.0, "dora": 225.0}
SMILE = 0.25  # opening of a mouth that smiles with teeth
SWAY = Pose(right_px=7, down_px=4, roll_rad=0.035, scale=0.015, nod_rad=0.03, turn_rad=0.06)  # amplitudes about rest
SWAY_HZ = (0.41, 0.17)
SWINGS = {  # gestures of a listener by attitude: start and length in seconds of the turn, frequency in Hz
    "positive": ((0.6, 1.2, 1.8), (2.1, 0.9, 2.2)),  # nods
    "negative": ((0.9, 1.8, 1.4),),  # shakes
    "neutral": (),
}
NOD_RAD, NOD_PX, SHAKE_RAD = 0.16, 6.0, 0.24  # amplitudes of those gestures


@dataclass(frozen=True)
class Turn:
    """A clip of the demo: one person speaks, the other listens with an attitude."""

    span: Span
    speaker_side: str
    attitude: str
    split: str

    def role(self, side: str) -> str:
        return "speaker" if side == self.speaker_side else "listener"


@dataclass(frozen=True)
class Scene:
    """A source video: a split screen of two people. At ``cut_s``, if any, the two panels change places."""

    source_id: str
    file: str
    frame_rate: Fraction
    sample_rate_hz: int
    duration_s: Fraction
    people: tuple[str, str]  # left, right
    turns: tuple[Turn, ...]
    seed: int
    cut_s: Fraction | None = None

    @property
    def num_frames(self) -> int:
        return int(self.duration_s * self.frame_rate)

    def person(self, side: str) -> str:
        return self.people[SIDES.index(side)]

    def swapped(self, frame: int) -> bool:
        """Whether the panels have changed places in a source frame."""
        return self.cut_s is not None and frame / self.frame_rate >= self.cut_s

    def turn_at(self, time_s: float) -> Turn:
        """The turn under way; the first also covers what comes before it, each lasts until the next begins."""
        begun = [turn for turn in self.turns if turn.span.start_s <= time_s]
        return begun[-1] if begun else self.turns[0]

    @cached_property
    def syllables(self) -> list[Syllable]:
        """All that is spoken."""
        rng = np.random.default_rng(self.seed)
        spoken: list[Syllable] = []
        for turn in self.turns:
            start_s, end_s = float(turn.span.start_s) + LEAD_S, float(turn.span.end_s) - LEAD_S
            spoken += speak(start_s, end_s, PITCH_HZ[self.person(turn.speaker_side)], rng)
        return spoken

    def pauses(self, turn: Turn) -> list[tuple[float, float]]:
        """Spans of silence within a turn, in seconds of the source."""
        start_s, end_s = float(turn.span.start_s), float(turn.span.end_s)
        return pauses([s for s in self.syllables if start_s <= s.start_s < end_s], start_s, end_s)

    def click_frames(self, turn: Turn) -> list[int]:
        """Grid frames of a turn's clip on which a click falls: the middle of every pause between two phrases."""
        between = [(a, b) for a, b in self.pauses(turn)[1:-1] if b - a > CLICK_PAUSE_S]
        return [round(frames_in((a + b) / 2 - float(turn.span.start_s))) for a, b in between]

    def clicks(self) -> list[Fraction]:
        """Times of all clicks, in seconds of the source."""
        return [turn.span.frame_time(frame) for turn in self.turns for frame in self.click_frames(turn)]


@dataclass(frozen=True)
class Moment:
    """One person in one frame of a source."""

    expression: Expression
    pose: Pose


def perform(scene: Scene, side: str) -> list[Moment]:
    """What the person who begins on one side does, a moment a source frame."""
    rng = np.random.default_rng((scene.seed, SIDES.index(side)))
    lids = _blinks(scene, rng)
    phases = rng.uniform(0, 2 * np.pi, (6, len(SWAY_HZ)))
    times_s = [float(frame / scene.frame_rate) for frame in range(scene.num_frames)]
    return [
        Moment(_expression(scene, side, time_s, closure), _pose(scene, side, time_s, phases))
        for time_s, closure in zip(times_s, lids, strict=True)
    ]


def _blinks(scene: Scene, rng: np.random.Generator) -> list[float]:
    """Closure of the lids in every source frame."""
    lids = [0.0] * scene.num_frames
    edges_s = [float(edge) for turn in scene.turns for edge in (turn.span.start_s, turn.span.end_s)]
    edges_s += [float(scene.cut_s)] if scene.cut_s is not None else []
    now_s = 0.0
    while (now_s := now_s + float(rng.uniform(0.9, 1.9))) < scene.duration_s - 1:
        first, length = round(now_s * scene.frame_rate), int(rng.integers(3, 6))
        if min(abs(now_s - edge) for edge in edges_s) > BLINK_MARGIN_S:
            lids[first - 1 : first + length + 1] = [BLINK_RAMP, *[1.0] * length, BLINK_RAMP]
    return lids


def _expression(scene: Scene, side: str, time_s: float, closure: float) -> Expression:
    turn = scene.turn_at(time_s)
    if turn.role(side) == "speaker":
        return Expression(closure, round(mouth_opening(scene.syllables, time_s) * MOUTH_STEPS) / MOUTH_STEPS)
    settled = min(max(time_s - float(turn.span.start_s), 0) / SETTLE_S, 1)
    settled = round(settled * SETTLE_STEPS) / SETTLE_STEPS
    return Expression(closure, SMILE * settled * (turn.attitude == "positive"), settled * (turn.attitude == "negative"))


def _pose(scene: Scene, side: str, time_s: float, phases: np.ndarray) -> Pose:
    """Slow sway of everybody, nods of a pleased listener, shakes of a displeased one."""
    waves = np.sin(2 * np.pi * np.array(SWAY_HZ) * time_s + phases)  # (degree of freedom, wave)
    right, down, roll, scale, nod, turning = (waves @ (0.6, 0.4)).tolist()
    turn = scene.turn_at(time_s)
    swing = _swing(turn, time_s) if turn.role(side) == "listener" else 0.0
    nodding = swing if turn.attitude == "positive" else 0.0
    shaking = swing if turn.attitude == "negative" else 0.0
    return Pose(
        right_px=SWAY.right_px * right,
        down_px=SWAY.down_px * down + NOD_PX * nodding,
        roll_rad=SWAY.roll_rad * roll,
        scale=1 + SWAY.scale * scale,
        nod_rad=SWAY.nod_rad * nod + NOD_RAD * nodding,
        turn_rad=SWAY.turn_rad * turning + SHAKE_RAD * shaking,
    )


def _swing(turn: Turn, time_s: float) -> float:
    """A listener's gesture at a time, -1..1: a few swings that swell and fade."""
    since_s = time_s - float(turn.span.start_s)
    return sum(
        float(np.sin(np.pi * (since_s - start_s) / length_s) ** 2 * np.sin(2 * np.pi * hz * (since_s - start_s)))
        for start_s, length_s, hz in SWINGS[turn.attitude]
        if start_s < since_s < start_s + length_s
    )


def _turn(start_s: str, end_s: str, speaker_side: str, attitude: str, split: str) -> Turn:
    return Turn(Span(Fraction(start_s), Fraction(end_s)), speaker_side, attitude, split)


# Spans start off the sources' own frames, so that "nearest frame" has one answer for every instant of the grid.
SCENES = (
    Scene(
        source_id="interview",
        file="interview.mkv",
        frame_rate=Fraction(30000, 1001),
        sample_rate_hz=SAMPLE_RATE_HZ,
        duration_s=Fraction(12),
        people=("ada", "bea"),
        turns=(
            _turn("0.41", "4", "left", "positive", "train"),
            _turn("4.21", "8", "right", "neutral", "train"),
            _turn("8.21", "11.6", "left", "negative", "test"),
        ),
        seed=1,
    ),
    Scene(
        source_id="call",
        file="call.mp4",
        frame_rate=Fraction(25),
        sample_rate_hz=48_000,
        duration_s=Fraction(10),
        people=("cleo", "dora"),
        turns=(
            _turn("0.41", "3.5", "right", "positive", "ood"),
            _turn("3.71", "7", "left", "negative", "ood"),
            _turn("7.21", "9.8", "right", "neutral", "ood"),  # crosses the cut: must be rejected
        ),
        seed=2,
        cut_s=Fraction("8.4"),
    ),
)
