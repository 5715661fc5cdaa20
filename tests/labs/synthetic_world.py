"""A small world with a known rule, as a data set in shards: what a listener model that learns must find out.

A speaker says words, long and short ones, and pauses. The listener

* nods in the pauses: the pitch of the head dips a few times, from some moment after the word on;
* smiles when the attitude is positive and frowns when it is negative, more so in pauses;
* blinks some moment after a long word.

Whether and when exactly, how deep and how fast cannot be known from the speaker: `World.listen` draws it, and drawing
again with the same speaker gives the spread that the truth has. Every person has a face and a posture of their own;
faces differ in `FACES` ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.clock import frames_in, seconds_of
from pipeline.dataset.write import write_dataset
from pipeline.stage import Stage
from schemas.clip import ATTITUDES, SPLITS
from schemas.dataset import RANDOM, Maker
from stages.acoustic import Acoustic
from stages.blink import Blink
from stages.text import Text
from stages.threedmm import ThreeDMM
from tests.labs.evaluation import wandering
from tests.labs.predictions import facts

STAGES: dict[str, Stage] = {"threedmm": ThreeDMM(), "acoustic": Acoustic(), "blink": Blink(), "text": Text()}
COLUMNS = [column for stage in STAGES.values() for column in stage.writes()]
TYPES = {name: tuple((column.name, str(column.arrow_type)) for column in s.writes()) for name, s in STAGES.items()}
FITTER = {"fitter": "synthetic world"}
MAKERS = {name: Maker(name, stage.version, FITTER, writes=TYPES[name]) for name, stage in STAGES.items()}

FACES = 2
VOCABULARY = 24  # words; the second half of them are long
SMILE, EYELIDS, MOUTH = slice(0, 8), slice(8, 12), slice(12, 16)  # expression coefficients that do these
SMILE_OF = {"positive": 1.0, "neutral": 0.0, "negative": -0.6}
BLINK_FRAMES = 5
PITCH = 0  # of the angles; positive looks down


@dataclass(frozen=True)
class Person:
    """A face at rest and how deeply this person nods, in rad."""

    identity: np.ndarray  # (80,)
    exp: np.ndarray  # (64,)
    angle: np.ndarray  # (3,)
    trans: np.ndarray  # (3,)
    nod_rad: float


@dataclass(frozen=True)
class Speech:
    """Which word is said in a frame, -1 in pauses; and the words: (vocabulary, first frame, frame after the last)."""

    word: np.ndarray
    words: list[tuple[int, int, int]]
    pauses: list[tuple[int, int]]  # between phrases; not the gaps between words


@dataclass(frozen=True)
class Motion:
    """What a person does: (frame, 64), (frame, 3), (frame, 3), (frame,)."""

    exp: np.ndarray
    angle: np.ndarray
    trans: np.ndarray
    closed: np.ndarray

    def joined(self) -> np.ndarray:
        """(frame, 70) in the order ``paper70``."""
        return np.concatenate([self.exp, self.angle, self.trans], axis=1)


@dataclass(frozen=True)
class WorldClip:
    """A clip of the world: who, how, and the speaker; the listener's motion is drawn by `World.listen`."""

    clip_id: str
    split: str
    attitude: str
    speaker: int
    listener: int
    speech: Speech


