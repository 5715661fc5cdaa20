"""Stage sounds: generated voices in channels and in other recorders' files, and real ones whose words are known."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from scipy.io import wavfile
from scipy.signal import fftconvolve

from jobs.demo.sound import render, speak
from pipeline.clip import Clip, Pair, Sounds
from pipeline.clock import Span
from pipeline.dataset.read import media_file, read_clips
from pipeline.media.encode import read_wav
from pipeline.stage import Reject
from stages.acoustics import alignment
from stages.clip import Cut
from stages.sounds import OwnSounds
from tests.labs.media import Recipe, make_source
from tests.labs.toy_build import build_own_stages, write_manifest

RATE_HZ = 44_100
LENGTH_S = 12
FILM = Recipe(".mkv", {"vcodec": "libx264", "pix_fmt": "yuv420p", "preset": "ultrafast"}, num_frames=25 * LENGTH_S)
Own = Callable[..., dict[str, Any]]


@cache
def voice(seed: int, start_s: float = 0.0, end_s: float = LENGTH_S, length_s: float = LENGTH_S) -> np.ndarray:
    """Somebody who speaks for a while in a quiet room, float (sample,) at 44.1 kHz."""
    rng = np.random.default_rng(seed)
    said = speak(start_s, end_s, float(rng.uniform(110, 240)), rng)
    return render(said, [], length_s, RATE_HZ, seed).astype(np.float64)


def write(path: Path, *channels: np.ndarray) -> Path:
    wavfile.write(path, RATE_HZ, np.rint(np.stack(channels, axis=1).clip(-1, 1) * 32_767).astype("<i2"))
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("film") / "film", FILM)


@pytest.fixture
def own(film: Path, tmp_path: Path) -> Own:
    """The stages clip and sounds, applied to a span of a film with that sound beside it."""

    def apply(audio: Path, sounds: Sounds, side: str | None = None, cut: bool = False) -> dict[str, Any]:
        values = {"clip_id": "c", "speaker_side": side}
        source = Pair(film, film, audio)
        clip = Clip(values, Span(Fraction(2), Fraction(10)), source, tmp_path, tmp_path / "scratch", sounds)
        stage = OwnSounds()
        try:
            clip.values |= Cut(Cut.Settings()).process(clip) if cut else {"audio": "somewhere"}
            columns = stage.process(clip)
        finally:
            clip.close()
        assert [column.name for column in stage.writes()] == list(columns)
        return {**columns, "audio": clip["audio"]}

    return apply


def samples_of(columns: dict[str, Any], whose: str) -> np.ndarray:
    samples, rate_hz = read_wav(columns[whose])
    assert rate_hz == RATE_HZ and len(samples) == 8 * RATE_HZ
    return samples.astype(np.float64)


@pytest.mark.parametrize(("side", "of_speaker"), [("right", 1), (None, 0)])
def test_each_channel_is_its_persons_to_the_sample_and_the_mix_stays_their_mean(
    own: Own, tmp_path: Path, side: str | None, of_speaker: int
) -> None:
    voices = [voice(1), voice(2)]
    found = own(write(tmp_path / "call.wav", *voices), Sounds((0, 1)), side, cut=True)
    cut = [one[2 * RATE_HZ : 10 * RATE_HZ] for one in voices]
    for whose, expected in (
        ("speaker_audio", cut[of_speaker]), ("listener_audio", cut[1 - of_speaker]), ("audio", np.mean(cut, axis=0))
    ):  # fmt: skip
        np.testing.assert_allclose(samples_of(found, whose), expected, atol=1.5 / 32_768)
    assert found["speaker_audio_shift_s"] is None and found["speaker_audio_confidence"] is None


def test_sounds_that_cannot_be_one_of_each_are_turned_down_with_the_reason(own: Own, tmp_path: Path) -> None:
    one, two, silence = voice(1), voice(2), np.zeros(LENGTH_S * RATE_HZ)
    cases = {
        "not_two_channels": [(one,), (one, two, silence)],
        "sounds_alike": [(one, 0.5 * one)],
        "speaker_silent": [(silence, two)],
    }
    for reason, sounds in cases.items():
        for number, channels in enumerate(sounds):
            with pytest.raises(Reject) as raised:
                own(write(tmp_path / f"{reason}{number}.wav", *channels), Sounds((0, 1)))
            assert raised.value.reason == reason, channels
    found = own(write(tmp_path / "muted.wav", one, silence), Sounds((0, 1)))  # one may listen with the sound off
    assert found["listener_audio_level_dbfs"] == -200


def recorded(sound: np.ndarray, later_s: float, drift: float, seed: int) -> np.ndarray:
    """What another recorder makes of a sound that it began to hear earlier: its room, its noise and its clock."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(RATE_HZ // 5) / RATE_HZ
    room = rng.standard_normal(len(time_s)) * np.exp(-time_s / 0.04) * 0.05
    room[0] = 1
    heard = soxr.resample(fftconvolve(sound, room)[: len(sound)], RATE_HZ, RATE_HZ * (1 + drift))
    before = np.zeros(round(max(later_s, 0) * RATE_HZ))
    whole = np.concatenate([before, heard, np.zeros(2 * RATE_HZ)])[round(max(-later_s, 0) * RATE_HZ) :]
    return 0.5 * whole + rng.standard_normal(len(whole)) * 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("later_s", "drift"), [(3.21, 5e-5), (-1.4, -5e-5), (0.0, 0.0)])
