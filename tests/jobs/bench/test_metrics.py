"""The benchmark of the metrics: the published way computes what ours computes, and the table adds up."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from jobs.bench import metrics as metric_speed
from jobs.bench import reference_metrics
from stages.evaluate.metrics import image_quality, sharpness
from stages.evaluate.metrics.definition import Quantity


def test_both_ways_have_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_speed, "FRAMES", 1)
    frames = metric_speed.portraits()
    assert frames.shape == (2, 384, 384, 3) and frames.std() > 20
    one, other = (reference_metrics.clip_tensor(frame[None]) for frame in frames)
    assert float(reference_metrics.psnr(one, other)) == pytest.approx(
        image_quality.psnr(frames[:1], frames[1:]), abs=1e-4
    )
    assert float(reference_metrics.ssim(one, other)) == pytest.approx(
        image_quality.ssim(frames[:1], frames[1:]), abs=2e-5
    )
    grey = cv2.cvtColor(frames[0], cv2.COLOR_RGB2GRAY)
    assert reference_metrics.cpbd(grey) == pytest.approx(sharpness.cpbd_of_picture(grey), abs=1e-12)


def test_the_table_sums_the_metrics_and_divides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_speed, "FRAMES", 2)
    monkeypatch.setattr(metric_speed, "ROUNDS", 1)
    monkeypatch.setattr(metric_speed, "FRAMES_OF_SLOW", 1)
    monkeypatch.setattr(metric_speed, "TEST_SET_CLIPS", 1)
    lines = metric_speed.metric_table().splitlines()
    rows = {line.split("  ")[0]: [float(cell) for cell in line.split()[-3:]] for line in lines[1:5]}
    published, ours = (sum(rows[name][k] for name in ("PSNR", "SSIM", "CPBD")) for k in (0, 1))
    assert rows["all three"][:2] == pytest.approx([published, ours], abs=0.03)
    assert rows["all three"][2] == pytest.approx(published / ours, rel=0.05)
    assert "metrics of motion on 1 clips of 360 frames" in lines[-1]


def test_made_up_clips_have_what_every_metric_of_motion_needs() -> None:
    (clip,) = metric_speed.made_up_clips(1, 50)
    assert np.isfinite(clip[Quantity.EXP.predicted]).all() and clip[Quantity.POSE.speaker].shape == (50, 6)
    assert clip[Quantity.BLINK.reference].dtype == bool
