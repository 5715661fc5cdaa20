"""The baselines of the papers do what their definitions say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stages.train.listener import Batch
from stages.train.listeners.baselines import held, repeated
from tests.labs.trainer import listener, random_batch


def moves(name: str, batch: Batch, clips: list[Batch], seed: int = 0, **settings: object) -> torch.Tensor:
    """The predicted motion relative to the reference."""
    model = listener(name, **settings)
    model.remember(clips)
    return model.predict(batch, torch.Generator().manual_seed(seed)).motion - batch.reference[:, None]


def memories(count: int = 6, frames: int = 64) -> list[Batch]:
    """Training clips of one batch each; the i-th has attitude i % 3."""
    clips = [random_batch(clips=1, frames=frames, seed=10 + i) for i in range(count)]
    return [replace(clip, attitude=torch.tensor([i % 3])) for i, clip in enumerate(clips)]


def since_start(motion: torch.Tensor) -> torch.Tensor:
    return motion - motion[:, :1]


def test_random_is_noise_of_the_wanted_size_about_the_reference() -> None:
    noise = moves("random", random_batch(clips=1, frames=1000), [], noise=0.5)[0, 1:]
    assert noise.std() == pytest.approx(0.5, rel=0.01) and abs(noise.mean()) < 0.01
    after = (noise[1:] * noise[:-1]).mean() / noise.var()
    assert abs(after) < 0.02  # a frame knows nothing of the one before


def drawn(name: str, attitude: int) -> set[int]:
    """Which training clips are repeated, of 20 draws."""
    clips, batch = memories(), replace(random_batch(clips=1, frames=64), attitude=torch.tensor([attitude]))
    known = torch.cat([since_start(clip.listener) for clip in clips])
    distances = [(known - moves(name, batch, clips, seed)).abs().amax(dim=(1, 2)) for seed in range(20)]
    assert all(distance.min() < 1e-5 for distance in distances)
    return {int(distance.argmin()) for distance in distances}


def test_simulation_repeats_the_motion_of_some_training_clip() -> None:
    assert len(drawn("simulation", 0)) > 3


@pytest.mark.parametrize("attitude", [0, 1, 2])
def test_simulation_attitude_draws_among_clips_of_the_same_attitude(attitude: int) -> None:
    assert drawn("simulation_attitude", attitude) == {attitude, attitude + 3}


def test_simulation_as_published_repeats_the_coefficients_themselves() -> None:
    clips, batch = memories(), random_batch(clips=1, frames=64)
    said = moves("simulation", batch, clips, relative=False) + batch.reference[:, None]
    assert min(float((said - clip.listener).abs().max()) for clip in clips) < 1e-5


def test_mirror_moves_as_the_speaker_does() -> None:
    batch = random_batch()
    torch.testing.assert_close(moves("mirror", batch, []), since_start(batch.speaker))
    copied = moves("mirror", batch, [], relative=False) + batch.reference[:, None]
    torch.testing.assert_close(copied, batch.speaker)


@pytest.mark.parametrize(("name", "key"), [("nn_motion", "speaker"), ("nn_audio", "audio")])
def test_the_nearest_speaker_or_sound_brings_its_listener(name: str, key: str) -> None:
    """The clip's second segment is a noisy copy of a training clip's: that one's listener is taken over."""
    clips, batch = memories(), random_batch(clips=1, frames=100)
    values = getattr(batch, key).clone()
    values[:, 64:] = getattr(clips[4], key)[:, :36] + 0.1 * values[:, 64:]
    if key == "speaker":
        values[:, 64:] += values[:, :1] - values[:, 64:65]  # compared are motions since a clip's first frame
    found = moves(name, replace(batch, **{key: values}), clips)
    torch.testing.assert_close(found[:, 64:], since_start(clips[4].listener)[:, :36])


@pytest.mark.parametrize(("name", "key"), [("nn_motion", "speaker"), ("nn_audio", "audio")])
def test_the_nearest_as_published_brings_the_coefficients_themselves(name: str, key: str) -> None:
    clips, batch = memories(), random_batch(clips=1, frames=64)
    near = getattr(clips[4], key) + 0.1 * getattr(batch, key)  # no motion since a first frame, which differs
    said = moves(name, replace(batch, **{key: near}), clips, relative=False) + batch.reference[:, None]
    torch.testing.assert_close(said, clips[4].listener)


def test_a_pattern_that_is_too_short_runs_back_and_forth() -> None:
    assert repeated(torch.arange(4.0)[:, None], 9).flatten().tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert repeated(torch.ones(1, 2), 3).shape == (3, 2)


def test_an_unknown_frame_repeats_the_last_known_one() -> None:
    known = torch.tensor([False, False, True, False, True, False])
    assert held(torch.arange(6), known).tolist() == [2, 2, 2, 2, 4, 4]