@dataclass(frozen=True)
class World:
    """Settings and persons of a world; the same settings make the same world.

    ``clips`` is the number of clips in each split; in ``ood`` both people are new. There are so many clips because
    few can be learned by heart: from 120 of 40 people `vico_lstm` told the clip by the faces.
    """

    clips: dict[str, int] = field(default_factory=lambda: {"train": 480, "val": 12, "test": 9, "ood": 9})
    seconds: tuple[float, float] = (4.0, 5.5)
    people: int = 80
    new_people: int = 8
    seed: int = 0

    @cached_property
    def persons(self) -> list[Person]:
        """Those of train, val and test, then the new ones."""
        rng = np.random.default_rng([self.seed, 1])
        mix = rng.normal(size=(80 + 70, FACES)) / np.sqrt(FACES)
        return [self._person(rng, mix) for _ in range(self.people + self.new_people)]

    def _person(self, rng: np.random.Generator, mix: np.ndarray) -> Person:
        identity, rest = np.split(mix @ rng.normal(size=FACES), [80])
        return Person(identity, 0.3 * rest[:64], 0.06 * rest[64:67], 0.1 * rest[67:], rng.uniform(0.1, 0.16))

    def list_clips(self) -> Iterator[WorldClip]:
        """All clips of all splits, the attitudes in turn."""
        for split in SPLITS:
            for number in range(self.clips.get(split, 0)):
                rng = np.random.default_rng([self.seed, 2, SPLITS.index(split), number])
                known = (0, self.people) if split != "ood" else (self.people, self.people + self.new_people)
                speaker, listener = rng.choice(np.arange(*known), 2, replace=False)
                speech = draw_speech(rng, int(frames_in(rng.uniform(*self.seconds))))
                attitude = ATTITUDES[number % len(ATTITUDES)]
                yield WorldClip(f"{split}_{number:03d}", split, attitude, int(speaker), int(listener), speech)

    def listen(self, clip: WorldClip, draw: int = 0) -> Motion:
        """One way in which the clip's listener may have behaved; draw 0 is the one in the shards."""
        rng = np.random.default_rng([self.seed, 3, SPLITS.index(clip.split), int(clip.clip_id[-3:]), draw])
        return draw_listener(rng, clip.speech, self.persons[clip.listener], clip.attitude)

    def write(self, root: Path) -> Path:
        rows = [self._row(clip) for clip in self.list_clips()]
        write_dataset(root, rows, COLUMNS, name="synthetic_world", kind=RANDOM, stages=MAKERS, identity=self.seed)
        return root

    def _row(self, clip: WorldClip) -> dict[str, object]:
        rng = np.random.default_rng([self.seed, 4, SPLITS.index(clip.split), int(clip.clip_id[-3:])])
        persons, frames = self.persons, len(clip.speech.word)
        people = {"speaker_id": f"person_{clip.speaker}", "listener_id": f"person_{clip.listener}"}
        said = {"attitude": clip.attitude, "split": clip.split, "source_id": clip.clip_id, **people}
        row = facts(clip.clip_id, frames, **said) | {"acoustic": draw_acoustic(rng, clip.speech), **_text(clip.speech)}
        speaker = (clip.speaker, draw_speaker(rng, clip.speech, persons[clip.speaker]))
        for role, (person, motion) in {"speaker": speaker, "listener": (clip.listener, self.listen(clip))}.items():
            row[f"{role}_exp"], row[f"{role}_angle"], row[f"{role}_trans"] = motion.exp, motion.angle, motion.trans
            row[f"{role}_blink"] = motion.closed
            row[f"{role}_eye_aspect_ratio"] = np.repeat(0.3 - 0.2 * motion.closed[:, None], 2, axis=1)
            row[f"{role}_identity"] = persons[person].identity
            row[f"{role}_crop"] = np.tile([1.0, 112.0, 112.0], (frames, 1))
            row[f"{role}_coeffs_valid"] = np.ones(frames, bool)
        return row


