"""Stage ``acoustic``: against librosa, pyloudnorm, ffmpeg, the released script's own numbers, and laws of the clock."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.clip import Clip
from pipeline.clock import FPS, HOP_SAMPLES, SAMPLE_RATE_HZ, Span
from pipeline.settings import resolve
from schemas.errors import UserError
from stages.acoustic import CODE, PAPER, Acoustic
from stages.acoustics import vico45_code, vico45_paper
from stages.acoustics.mel import mel_filters

C0, ENERGY, LOUDNESS = 0, 42, 44  # columns of vico45-paper
WHOLE_RMS = 40  # column of vico45-code

Samples = NDArray[np.float32]


class Golden(NamedTuple):
    """3 s of real speech, and what other programs made of it."""

    sound: Samples
    script: NDArray[np.float64]  # (92, 45) by the released script: 90 frames and two of silence
    whole: dict[str, NDArray[np.floating]]


@pytest.fixture(scope="module", params=["seg0", "seg1"])  # one stereo, one mono
def golden(request: pytest.FixtureRequest, shared: Path) -> Golden:
    folder, segment = shared / "golden" / "acoustic", request.param
    with wave.open(str(folder / f"{segment}.wav")) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
    sound = (pcm / np.float32(2**15)).mean(axis=1, dtype=np.float32)
    whole = {k.removeprefix(f"{segment}_"): v for k, v in np.load(folder / "whole_signal.npz").items() if segment in k}
    return Golden(sound, np.load(folder / f"{segment}_vico45.npz")["vico45"], whole)


def babble(num_frames: int, seed: int = 0) -> Samples:
    """Coloured noise with syllables at about 4 Hz and a gliding tone: not silent, not stationary."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(num_frames * HOP_SAMPLES) / SAMPLE_RATE_HZ
    envelope = 0.05 + np.sin(2 * np.pi * 2.1 * time_s) ** 2
    tone = np.sin(2 * np.pi * (140 * time_s + 30 * np.sin(time_s)))
    return (envelope * (0.1 * tone + 0.02 * rng.standard_normal(len(time_s)))).astype(np.float32)


def paper(samples: Samples, width_frames: int = 9, weighting: str = "K-weighting") -> NDArray[np.float32]:
    return vico45_paper.features(samples, width_frames, weighting)


def clicks(times_s: list[Fraction], num_frames: int, source_rate_hz: int) -> Samples:
    """One-sample clicks in a source of that rate, resampled to the clip's rate as the clip stage does."""
    import soxr

    source = np.zeros(num_frames * source_rate_hz // FPS, np.float32)
    source[[round(time_s * source_rate_hz) for time_s in times_s]] = 0.9
    sound = soxr.resample(source, source_rate_hz, SAMPLE_RATE_HZ)
    return np.resize(np.pad(sound, (0, HOP_SAMPLES)), num_frames * HOP_SAMPLES)


def peak_row(column: NDArray[np.floating], around: int) -> int:
    """The highest row within 7 of the given one."""
    return around - 7 + int(column[around - 7 : around + 8].argmax())


def write_clip(folder: Path, samples: Samples, num_frames: int) -> Clip:
    with wave.open(str(folder / "audio.wav"), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, len(samples), "NONE", ""))
        file.writeframes((samples * 2**15).astype("<i2").tobytes())
    span = Span(Fraction(0), Fraction(num_frames, FPS))
    values = {"clip_id": "source_0_1", "num_frames": num_frames, "audio": "audio.wav"}
    return Clip(values, span, folder / "source.mp4", folder, folder / "scratch")


def test_paper_features_are_those_of_librosa() -> None:
    import librosa

    sound = babble(40)
    mfcc = librosa.feature.mfcc(y=sound, sr=44100, n_mfcc=14, hop_length=1470)[:, :40]
    expected = [
        mfcc,
        librosa.feature.delta(mfcc),
        librosa.feature.delta(mfcc, order=2),
        librosa.feature.rms(y=sound, hop_length=1470)[:, :40],
        librosa.feature.zero_crossing_rate(sound, hop_length=1470)[:, :40],
    ]
    np.testing.assert_allclose(paper(sound)[:, :LOUDNESS], np.concatenate(expected).T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("bands", "rate_hz", "fft_samples"), [(128, 44_100, 2048), (80, 16_000, 400)])
