"""Stage ``spectrogram``: against librosa's mel spectrogram, tones and clicks of known place, and silence."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import FPS, HOP_SAMPLES, SAMPLE_RATE_HZ, Span
from pipeline.media.encode import read_wav, write_wav
from stages import spectrogram
from stages.spectrogram import FLOOR, Spectrogram

LONGEST_FRAMES = 400  # more rows than are computed at once

Samples = NDArray[np.float32]


def clip_of(folder: Path, samples: Samples) -> Clip:
    write_wav(folder / "audio.wav", samples)
    span = Span(Fraction(0), Fraction(len(samples) // HOP_SAMPLES, FPS))
    return Clip({"clip_id": "source_0_1", "audio": "audio.wav"}, span, folder / "source.mp4", folder, folder)


def log_mel(folder: Path, samples: Samples, **settings: float) -> NDArray[np.float32]:
    stage = Spectrogram(Spectrogram.Settings(**settings))
    stage.setup("cpu")
    clip = clip_of(folder, samples)
    values = stage.process(clip)
    (column,) = stage.writes()
    return column.check(values[column.name], clip.num_frames)


def noise(num_frames: int) -> Samples:
    """Bursts of white noise at about 4 Hz."""
    time_s = np.arange(num_frames * HOP_SAMPLES) / SAMPLE_RATE_HZ
    envelope = 0.02 + 0.3 * np.sin(2 * np.pi * 2.1 * time_s) ** 2
    drawn = envelope * np.random.default_rng(0).standard_normal(len(time_s))
    return np.clip(drawn, -1, 32767 / 32768).astype(np.float32)


@pytest.mark.parametrize("settings", [{}, {"mel_bins": 40, "max_hz": 20000.0}], ids=["default", "40 bands to 20 kHz"])
@pytest.mark.parametrize("num_frames", [1, 30, LONGEST_FRAMES])
def test_values_are_those_of_librosa(tmp_path: Path, num_frames: int, settings: dict[str, float]) -> None:
    found = log_mel(tmp_path, noise(num_frames), **settings)
    samples, _ = read_wav(tmp_path / "audio.wav")
    power = librosa.feature.melspectrogram(
        y=np.pad(samples, (490, 2048)).astype(np.float64),
        sr=44100,
        n_fft=2048,
        win_length=1102,
        hop_length=490,
        n_mels=int(settings.get("mel_bins", 64)),
        fmax=settings.get("max_hz", 8000),
        htk=True,
        norm=None,
    )
    rows = np.log(power.T[: 3 * num_frames] + 1e-6)
    np.testing.assert_allclose(found.reshape(rows.shape), rows, atol=1e-4)


def test_a_click_peaks_in_the_middle_row_of_its_frame_and_a_row_later_in_the_next(tmp_path: Path) -> None:
    samples = np.zeros(30 * HOP_SAMPLES, np.float32)
    samples[[7 * HOP_SAMPLES, 21 * HOP_SAMPLES + HOP_SAMPLES // 3]] = 0.5
    loudness = log_mel(tmp_path, samples).sum(axis=2).ravel()
    assert {*np.argsort(loudness)[-2:].tolist()} == {3 * 7 + 1, 3 * 21 + 2}


@pytest.mark.parametrize("hz", [100.0, 440.0, 1000.0, 4000.0])
def test_a_tone_is_loudest_in_the_band_whose_centre_is_nearest_on_the_mel_scale(tmp_path: Path, hz: float) -> None:
    samples = 0.5 * np.sin(2 * np.pi * hz * np.arange(30 * HOP_SAMPLES) / SAMPLE_RATE_HZ).astype(np.float32)
    centres = librosa.mel_frequencies(n_mels=66, fmin=0, fmax=8000, htk=True)[1:-1]
    nearest = np.abs(librosa.hz_to_mel(centres, htk=True) - librosa.hz_to_mel(hz, htk=True)).argmin()
    loudest = log_mel(tmp_path, samples)[2:-2].argmax(axis=2)
    assert (loudest == nearest).all()


def test_silence_reads_the_floor_and_the_rounding_of_16_bits_stays_below_it(tmp_path: Path) -> None:
    assert log_mel(tmp_path, np.zeros(2 * HOP_SAMPLES, np.float32)) == pytest.approx(np.log(FLOOR))
    rounding = np.random.default_rng(0).uniform(-0.5, 0.5, 30 * HOP_SAMPLES) / 2**15
    stage = Spectrogram()
    stage.setup("cpu")
    assert spectrogram.log_mel(rounding.astype(np.float32), stage._filters).mean() < np.log(2 * FLOOR)


def test_sound_of_another_length_than_the_clip_is_an_error_that_names_both(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, noise(3))
    write_wav(tmp_path / "audio.wav", noise(2))
    stage = Spectrogram()
    stage.setup("cpu")
    with pytest.raises(ValueError, match="must hold 4410 samples at 44100 Hz, found 2940 at 44100 Hz; .* --redo clip"):
        stage.process(clip)
