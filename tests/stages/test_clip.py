"""Stage clip: frame numbers and clicks of generated sources come out where rational arithmetic puts them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.clip import Clip
from pipeline.clock import HOP_SAMPLES, SAMPLE_RATE_HZ, Span
from pipeline.media.encode import count_frames, read_video, read_wav
from pipeline.stage import Reject
from stages.clip import Cut
from tests.labs.media import Recipe, clicks, make_source, read_number, remux

X264 = {"vcodec": "libx264", "pix_fmt": "yuv420p", "preset": "veryfast", "g": 20}
AAC = {"acodec": "aac", "b:a": "192k"}
RECIPES = {
    "23.976 fps, 44.1 kHz": Recipe(".mp4", X264, AAC, fps=Fraction(24_000, 1001)),
    "25 fps, 16 kHz": Recipe(".mp4", X264, AAC, sample_rate_hz=16_000),
    "29.97 fps, 48 kHz": Recipe(".mp4", X264, AAC, fps=Fraction(30_000, 1001), num_frames=90, sample_rate_hz=48_000),
    "50 fps, 48 kHz": Recipe(".mkv", X264, AAC, fps=Fraction(50), num_frames=150, sample_rate_hz=48_000),
    "frozen": Recipe(".mp4", X264, AAC, fps=Fraction(30), num_frames=90, times="(N+9*gt(N,40))/30/TB"),
}

Cutter, Sources = Callable[..., dict[str, Any]], dict[str, Path]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    folder = tmp_path_factory.mktemp("sources")
    return {name: make_source(folder / str(k), recipe) for k, (name, recipe) in enumerate(RECIPES.items())}


@pytest.fixture
def cut(tmp_path: Path) -> Cutter:
    """The stage, applied to a span of a file."""

    def apply(source: Path, start_s: str, end_s: str, **settings: Any) -> dict[str, Any]:
        clip = Clip({"clip_id": "c"}, Span(Fraction(start_s), Fraction(end_s)), source, tmp_path, tmp_path / "scratch")
        stage = Cut(Cut.Settings(**settings))
        try:
            columns = stage.process(clip)
        finally:
            clip.close()
        assert {column.name for column in stage.writes()} == set(columns)
        for column in stage.writes():
            column.check(columns[column.name], clip.num_frames)
        return columns

    return apply


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "frozen"])
def test_frames_and_clicks_come_out_at_their_times(cut: Cutter, sources: Sources, name: str) -> None:
    columns = cut(sources[name], "1/3", "7/3", full_frame=True)
    shown = [read_number(rgb) for rgb in read_video(columns["clip_video"])]
    assert shown == columns["source_frame"].tolist()
    assert len(shown) == count_frames(columns["clip_video"]) == 60
    fps = RECIPES[name].fps
    for k, number in enumerate(shown):
        assert abs(Fraction(number) / fps - Fraction(1, 3) - Fraction(k, 30)) <= 1 / (2 * fps) + Fraction(1, 1000)
    assert columns["audio_level_dbfs"] > -50
    assert columns["source_fps"] == pytest.approx(float(fps), rel=1e-3)
    samples, rate_hz = read_wav(columns["audio"])
    assert rate_hz == SAMPLE_RATE_HZ
    assert len(samples) == 60 * HOP_SAMPLES
    click = clicks(np.arange(HOP_SAMPLES) / SAMPLE_RATE_HZ, (Fraction(0),))
    found = int(np.argmax(np.correlate(samples[20 * HOP_SAMPLES : 25 * HOP_SAMPLES], click)))
    assert abs(found - HOP_SAMPLES) <= 1  # the click at 31/30 s lies 21 frames after 1/3 s


def test_two_runs_write_the_same_bytes(cut: Cutter, sources: Sources) -> None:
    written = []
    for _ in range(2):
        columns = cut(sources["25 fps, 16 kHz"], "0", "2", full_frame=True)
        written.append((columns["audio"].read_bytes(), columns["clip_video"].read_bytes()))
    assert written[0] == written[1]


def reason(cut: Cutter, *arguments: Any, **settings: Any) -> str:
    with pytest.raises(Reject) as caught:
        cut(*arguments, **settings)
    assert caught.value.reason in Cut.rejects
    assert caught.value.detail
    return caught.value.reason


def test_clips_that_the_source_does_not_hold_are_rejected(cut: Cutter, sources: Sources, tmp_path: Path) -> None:
    source, frozen = sources["25 fps, 16 kHz"], sources["frozen"]  # 3 s long; frame 40 stays for ten frames
    (tmp_path / "junk.mp4").write_bytes(b"junk" * 1000)
    assert reason(cut, source, "0", "0.9") == "too_short"
    assert reason(cut, source, "0", "3", max_s=2.0) == "too_long"
    assert reason(cut, source, "1.5", "3.5") == "span_outside_source"
    assert reason(cut, source, "-1", "2") == "span_outside_source"
    assert len(cut(source, "1", "3")["source_frame"]) == 60
    assert reason(cut, frozen, "0.5", "2") == "frozen_gap"
    assert reason(cut, frozen, "0.5", "2", max_gap_s=0.3) == "frozen_gap"
    assert 40 in cut(frozen, "0.5", "2", max_gap_s=0.4)["source_frame"]
    assert cut(frozen, "0", "1.3")["source_frame"][-1] == 38
    assert reason(cut, tmp_path / "junk.mp4", "0", "2") == "unreadable"
    assert reason(cut, tmp_path / "missing.mp4", "0", "2") == "unreadable"


def test_the_level_of_the_sound_is_told_and_none_without_sound(cut: Cutter, sources: Sources, tmp_path: Path) -> None:
    deaf = remux(sources["25 fps, 16 kHz"], tmp_path / "deaf.mp4", after=("-an",))
    assert (cut(deaf, "0", "2")["audio"], cut(deaf, "0", "2")["audio_level_dbfs"]) == (None, None)
    assert cut(sources["25 fps, 16 kHz"], "1.1", "2.2")["audio_level_dbfs"] < -60  # between two clicks
    loud = cut(make_source(tmp_path / "loud", Recipe(".mp4", X264, AAC)), "0", "2")["audio_level_dbfs"]
    quiet = make_source(tmp_path / "quiet", Recipe(".mp4", X264, {**AAC, "af": "volume=-25dB"}))
    assert cut(quiet, "0", "2")["audio_level_dbfs"] == pytest.approx(loud - 25, abs=1)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("a_dyadic/couch_two_men_noaudio.mp4", -90),
        ("b_heads/lp_d3_woman_silent.mp4", -90),
        ("b_heads/smiling_woman_noaudio.mp4", None),
    ],
)
def test_real_footage_without_speech_has_no_level(cut: Cutter, shared: Path, file: str, expected: int | None) -> None:
    level = cut(shared / "media" / file, "0", "3")["audio_level_dbfs"]
    assert level is None if expected is None else level < expected


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "fps"),
    [
        ("vico/cte53x3i02lo.mp4", 30),
        ("a_dyadic/debate_ca_trudeau_singh.avi", 25),
        ("b_heads/grid_bbaf2n.mpg", 25),
        ("b_heads/retalk_man1.mp4", 22.131),
        ("e_robustness/street_crowd_1080p.mp4", 25),
    ],
)
def test_real_footage_with_quiet_or_loud_speech_passes(cut: Cutter, shared: Path, file: str, fps: float) -> None:
    columns = cut(shared / "media" / file, "0", "2.5")
    assert columns["audio_level_dbfs"] > -50
    assert columns["source_fps"] == pytest.approx(fps, abs=0.01)
    assert columns["source_frame"][-1] == pytest.approx(74 / 30 * fps, abs=1)