def test_mel_bands_are_those_of_librosa_to_the_last_bit(bands: int, rate_hz: int, fft_samples: int) -> None:
    from librosa.filters import mel

    np.testing.assert_array_equal(
        mel_filters(bands, rate_hz, fft_samples), mel(sr=rate_hz, n_fft=fft_samples, n_mels=bands)
    )


@pytest.mark.parametrize("num_frames", [2, 9, 31, 150])
def test_paper_cepstra_energy_and_crossings_are_librosas_to_the_last_bit(num_frames: int) -> None:
    from librosa.feature import mfcc, rms, zero_crossing_rate

    sound = babble(num_frames)
    sound[::7] = -1e-11  # counts as zero, which is positive
    expected = mfcc(y=sound, sr=44100, n_mfcc=14, hop_length=1470), rms(y=sound, hop_length=1470)
    rows, crossings = paper(sound), zero_crossing_rate(sound, hop_length=1470)
    np.testing.assert_array_equal(rows[:, :14], expected[0].T[:num_frames])
    np.testing.assert_array_equal(rows[:, ENERGY], expected[1][0, :num_frames])
    np.testing.assert_array_equal(rows[:, ENERGY + 1], crossings[0, :num_frames].astype(np.float32))


@pytest.mark.parametrize("weighting", ["K-weighting", "DeMan"])
def test_paper_loudness_is_pyloudnorm_over_the_400_ms_around_the_frame(weighting: str) -> None:
    import pyloudnorm

    sound = babble(40).astype(np.float64)
    meter = pyloudnorm.Meter(SAMPLE_RATE_HZ, filter_class=weighting)
    for frame in (6, 17, 34):  # a frame at a time, from the clip's start, so that the filter has seen the same past
        end = frame * HOP_SAMPLES + 8820
        meter.integrated_loudness(sound[end % 4410 : end])  # its 100 ms steps then end where we want
        expected = meter.blockwise_loudness[-1]
        assert paper(sound.astype(np.float32), weighting=weighting)[frame, LOUDNESS] == pytest.approx(
            expected, abs=0.01
        )


@pytest.mark.shared
def test_paper_features_of_real_speech_are_those_of_librosa_pyloudnorm_and_ffmpeg(golden: Golden) -> None:
    whole, rows = golden.whole, paper(golden.sound)
    np.testing.assert_allclose(rows[:, :14], whole["mfcc14_a"].T[:90], atol=2e-3)
    np.testing.assert_allclose(rows[:, 42], whole["rms"][:90], atol=1e-6)
    np.testing.assert_allclose(rows[:, 43], whole["zcr"][:90], atol=1e-7)
    full_blocks = rows[6:85, LOUDNESS]  # golden block j starts at frame j: it is centred 6 frames later
    np.testing.assert_allclose(full_blocks, whole["momentary30fps_mono_K"], atol=1e-3)
    momentary = whole["ffmpeg_ebur128_M_mono"]  # every 0.1 s, looking back: entry 3 ends at .4 s, centred on row 6
    deman = vico45_paper.loudness_lufs(golden.sound, "DeMan")
    np.testing.assert_allclose(deman[6:87:3], momentary[3:], atol=1e-3)
    for name, order in (("delta_w9_b", 1), ("delta2_w9_b", 2)):
        derivative = vico45_paper.delta(whole["mfcc14_b"].T, width_frames=9, order=order)
        np.testing.assert_allclose(derivative, whole[name].T, atol=1e-3)