def test_another_recorders_file_is_laid_where_it_belongs_to_a_third_of_a_frame(
    own: Own, tmp_path: Path, later_s: float, drift: float
) -> None:
    talk, answers = voice(1), 0.4 * voice(2, 5, 8)
    mix = write(tmp_path / "mix.wav", talk + answers)
    files = [
        write(tmp_path / f"{seed}.wav", recorded(sound, later_s, drift, seed))
        for seed, sound in enumerate((talk, answers))
    ]
    found = own(mix, Sounds((files[0], files[1])))
    for role, sound in (("speaker", talk), ("listener", answers)):
        assert found[f"{role}_audio_shift_s"] == pytest.approx(later_s, abs=0.011)
        assert found[f"{role}_audio_confidence"] > 0.3
        heard, expected = samples_of(found, f"{role}_audio"), sound[2 * RATE_HZ : 10 * RATE_HZ]
        lags = fftconvolve(heard, expected[::-1])
        assert abs(int(np.abs(lags).argmax()) - (len(expected) - 1)) < 0.011 * RATE_HZ


@pytest.mark.slow
def test_a_file_of_another_conversation_or_of_nobody_is_turned_down(own: Own, tmp_path: Path) -> None:
    talk, answers = voice(1), 0.4 * voice(2, 5, 8)
    mix, mine = write(tmp_path / "mix.wav", talk + answers), write(tmp_path / "mine.wav", talk)
    strangers = {
        "another voice": voice(7),
        "nobody": np.zeros(LENGTH_S * RATE_HZ),
        "too late": np.concatenate([np.zeros(20 * RATE_HZ), answers]),
    }
    for name, sound in strangers.items():
        with pytest.raises(Reject, match="the listener's: confidence 0.[0-4]") as raised:
            own(mix, Sounds((mine, write(tmp_path / f"{name}.wav", sound))))
        assert raised.value.reason == "sounds_do_not_match", name


@pytest.mark.slow
def test_sounds_on_one_clock_may_end_a_frame_early_but_not_ten_seconds(own: Own, tmp_path: Path) -> None:
    talk, answers = voice(1), voice(2)
    mine = write(tmp_path / "mine.wav", talk)
    frame = RATE_HZ // 30
    short = write(tmp_path / "short.wav", answers[: 10 * RATE_HZ - frame])
    found = own(mine, Sounds((mine, short), mixed=False), cut=True)
    assert not samples_of(found, "listener_audio")[-frame:].any()
    expected = (talk + np.pad(answers[: 10 * RATE_HZ - frame], (0, 2 * RATE_HZ + frame)))[
        2 * RATE_HZ : 10 * RATE_HZ
    ] / 2
    np.testing.assert_allclose(samples_of(found, "audio"), expected, atol=1.5 / 32_768)
    assert found["listener_audio_shift_s"] is None  # nothing was shifted, and nothing is said of it
    shorter = write(tmp_path / "shorter.wav", answers[: 2 * RATE_HZ])
    with pytest.raises(Reject, match="the listener's file is 2.000 s long, the clip is 2.000 to 10.000 s of it"):
        own(mine, Sounds((mine, shorter), mixed=False))


def test_silence_fits_nowhere() -> None:
    sound = soxr.resample(voice(1), RATE_HZ, alignment.RATE_HZ)
    nothing = np.zeros(2 * len(sound))
    assert alignment.shift_of(sound, nothing) == alignment.Shift(0.0, 0.0, 0.0)
    assert alignment.shift_of(nothing[: len(sound)], np.tile(sound, 2)).confidence == 0.0


@pytest.mark.slow
def test_in_a_call_of_two_channels_each_persons_words_are_their_own(film: Path, shared: Path, tmp_path: Path) -> None:
    rate_hz, call = wavfile.read(shared / "media/c_speech/stereo_two_speakers.wav")
    wavfile.write(tmp_path / "call.wav", rate_hz, call)
    (tmp_path / "film.mkv").symlink_to(film)
    stages = 'stages = ["sounds", "acoustic", "asr", "voice"]\n'
    manifest = write_manifest(tmp_path / "call.toml", {"call": "film.mkv"}, ["call,0,5,,,,,train"], stages, "speaker")
    text = manifest.read_text() + 'listener = "film.mkv"\naudio = "call.wav"\nspeaker_channel = "left"\n'
    manifest.write_text(text.replace('"film.mkv"', f'"{film}"'))
    _, report = build_own_stages(manifest, tmp_path / "data")
    assert [row["ok"] for row in report.rows()] == [1] * 5
    named = [
        f"{whose}{name}" for whose in ("", "speaker_", "listener_") for name in ("transcript", "acoustic", "voice")
    ]
    (row,) = read_clips(tmp_path / "data", [*named, "speaker_audio"])
    assert row["speaker_transcript"] == (
        "He began a confused complaint against the wizard, who had vanished behind the curtain on the left."
    )
    assert row["listener_transcript"] == "The horizon seems extremely distant."
    assert media_file(tmp_path / "data", row["speaker_audio"]).name == "speaker.wav"
    assert row["listener_voice"][-30:].max() < 0.5 < row["speaker_voice"][-60:-30].max()  # the left one speaks longer
    loud = [row[f"{whose}acoustic"][:, 44] for whose in ("", "speaker_", "listener_")]
    assert len({values.tobytes() for values in loud}) == 3
