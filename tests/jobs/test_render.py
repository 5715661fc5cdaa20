"""jobs.render and jobs.reextract on a data set of a public-domain face, through the ordinary stages and back."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from jobs import reextract, render
from pipeline.build import Build, BuildOptions
from pipeline.clock import HOP_SAMPLES, Span
from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import read_clips
from pipeline.manifest.load import load_manifest
from pipeline.media.encode import VideoWriter, read_video
from pipeline.media.reader import SourceReader
from pipeline.part import run_here
from pipeline.registry import find_stages
from stages.evaluate.render.scene import closing, held, reference_frame
from tests.labs.media import Recipe, make_source
from tests.labs.rendering import SIDE_PX, Sitter, write_portraits, write_predictions

CLIP = "portrait_000000_000001"
FRAMES = 30


def rendered(predictions: Path, data: Path, out: Path, *options: str) -> int:
    """The command's exit status."""
    return render.main([str(predictions), "--data", str(data), "--out", str(out), *options])


@pytest.fixture(scope="module")
def sitter() -> Sitter:
    return Sitter.sit()


@pytest.fixture(scope="module")
def data(sitter: Sitter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_portraits(tmp_path_factory.mktemp("render") / "data", {CLIP: sitter.acting(FRAMES)})


@pytest.fixture(scope="module")
def predictions(sitter: Sitter, data: Path) -> Path:
    return write_predictions(data.parent / "predicted", data, {CLIP: sitter.acting(FRAMES).motion})


@pytest.fixture(scope="module")
def videos(data: Path, predictions: Path) -> Path:
    out = data.parent / "videos"
    assert rendered(predictions, data, out, "--workers", "1") == 0
    return out


def test_a_rendered_clip_has_the_frames_and_the_sound_of_its_clip(videos: Path) -> None:
    with SourceReader(videos / f"{CLIP}.mp4") as reader:
        info, times = reader.info(), reader.frame_times()
        sound = reader.audio(Span(Fraction(0), Fraction(FRAMES, 30)))
    assert (info.width, info.height, info.average_fps) == (SIDE_PX, SIDE_PX, 30)
    assert [times.time_s(k) for k in range(FRAMES)] == [Fraction(k, 30) for k in range(FRAMES)]
    middle = sound[5000:-5000]
    assert len(sound) == FRAMES * HOP_SAMPLES
    assert np.std(middle) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) * 44_100 / len(middle) == pytest.approx(440, abs=5)


def test_the_ordinary_stages_give_the_predicted_motion_back(data: Path, videos: Path) -> None:
    build = Build(load_manifest(videos / reextract.MANIFEST), data.parent / "again", find_stages([]), BuildOptions())
    report = build.run(build.survey(), run_here)
    assert report.enough
    assert not list(check_dataset(data.parent / "again"))
    columns = ["listener_angle", "listener_trans", "listener_coeffs_valid", "listener_blink"]
    (wanted,), (found,) = (list(read_clips(root, columns)) for root in (data, data.parent / "again"))
    assert [found[name] for name in ("clip_id", "num_frames", "split")] == [CLIP, FRAMES, "test"]
    assert found["listener_coeffs_valid"].all()
    for column, axes in (("listener_angle", 3), ("listener_trans", 2)):
        for axis in range(axes):
            assert np.corrcoef(wanted[column][:, axis], found[column][:, axis])[0, 1] > 0.97


