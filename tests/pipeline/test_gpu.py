"""What runs on GPUs: told by settings of the build, which change no fingerprint."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.build import BuildOptions
from pipeline.gpu import GpuSettings
from pipeline.ledger.report import plan_table
from pipeline.part import PartWorker
from pipeline.plan import Pipeline
from pipeline.pools import Node, pool_sizes
from pipeline.registry import find_stages
from schemas.errors import UserError
from tests.labs.toy_build import ToyProject

BATCHES = """
    batches_on = {devices}
    def process_part(self, clips):
        return [self.process(clip) for clip in clips]
"""


def test_stages_that_are_named_run_on_gpus_in_one_pool_with_those_that_ask() -> None:
    names = ("clip", "face", "landmarks", "threedmm", "acoustic", "asr", "text")
    codes = [code for code in find_stages() if code.name in names]
    named_ones = GpuSettings(("face", "landmarks"), 0.1)
    usual, named = (
        {stage: group.gpus for group in Pipeline(codes, {}, gpu=gpu).groups(with_gpus=True) for stage in group.stages}
        for gpu in (GpuSettings(), named_ones)
    )
    assert {name for name, gpus in usual.items() if gpus} == {"threedmm", "asr", "text"}
    assert {name: gpus for name, gpus in named.items() if gpus} == dict.fromkeys(
        ("face", "landmarks", "threedmm", "asr", "text"), 0.1
    )
    groups = Pipeline(codes, {}, gpu=named_ones).groups(with_gpus=True)
    sizes = pool_sizes(groups, [Node(16, 1)], 100, None)
    assert sum(size.copies for size in sizes if size.group.gpus) == 10  # all that fit on one GPU


def test_where_a_stage_runs_changes_no_fingerprint_and_is_told_by_the_plan(tmp_path: Path) -> None:
    toy = ToyProject(tmp_path)
    toy.build()
    build = toy.prepare(options=BuildOptions({"gpu": {"stages": ["wave"], "share": 0.5, "decoder": "nvdec"}}))
    found = build.survey()
    assert not found.todo
    rows = {line.split()[0]: line.split()[5] for line in plan_table(build.pipeline, found).splitlines()[1:]}
    assert rows == {"wave": "0.5", "peak": "0"}


def test_only_workers_on_a_gpu_decode_on_it(tmp_path: Path) -> None:
    build = ToyProject(tmp_path).prepare(options=BuildOptions({"gpu": {"decoder": "nvdec"}}))
    workers = [PartWorker(build.job, ["wave"], device) for device in ("cpu", "cuda")]
    assert [worker.decoder for worker in workers] == ["cpu", "nvdec"]
    for worker in workers:
        worker.watchdog.end()


@pytest.mark.parametrize(("devices", "batched"), [(("cuda",), [False, True]), (("cpu", "cuda"), [True, True])])
def test_a_stage_is_asked_about_all_clips_together_on_the_devices_that_it_names(
    tmp_path: Path, devices: tuple[str, ...], batched: list[bool]
) -> None:
    toy = ToyProject(tmp_path)
    toy.add_stage("wave", toy.stages["wave"].read_text() + BATCHES.format(devices=devices))
    build = toy.prepare()
    workers = [PartWorker(build.job, ["wave"], device) for device in ("cpu", "cuda")]
    assert [worker.batches(build.pipeline.stages[0]) for worker in workers] == batched
    for worker in workers:
        worker.watchdog.end()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"stages": ["fase"]}, r"\[stages.gpu\] stages: unknown stage 'fase'; stages: wave, peak"),
        ({"decoder": "cuvid"}, r"\[stages.gpu\] decoder: found 'cuvid', allowed: 'cpu', 'nvdec'"),
    ],
)
def test_what_no_build_can_mean_is_told_before_it_begins(tmp_path: Path, table: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ToyProject(tmp_path).prepare(options=BuildOptions({"gpu": table}))
