"""The benchmark of the trainer measures steps and epochs of real trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jobs.bench import trainer as trainer_speed
from jobs.study.random_set import Extent
from tests.labs.trainer import small_set

TINY = Extent(clips=16, frames=1400, people=4)


def test_gathering_windows_is_a_part_of_a_step(tmp_path: Path) -> None:
    root = small_set(tmp_path / "set")
    speed = trainer_speed.measure_steps(root, tmp_path / "run", ("vico_lstm", "paper"), torch.device("cpu"))
    assert (speed.windows, speed.frames) == (32, 90)
    assert 0 < speed.reading_s < speed.step_s


def test_the_cells_of_the_table() -> None:
    assert trainer_speed.Speed(32, 90, step_s=0.5, reading_s=0.01).cells() == ["32", "90", "64", "2.0%"]


def test_the_table_has_a_row_a_listener_and_the_time_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_speed, "NAMES", (("vico_lstm", "paper"), ("pchg", "")))
    lines = trainer_speed.trainer_table(TINY, TINY).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["vico_lstm", "pchg"]
    assert "train split of 16 clips of 1400 frames together takes" in lines[4]