@pytest.mark.parametrize("source_rate_hz", [16_000, 44_100, 48_000])
def test_a_click_at_frame_k_peaks_in_row_k(source_rate_hz: int) -> None:
    frames = [10, 31, 52, 77]
    rows = paper(clicks([Fraction(k, FPS) for k in frames], 90, source_rate_hz))
    for column in (C0, ENERGY):
        assert [peak_row(rows[:, column], k) for k in frames] == frames
    for k in frames:  # 400 ms are 12 rows: the plateau that a click leaves is centred on the click
        plateau = np.flatnonzero(rows[k - 10 : k + 11, LOUDNESS] > rows[k, LOUDNESS] - 3) + k - 10
        assert abs(plateau.mean() - k) <= 1 and 11 <= len(plateau) <= 13


@pytest.mark.parametrize("num_frames", [1, 2, 3, 8, 9, 10, 31])
def test_there_is_one_finite_row_a_frame_however_short_the_clip(num_frames: int) -> None:
    for rows in (paper(babble(num_frames)), vico45_code.features(babble(num_frames))):
        assert rows.shape == (num_frames, 45) and np.isfinite(rows).all()


def test_deltas_carry_signal_at_every_width_are_0_for_a_single_frame_and_the_slope_of_a_ramp() -> None:
    for width_frames in (3, 5, 9):
        assert paper(babble(90), width_frames)[:, 14:42].std(axis=0).min() > 1e-3
    np.testing.assert_allclose(paper(babble(1))[:, 14:42], 0, atol=1e-4)
    ramp = np.arange(30, dtype=np.float32)[:, None] * [1.0, -2.5]
    np.testing.assert_allclose(vico45_paper.delta(ramp, 9, order=1), np.tile([1.0, -2.5], (30, 1)), atol=1e-5)
    np.testing.assert_allclose(vico45_paper.delta(ramp, 9, order=2), 0, atol=1e-5)


def test_silence_is_finite_and_as_loud_as_the_absolute_gate() -> None:
    silence = np.zeros(30 * HOP_SAMPLES, np.float32)
    rows = paper(silence)
    assert np.isfinite(rows).all() and (rows[:, LOUDNESS] == -70).all()
    np.testing.assert_allclose(rows[:, 1:LOUDNESS], 0, atol=1e-4)
    np.testing.assert_allclose(vico45_code.features(silence), 0, atol=1e-3)  # the released script gives up to 1.5e-4


def test_twice_the_amplitude_is_six_decibels_louder() -> None:
    sound = babble(30)
    gain_lu = paper(2 * sound)[:, LOUDNESS] - paper(sound)[:, LOUDNESS]
    np.testing.assert_allclose(gain_lu, 20 * np.log10(2), atol=1e-4)


@pytest.mark.parametrize("features", [paper, vico45_code.features])
def test_sound_that_comes_7_frames_later_moves_7_rows(features) -> None:  # type: ignore[no-untyped-def]
    sound = babble(60)
    rows, later = features(sound), features(np.pad(sound, (7 * HOP_SAMPLES, 0)))
    np.testing.assert_allclose(later[7 + 10 : -10], rows[10:-10], atol=2e-3)


@pytest.mark.shared
def test_code_features_of_real_speech_equal_what_the_released_script_gave(golden: Golden) -> None:
    expected = golden.script
    rows = vico45_code.features(np.pad(golden.sound, (0, 2 * HOP_SAMPLES)))
    np.testing.assert_allclose(rows[:, :13], expected[:, :13], rtol=0, atol=1e-3)
    np.testing.assert_allclose(rows[:, 39:42], expected[:, 39:42], rtol=0, atol=1e-6)
    np.testing.assert_allclose(rows[:, 42:], expected[:, 42:], rtol=0, atol=1e-12)
    assert np.array_equal(rows[:, 0] == 0, expected[:, 0] == 0)  # log-energy clamped in the very same frames


@pytest.mark.shared
def test_the_noise_is_the_released_scripts_noise_to_the_bit(golden: Golden) -> None:
    expected = golden.script.astype(np.float32)
    delta = vico45_code.delta_of_one_row(expected[:, :13])
    assert np.array_equal(delta, expected[:, 13:26])
    assert np.array_equal(vico45_code.delta_of_one_row(delta), expected[:, 26:39])


