"""Where a stage that wants as much of a GPU as ``threedmm`` runs: on a cluster whose GPUs exist in Ray's books only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stages.threedmm import ThreeDMM

ROOT = Path(__file__).resolve().parents[2]
STAGE = f'''"""Says where it runs, and with how many clips at a time."""
import os
from pipeline.stage import Stage
from schemas.column import Column


class Where(Stage):
    reads = ("wave",)
    writes = (Column("where", "string"),)
    gpus = {ThreeDMM().gpus()}

    def setup(self, device):
        import ray

        ids = ray.get_runtime_context().get_accelerator_ids()["GPU"]
        self.where = f"{{device}} {{','.join(ids)}} {{os.getpid()}}"

    def process_part(self, clips):
        return [{{"where": f"{{self.where}} {{len(clips)}}"}} for _ in clips]
'''
PROGRAM = f"""
import json, logging, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
import pyarrow.parquet as pq
import ray
from pipeline.run import run_parts
from tests.labs.toy_build import ToyProject

folder = Path(sys.argv[1])
toy = ToyProject(folder)
toy.add_stage("where", {STAGE!r})
ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, logging_level=logging.ERROR,
         runtime_env={{"env_vars": {{"PYTHONPATH": {str(ROOT)!r}}}}})
build = toy.prepare()
build.run(build.survey(), lambda job, pipeline, parts: run_parts(job, pipeline, parts, None))
files = (folder / "out" / "columns" / "where").glob("*.parquet")
rows = [row for file in files for row in pq.read_table(file, partitioning=None)["where"].to_pylist() if row]
print(json.dumps(rows))
"""


@pytest.mark.slow
def test_the_stage_runs_on_gpus_and_several_copies_share_one(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    rows = [row.split() for row in json.loads(result.stdout.splitlines()[-1])]
    assert len(rows) >= 3
    assert {device for device, *_ in rows} == {"cuda"}
    assert {gpu for _, gpu, *_ in rows} <= {"0", "1"}
    assert len({pid for _, _, pid, _ in rows}) <= 2 / ThreeDMM().gpus()
