"""The benchmark's arithmetic, and one run of it."""

from __future__ import annotations

import re

import pytest

from jobs.bench import __main__ as bench
from jobs.bench import stages as stage_speed


def test_the_table_sums_the_stages_and_divides_by_the_chain() -> None:
    ours = {"clip": 1.0, "face": 7.0, "landmarks": 3.0, "acoustic": 0.5, "blink": 0.5}
    slow = {"MTCNN on every full frame": 160.0, "FaceMesh in static mode": 35.0, "audio chunk by chunk": 5.0}
    rows = {line.split("  ")[0]: line.split() for line in stage_speed.stage_table(ours, slow).splitlines() if line}
    assert rows["all stages"][-2:] == ["12.00", "2.78"]  # 12 ms a frame at 33.3 ms a frame of real time
    assert rows["MTCNN on every full frame"][-1] == "20.0"  # 160 ms against clip + face
    assert rows["all steps"][-1] == f"{200 / 12:.1f}"


@pytest.mark.slow
def test_the_benchmark_measures_every_stage(capsys) -> None:
    assert bench.main(["--clips", "2", "--only", "stages"]) == 0
    printed = capsys.readouterr().out
    for name in ("clip", "face", "landmarks", "acoustic", "blink", "all stages", "all steps"):
        assert re.search(rf"^{name} .*\d", printed, flags=re.MULTILINE), name
    assert "Ray's share of a build with one worker" in printed
