"""The benchmark's arithmetic, its metrics and trainings, which are real, and one run of it."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from jobs.bench import __main__ as bench
from jobs.bench import metrics as metric_speed
from jobs.bench import reference_metrics
from jobs.bench import stages as stage_speed
from jobs.bench import trainer as trainer_speed
from jobs.bench.results import Results, changes
from jobs.study.random_set import Extent
from stages.evaluate.metrics import image_quality, sharpness
from stages.evaluate.metrics.definition import Quantity
from tests.labs.trainer import small_set

TINY = Extent(clips=16, frames=1400, people=4)


def test_both_ways_have_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_speed, "FRAMES", 1)
    frames = metric_speed.portraits()
    assert frames.shape == (2, 384, 384, 3) and frames.std() > 20
    one, other = (reference_metrics.clip_tensor(frame[None]) for frame in frames)
    for name, tolerance in (("psnr", 1e-4), ("ssim", 2e-5)):
        ours = getattr(image_quality, name)(frames[:1], frames[1:])
        assert float(getattr(reference_metrics, name)(one, other)) == pytest.approx(ours, abs=tolerance)
    grey = cv2.cvtColor(frames[0], cv2.COLOR_RGB2GRAY)
    assert reference_metrics.cpbd(grey) == pytest.approx(sharpness.cpbd_of_picture(grey), abs=1e-12)


def test_the_table_sums_the_metrics_and_divides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FRAMES": 2, "ROUNDS": 1, "FRAMES_OF_SLOW": 1, "TEST_SET_CLIPS": 1}.items():
        monkeypatch.setattr(metric_speed, name, value)
    table, times = metric_speed.metric_table()
    lines = table.splitlines()
    rows = {line.split("  ")[0]: [float(cell) for cell in line.split()[-3:]] for line in lines[1:5]}
    published, ours = (sum(rows[name][k] for name in ("PSNR", "SSIM", "CPBD")) for k in (0, 1))
    assert rows["all three"][:2] == pytest.approx([published, ours], abs=0.03)
    assert rows["all three"][2] == pytest.approx(published / ours, rel=0.05)
    assert "metrics of motion on 1 clips of 360 frames" in lines[-1]
    assert times["PSNR"] == pytest.approx(rows["PSNR"][1], abs=0.01) and len(times) == 7


def test_made_up_clips_have_what_every_metric_of_motion_needs() -> None:
    (clip,) = metric_speed.made_up_clips(1, 50)
    assert np.isfinite(clip[Quantity.EXP.predicted]).all() and clip[Quantity.POSE.speaker].shape == (50, 6)
    assert clip[Quantity.BLINK.reference].dtype == bool


def test_gathering_windows_is_a_part_of_a_step(tmp_path: Path) -> None:
    root = small_set(tmp_path / "set")
    speed = trainer_speed.measure_steps(root, tmp_path / "run", ("vico_lstm", "paper"), torch.device("cpu"))
    assert (speed.windows, speed.frames) == (32, 90)
    assert 0 < speed.reading_s < speed.step_s


def test_the_cells_of_the_table() -> None:
    assert trainer_speed.Speed(32, 90, step_s=0.5, reading_s=0.01).cells() == ["32", "90", "64", "2.0%"]


def test_the_table_has_a_row_a_listener_and_the_time_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_speed, "NAMES", (("vico_lstm", "paper"), ("pchg", "")))
    table, times = trainer_speed.trainer_table(TINY, TINY)
    lines = table.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["vico_lstm", "pchg"]
    assert "train split of 16 clips of 1400 frames together takes" in lines[4]
    assert [*times] == ["vico_lstm paper, cpu, a window", "pchg , cpu, a window", "epoch of vico_lstm, cpu"]


def test_the_table_sums_the_stages_and_divides_by_the_chain() -> None:
    ours = {"clip": 1.0, "face": 7.0, "landmarks": 3.0, "acoustic": 0.5, "blink": 0.5}
    slow = {"MTCNN on every full frame": 160.0, "FaceMesh in static mode": 35.0, "audio chunk by chunk": 5.0}
    rows = {line.split("  ")[0]: line.split() for line in stage_speed.stage_table(ours, slow).splitlines() if line}
    assert rows["all stages"][-2:] == ["12.00", "2.78"]  # 12 ms a frame at 33.3 ms a frame of real time
    assert rows["MTCNN on every full frame"][-1] == "20.0"  # 160 ms against clip + face
    assert rows["all steps"][-1] == f"{200 / 12:.1f}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_benchmark_measures_every_stage_and_finds_nothing_slower_than_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_speed, "FULL_HD", (960, 540))  # what is measured is shown, not how fast it is
    out = tmp_path / "bench.json"
    assert bench.main(["--clips", "2", "--only", "stages", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for name in ("clip", "face", "landmarks", "acoustic", "blink", "all stages", "all steps"):
        assert re.search(rf"^{name} .*\d", printed, flags=re.MULTILINE), name
    assert "Ray's share of a build with one worker" in printed
    assert re.search(r"by the default workers: .* [\d.]+ x as fast as the published programs in one process", printed)
    found = Results.read(out)
    assert found.sections["stages"].ratio(stage_speed.BY_DEFAULT) > 1
    assert not any(change.is_slower for change in changes(found, found))