def draw_speech(rng: np.random.Generator, frames: int) -> Speech:
    """Phrases of two to five words with pauses of .7 to 1.8 s between them."""
    word, words, pauses = np.full(frames, -1), [], []
    at = int(rng.integers(0, 10))
    while at < frames:
        for _ in range(rng.integers(2, 6)):
            spoken = int(rng.integers(VOCABULARY))
            length = int(rng.integers(15, 22) if spoken >= VOCABULARY // 2 else rng.integers(6, 11))
            end = min(at + length, frames)
            if at < end:
                word[at:end] = spoken
                words.append((spoken, at, end))
            at += length + int(rng.integers(2, 4))
        pause = int(frames_in(rng.uniform(0.7, 1.8)))
        if at < frames:
            pauses.append((at, min(at + pause, frames)))
        at += pause
    return Speech(word, words, pauses)


def draw_listener(rng: np.random.Generator, speech: Speech, person: Person, attitude: str) -> Motion:
    """The rule of the world, with all that cannot be known beforehand."""
    frames = len(speech.word)
    pausing = np.zeros(frames)
    for start, end in speech.pauses:
        pausing[start:end] = 1
    exp = person.exp + 0.04 * wandering(rng, frames, 64)
    angle = person.angle + 0.008 * wandering(rng, frames, 3)
    smile = SMILE_OF[attitude] * np.exp(0.25 * rng.normal()) * _slowly(0.4 + 0.6 * pausing, 0.4)
    exp[:, SMILE] += smile[:, None]
    for start, end in speech.pauses:
        angle[:, PITCH] += person.nod_rad * _nod(rng, frames, start, end)
    closed = np.zeros(frames, bool)
    for spoken, _, end in speech.words:
        blink = end + int(frames_in(rng.uniform(0.1, 0.3)))
        if spoken >= VOCABULARY // 2 and rng.random() < 0.9:
            closed[blink : blink + BLINK_FRAMES] = True
    exp[:, EYELIDS] -= 1.2 * _slowly(closed.astype(float), 0.03)[:, None]
    return Motion(exp, angle, person.trans + 0.01 * wandering(rng, frames, 3), closed)


def _nod(rng: np.random.Generator, frames: int, start: int, end: int) -> np.ndarray:
    """Dips (frame,) of depth about 1 in a pause, 1.3 to 1.9 a second, or none."""
    onset = start + frames_in(rng.uniform(0.1, 0.4))
    frames_a_dip = frames_in(1) / rng.uniform(1.3, 1.9)
    depth = np.exp(0.3 * rng.normal()) * (rng.random() < 0.85)
    dips = max((end - onset) // frames_a_dip, 1)
    phase = (np.arange(frames) - onset) / frames_a_dip
    return np.where((phase > 0) & (phase < dips), depth * (1 - np.cos(2 * np.pi * phase)) / 2, 0)


def draw_speaker(rng: np.random.Generator, speech: Speech, person: Person) -> Motion:
    """Mouth and head move while words are said."""
    frames = len(speech.word)
    voiced = _slowly((speech.word >= 0).astype(float), 0.05)
    exp = person.exp + 0.04 * wandering(rng, frames, 64)
    exp[:, MOUTH] += (voiced * (1 + np.sin(2 * np.pi * 4 * np.arange(frames) / frames_in(1))))[:, None]
    angle = person.angle + 0.06 * wandering(rng, frames, 3, keep=0.95) * (0.3 + voiced[:, None])
    trans = person.trans + 0.05 * wandering(rng, frames, 3, keep=0.95)
    return Motion(exp, angle, trans, rng.random(frames) < 0.02)


def draw_acoustic(rng: np.random.Generator, speech: Speech) -> np.ndarray:
    """(frame, 45): a sound for every word of the vocabulary, near silence in pauses."""
    sounds = np.random.default_rng(5).normal(size=(VOCABULARY, 45))
    sounds[:, -1] = 2.0  # loudness
    heard = np.where(speech.word[:, None] >= 0, sounds[speech.word], 0)
    return heard + 0.3 * rng.normal(size=heard.shape)


def _text(speech: Speech) -> dict[str, object]:
    vectors = np.random.default_rng(6).normal(size=(VOCABULARY, 384)) * 0.3
    token = np.full(len(speech.word), -1, np.int32)
    for number, (_, start, end) in enumerate(speech.words):
        token[start:end] = number
    return {
        "token_embedding": vectors[[spoken for spoken, _, _ in speech.words]],
        "token_text": [f"word{spoken}" for spoken, _, _ in speech.words],
        "token_start_s": np.array([float(seconds_of(start)) for _, start, _ in speech.words]),
        "token_end_s": np.array([float(seconds_of(end)) for _, _, end in speech.words]),
        "frame_token": token,
    }


def _slowly(wanted: np.ndarray, time_s: float) -> np.ndarray:
    """(frame,) that follows what is wanted with a time constant, from zero on."""
    values, share = np.zeros(len(wanted)), 1 - np.exp(-1 / frames_in(time_s))
    for frame in range(1, len(wanted)):
        values[frame] = values[frame - 1] + share * (wanted[frame] - values[frame - 1])
    return values
