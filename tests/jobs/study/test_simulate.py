"""The simulation of many clips: that it builds what it says, and what a clip costs the driver."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from jobs.study.simulate import MIB, Figures, made_up, make_stages, simulate
from tests.labs.toy_build import shard_bytes

FEW, MANY = 2_000, 100_000


def test_files_that_are_made_up_are_packed_as_those_of_the_stages(tmp_path: Path) -> None:
    run, made = tmp_path / "run", tmp_path / "made_up"
    run.mkdir()
    made.mkdir()
    figures = [simulate(run, 70, make_stages(run, 2, 0.0)), simulate(made, 70, make_stages(made, 2, 0.0), made_up)]
    assert shard_bytes(run / "out") == shard_bytes(made / "out") != {}
    for found in figures:
        assert not found.findings and found.column_files == 2 * 35  # two clips a part: 64 parts at most


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_clip_costs_the_driver_two_kilobytes_and_stages_one_file_for_32(tmp_path: Path) -> None:
    """Most of it is a row group of the ledger, which is full at a million rows: at 250,000 clips."""
    figures: dict[int, Figures] = {}
    for clips in (FEW, MANY):
        folder = tmp_path / str(clips)
        folder.mkdir()
        stages = make_stages(folder, 4, 0.0)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:  # without pytest, which is 40 MiB
            figures[clips] = fresh.submit(simulate, folder, clips, stages, made_up).result()
    few, many = (figures[clips].steps["describe, nothing to do"].peak_mib for clips in (FEW, MANY))
    assert few < 200
    assert (many - few) * MIB / (MANY - FEW) < 2500  # bytes
    assert figures[MANY].column_files == 4 * MANY / 32 and not figures[MANY].findings
