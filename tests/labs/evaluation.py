"""Made-up clips with the inputs of every metric, for the tests of ``stages.evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from stages.evaluate.metrics.definition import Clip, Input, Quantity, Whose

WIDTHS = {Quantity.EXP: 12, Quantity.ANGLE: 3, Quantity.TRANS: 3, Quantity.IDENTITY: 10}
EMBEDDINGS = {Quantity.INCEPTION: 16, Quantity.ARCFACE: 8, Quantity.VGGFACE2: 8, Quantity.HOPENET: 8}
EMBEDDINGS[Quantity.SYNCNET] = 16  # half of what is seen, half of what is heard
SIDE_PX = 66
PARTS = {"pose": slice(0, 6), "exp": slice(6, 56), "all": slice(0, 56), "angle": slice(0, 3), "trans": slice(3, 6)}
People = dict[str, list[np.ndarray]]
Person = dict[Quantity, np.ndarray]


def golden_scores(shared: Path) -> Any:
    """What other people's programs made of `golden_clips`."""
    return json.loads((shared / "golden" / "metrics" / "dyadic.json").read_text())


def golden_clips(shared: Path) -> People:
    """Who (``pred``, ``gt``, ``spk``) -> coefficients (frame, 56) of the four golden clips."""
    arrays = np.load(shared / "golden" / "metrics" / "coeffs56.npz")
    return {who: [arrays[f"{who}_{k}"] for k in range(4)] for who in ("pred", "gt", "spk")}


def part_of(people: People, part: str) -> list[list[np.ndarray]]:
    return [[clip[:, PARTS[part]] for clip in clips] for clips in people.values()]


def wandering(rng: np.random.Generator, num_frames: int, width: int, keep: float = 0.9) -> np.ndarray:
    """AR(1): (frame, width), standard deviation 1, with correlation ``keep`` from frame to frame."""
    values = rng.standard_normal((num_frames, width))
    for frame in range(1, num_frames):
        values[frame] = keep * values[frame - 1] + np.sqrt(1 - keep**2) * values[frame]
    return values


def made_up_clip(rng: np.random.Generator, num_frames: int) -> Person:
    """Inputs of one person: coefficients, blinks, landmarks, pictures and embeddings."""
    clip = {what: wandering(rng, num_frames, width) for what, width in {**WIDTHS, **EMBEDDINGS}.items()}
    clip[Quantity.POSE] = np.hstack([clip[Quantity.ANGLE], clip[Quantity.TRANS]])
    for what, samples in ((Quantity.EXP, Quantity.EXP_SAMPLES), (Quantity.POSE, Quantity.POSE_SAMPLES)):
        clip[samples] = wandering(rng, num_frames, 3 * clip[what].shape[1]).reshape(num_frames, 3, -1)
    clip[Quantity.LANDMARKS] = rng.uniform(0, SIDE_PX, (num_frames, 478, 3))
    clip[Quantity.BLINK] = wandering(rng, num_frames, 1)[:, 0] > 1.3
    clip[Quantity.FRAMES] = rng.integers(40, 200, (num_frames, SIDE_PX, SIDE_PX, 3), np.uint8)
    return clip


def as_inputs(predicted: Person, reference: Person, speaker: Person) -> Clip:
    people = {Whose.PREDICTED: predicted, Whose.REFERENCE: reference, Whose.SPEAKER: speaker}
    return {Input(whose, what): values for whose, person in people.items() for what, values in person.items()}


def noisy(clip: Person, rng: np.random.Generator, level: float) -> Person:
    """The clip with noise on everything: standard deviation ``level`` where values have 1."""
    return {what: _noisy(values, rng, level) for what, values in clip.items()}


def _noisy(values: np.ndarray, rng: np.random.Generator, level: float) -> np.ndarray:
    if values.dtype == bool:
        return values ^ (rng.random(values.shape) < level / 10)
    noise = rng.standard_normal(values.shape)
    if values.dtype == np.uint8:
        return np.clip(values + 20 * level * noise, 0, 255).astype(np.uint8)
    return values + level * noise