def test_code_deltas_are_noise_that_can_be_divided_by_its_deviation() -> None:
    noise = vico45_code.features(babble(90))[:, 13:39]
    assert np.abs(noise[:, :13]).max() < 2e-6 and np.abs(noise[:, 13:]).max() < 1e-13
    assert (noise.astype(np.float32)[:, 1:].std(axis=0) > 0).all()  # 0 is the log-energy's, which may be constant


def test_only_16_of_45_code_dimensions_say_something() -> None:
    rows = 4 * babble(90)  # loud enough to lift the log-energy off its floor
    columns = vico45_code.features(rows).astype(np.float32).T
    assert np.array_equal(columns[40], columns[41])
    assert np.array_equal(columns[42], columns[43]) and np.array_equal(columns[42], columns[44])
    assert len({column.tobytes() for column in columns if column.std() > 1e-5}) == 16


def test_code_rms_and_crossings_are_those_of_librosa_chunk_by_chunk() -> None:
    from librosa.feature import rms, zero_crossing_rate

    rows = vico45_code.features(babble(20))
    for row, chunk in zip(rows, babble(20).reshape(20, HOP_SAMPLES), strict=True):
        np.testing.assert_allclose(row[39:42], rms(y=chunk)[0], atol=1e-6)
        np.testing.assert_allclose(row[42:], zero_crossing_rate(chunk, frame_length=44100)[0], atol=1e-12)


@pytest.mark.parametrize(("rate_hz", "width"), [(16_000, 43), (22_050, 43), (24_000, 43), (44_100, 45), (48_000, 47)])
def test_the_released_script_gives_45_numbers_at_44100_hz_only(rate_hz: int, width: int) -> None:
    from librosa.feature import rms

    chunk = np.zeros(rate_hz // FPS, np.float32)
    windows_per_chunk = rms(y=chunk).shape[1]
    assert 3 * vico45_code.NUM_MFCC + 2 * windows_per_chunk == width
    assert (windows_per_chunk == vico45_code.NUM_CENTRES) == (rate_hz == SAMPLE_RATE_HZ)


@pytest.mark.parametrize("source_rate_hz", [16_000, 44_100, 48_000])
def test_a_click_inside_chunk_k_peaks_in_row_k_of_the_code_preset(source_rate_hz: int) -> None:
    frames = [10, 31, 52, 77]
    rows = vico45_code.features(clicks([(k + Fraction(1, 4)) / FPS for k in frames], 90, source_rate_hz))
    assert [peak_row(rows[:, WHOLE_RMS], k) for k in frames] == frames


@pytest.mark.parametrize("preset", [PAPER, CODE])
def test_the_stage_writes_the_presets_features_of_the_clips_audio(tmp_path: Path, preset: str) -> None:
    stage = Acoustic(Acoustic.Settings(preset=preset))
    stage.setup("cpu")
    (column,) = stage.writes()
    sound = np.round(babble(45) * 2**15).astype(np.float32) / 2**15  # exactly what 16 bits can hold
    clip = write_clip(tmp_path, sound, num_frames=45)
    rows = column.check(stage.process(clip)["acoustic"], clip.num_frames)
    assert rows.dtype == np.float32 and preset in column.meaning
    expected = paper(sound) if preset == PAPER else vico45_code.features(sound)
    np.testing.assert_array_equal(rows, expected.astype(np.float32))


def test_column_and_sound_must_have_the_same_length(tmp_path: Path) -> None:
    clip = write_clip(tmp_path, babble(45)[:-1], num_frames=45)
    with pytest.raises(ValueError, match=r"source_0_1 must hold 66150 mono samples .* found shape \(66149,\)"):
        Acoustic().process(clip)


def test_an_unknown_preset_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UserError, match="'vico45-paper', 'vico45-code'"):
        resolve("acoustic", Acoustic.Settings, {"preset": "vico44"})


def test_the_shape_of_the_column_does_not_depend_on_the_preset() -> None:
    columns = [Acoustic(Acoustic.Settings(preset=preset)).writes()[0] for preset in (PAPER, CODE)]
    assert {(column.name, column.arrow_type) for column in columns} == {("acoustic", columns[0].arrow_type)}