def test_labels_of_blinks_close_the_eyes(sitter: Sitter, data: Path, tmp_path: Path) -> None:
    still = {CLIP: sitter.still(FRAMES).motion}
    for name, blink in (("open", False), ("shut", True)):
        predicted = write_predictions(tmp_path / name, data, still, blink)
        assert rendered(predicted, data, tmp_path / f"{name}_out", "--workers", "1") == 0
    first, second = (list(read_video(tmp_path / f"{name}_out" / f"{CLIP}.mp4")) for name in ("open", "shut"))
    apart = [np.abs(a[140:200].astype(int) - b[140:200]).mean() for a, b in zip(first, second, strict=True)]
    assert max(apart[: FRAMES // 2 - 1]) < 0.1
    assert min(apart[FRAMES // 2 :]) > 1


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_every_sample_has_a_folder_whoever_renders_it(sitter: Sitter, tmp_path: Path, workers: str) -> None:
    few = sitter.acting(4)
    data = write_portraits(tmp_path / "data", {CLIP: few})
    names = ("sample-00", "sample-01")
    for name in names:
        write_predictions(tmp_path / "predicted" / name, data, {CLIP: few.motion})
    out = tmp_path / "videos"
    assert rendered(tmp_path / "predicted", data, out, "--workers", workers) == 0
    one, other = ((out / name / f"{CLIP}.mp4").read_bytes() for name in names)
    assert one == other  # the same face moves in the same way
    assert all((out / name / reextract.MANIFEST).is_file() for name in names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("length", f"clip {CLIP}: expected 30 frames, found"),
        ("unknown", "clip nobody is not in the data set"),
        ("nothing", "listener_exp is finite in no frame"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(
    sitter: Sitter, data: Path, tmp_path: Path, capsys, change: str, message: str
) -> None:
    motion = sitter.still(FRAMES - 1 if change == "length" else FRAMES).motion
    if change == "nothing":
        motion = replace(motion, exp=np.full_like(motion.exp, np.nan))
    predicted = write_predictions(tmp_path / "p", data, {"nobody" if change == "unknown" else CLIP: motion})
    assert rendered(predicted, data, tmp_path / "out") == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_predictions_or_data_is_refused(data: Path, predictions: Path, tmp_path: Path, capsys) -> None:
    for given, of in ((tmp_path, data), (predictions, tmp_path)):
        assert rendered(given, of, tmp_path / "out") == 2
        assert "holds no finished data set" in capsys.readouterr().err


def test_pirender_says_whose_coefficients_it_wants_and_where_its_weights_come_from(
    data: Path, predictions: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("VICO_CACHE", str(tmp_path))
    assert rendered(predictions, data, tmp_path / "out", "--renderer", "pirender") == 2
    said = capsys.readouterr().err
    assert "pirender draws coefficients of deep3d, found landmark_gn" in said and "choose --renderer mesh_warp" in said
    as_deep3d = tmp_path / "deep3d"
    shutil.copytree(data, as_deep3d, ignore=shutil.ignore_patterns("media"))
    text = (data / "dataset.json").read_text().replace('"landmark_gn"', '"deep3d"')
    (as_deep3d / "dataset.json").write_text(text)
    assert rendered(predictions, as_deep3d, tmp_path / "out", "--renderer", "pirender") == 2
    said = capsys.readouterr().err
    assert "weights 'pirender'" in said and "github.com/RenYurui/PIRender" in said


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 half a zip file"])
def test_a_checkpoint_that_cannot_be_read_is_named(
    data: Path, predictions: Path, tmp_path: Path, capsys, content: bytes
) -> None:
    checkpoint = tmp_path / "mine.pt"
    checkpoint.write_bytes(content)
    options = ["--renderer", "pirender", "--weights", str(checkpoint), "--workers", "1"]
    assert rendered(predictions, data, tmp_path / "out", *options) == 2
    assert f"error: {checkpoint}: expected a checkpoint of torch, found" in capsys.readouterr().err


def test_videos_of_another_length_are_refused_with_both_lengths(data: Path, tmp_path: Path, capsys) -> None:
    assert reextract.main([str(tmp_path), "--data", str(data)]) == 2
    assert "found none" in capsys.readouterr().err
    with VideoWriter(tmp_path / f"{CLIP}.mp4", (64, 64)) as writer:
        for level in range(FRAMES - 3):
            writer.write(np.full((64, 64, 3), 8 * level, np.uint8))
    assert reextract.main([str(tmp_path), "--data", str(data)]) == 2
    assert "expected 30 frames at 30 fps as its clip has, found 27" in capsys.readouterr().err


def test_videos_of_another_rate_are_refused(data: Path, tmp_path: Path, capsys) -> None:
    recipe = Recipe(".mp4", {"vcodec": "libx264", "pix_fmt": "yuv420p"}, fps=Fraction(25), num_frames=FRAMES)
    make_source(tmp_path / CLIP, recipe)
    assert reextract.main([str(tmp_path), "--data", str(data)]) == 2
    assert "expected 30 frames at 30 fps as its clip has, found 30 up to 1.16 s" in capsys.readouterr().err


def test_the_reference_is_the_first_frame_with_open_eyes() -> None:
    valid, blink = np.array([0, 1, 1, 1], bool), np.array([0, 1, 0, 0], bool)
    assert reference_frame({"listener_coeffs_valid": valid, "listener_blink": blink}) == 2
    assert reference_frame({"listener_coeffs_valid": valid}) == 1
    assert reference_frame({"listener_coeffs_valid": valid, "listener_blink": np.ones(4, bool)}) == 1


def test_frames_without_coefficients_hold_the_ones_before() -> None:
    values = np.array([[np.nan], [1.0], [np.nan], [3.0], [np.nan]])
    assert held(values)[:, 0].tolist() == [1, 1, 1, 3, 3]


def test_eyes_are_half_closed_beside_a_blink() -> None:
    assert closing(np.array([0, 0, 1, 1, 0, 0, 0], bool)).tolist() == [0, 0.5, 1, 1, 0.5, 0, 0]
