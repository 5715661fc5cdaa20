"""Voice activity against Silero's own program, which its package carries as TorchScript."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.weights import find_weights
from stages.speakers.voice import CHUNK_SAMPLES, WARMING_CHUNKS, Network, Voice, at_times


@pytest.fixture(scope="module")
def voice() -> Voice:
    return Voice(*find_weights("silero_vad").paths())


def spoken(shared: Path) -> np.ndarray:
    return np.load(shared / "golden/asd/cte53x3i02lo.npz")["sound"] / np.float32(32_768)


@pytest.fixture(scope="module")
def theirs() -> torch.jit.ScriptModule:
    """Silero's own program, with the weights of another training than those of the package's safetensors."""
    spec = importlib.util.find_spec("silero_vad")
    assert spec is not None and spec.submodule_search_locations
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return torch.jit.load(Path(spec.submodule_search_locations[0]) / "data/silero_vad.jit").eval()


def their_probability(theirs: torch.jit.ScriptModule, sound: np.ndarray) -> np.ndarray:
    whole = np.pad(sound, (0, -len(sound) % CHUNK_SAMPLES)).astype(np.float32)
    theirs.reset_states()
    with torch.inference_mode():
        chunks = torch.from_numpy(whole.reshape(-1, 1, CHUNK_SAMPLES))
        for chunk in chunks[:WARMING_CHUNKS]:
            theirs(chunk, 16_000)
        return np.array([float(theirs(chunk, 16_000)) for chunk in chunks])


@pytest.mark.shared
def test_with_the_weights_of_sileros_own_program_the_network_answers_as_it_does(
    voice: Voice, theirs: torch.jit.ScriptModule, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = theirs.state_dict()
    ours = {"stft_conv.weight": state["_model.stft.forward_basis_buffer"]}
    for part in ("weight", "bias"):
        ours |= {f"conv{k + 1}.{part}": state[f"_model.encoder.{k}.reparam_conv.{part}"] for k in range(4)}
        ours |= {f"lstm_cell.{part}_{end}": state[f"_model.decoder.rnn.{part}_{end}"] for end in ("ih", "hh")}
        ours[f"final_conv.{part}"] = state[f"_model.decoder.decoder.2.{part}"]
    network = Network()
    network.load_state_dict(ours)
    monkeypatch.setattr(voice, "network", network.eval())
    monkeypatch.setattr("stages.speakers.voice.CHUNKS_AT_ONCE", 40)  # what is remembered goes from batch to batch
    expected = their_probability(theirs, spoken(shared))
    assert expected.max() > 0.9
    np.testing.assert_allclose(voice.probability(spoken(shared)), expected, rtol=0, atol=1e-5)


@pytest.mark.shared
def test_the_weights_of_the_package_find_a_voice_where_sileros_own_program_does(
    voice: Voice, theirs: torch.jit.ScriptModule, shared: Path
) -> None:
    found, expected = voice.probability(spoken(shared)), their_probability(theirs, spoken(shared))
    assert ((found > 0.5) == (expected > 0.5)).mean() >= 0.9
    assert (expected > 0.5).mean() > 0.1


def test_neither_silence_nor_noise_nor_a_tone_is_a_voice(voice: Voice) -> None:
    times_s = np.arange(32_000) / 16_000
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000)
    for sound in (np.zeros(32_000), noise, 0.3 * np.sin(2 * np.pi * 440 * times_s)):
        assert (voice.probability(sound)[16:] < 0.5).all()  # after half a second


def test_a_time_has_the_probability_of_its_chunk_and_none_beyond_the_sound() -> None:
    found = at_times(np.array([0.2, 0.8], np.float32), np.array([-0.01, 0.0, 0.031, 0.033, 0.063, 0.065]))
    np.testing.assert_allclose(found, [0, 0.2, 0.2, 0.8, 0.8, 0], rtol=1e-6)


def test_no_sound_at_all_is_no_chunk(voice: Voice) -> None:
    assert len(voice.probability(np.zeros(0))) == 0
