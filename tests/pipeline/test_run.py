"""Builds on Ray itself: a private cluster on this machine, toy stages."""

from __future__ import annotations

from functools import partial

import pytest

from pipeline.ledger.diary import read_diary
from pipeline.ledger.report import RunReport
from pipeline.run import run_parts
from pipeline.weights import WeightsError
from schemas.errors import UserError
from tests.labs.kill import as_if_undisturbed
from tests.labs.toy_build import PEAK, ToyProject, computed

GPU_STAGE = PEAK.replace("class Peak(Stage):", "class Peak(Stage):\n    gpus = 0.5")
KILLER = PEAK.replace("from pipeline", "import os\nfrom pipeline").replace(
    "note = clip.output", "if clip.clip_id == 'b_000000_000002':\n            os._exit(1)\n        note = clip.output"
)


def build_on_ray(toy: ToyProject, out: str, workers: int) -> RunReport:
    build = toy.prepare(out)
    return build.run(build.survey(), partial(run_parts, workers=workers))


@pytest.mark.usefixtures("ray_local")
def test_one_and_two_workers_and_no_ray_at_all_give_the_same_bytes_and_ledger(tmp_path) -> None:
    toy = ToyProject(tmp_path)
    assert computed(build_on_ray(toy, "one", workers=1)) == {"wave": 4, "peak": 3}
    build_on_ray(toy, "two", workers=2)
    toy.build("none")
    for out in ("one", "two"):
        as_if_undisturbed(tmp_path / out, tmp_path / "none")


@pytest.mark.usefixtures("ray_local")
def test_a_clip_that_kills_its_worker_is_tried_twice_and_costs_no_other(tmp_path) -> None:
    toy = ToyProject(tmp_path)
    toy.add_stage("peak", KILLER)
    report = build_on_ray(toy, "out", workers=1)
    stage, row = report.after.missing["b_000000_000002"]
    assert (stage, row.outcome) == ("peak", "crashed")
    assert "died 2 times" in row.reason
    assert len(report.after.published) == 2
    diaries = (tmp_path / "out" / "ledger" / "attempts").glob("*.jsonl")
    lines = [line for path in diaries for line in read_diary(path) if line["stage"] == "peak"]
    assert [line["event"] for line in lines if line["clip"] == "b_000000_000002"] == ["start", "start", "given_up"]


@pytest.mark.usefixtures("ray_local")
def test_weights_of_ones_own_that_cannot_be_loaded_end_the_build_in_words(tmp_path) -> None:
    toy = ToyProject(tmp_path)
    path = tmp_path / "own.npz"
    setup = "def setup(self, device):\n        __import__('numpy').load(self.weights()[0])"
    own = f"class Peak(Stage):\n    weights = ({str(path)!r},)\n\n    {setup}"
    toy.add_stage("peak", PEAK.replace("class Peak(Stage):", own))
    with pytest.raises(WeightsError, match=r"own\.npz: expected the file, found no such file"):
        toy.prepare()
    path.write_text("no arrays")
    with pytest.raises(UserError, match=r"stage 'peak': weights .*own\.npz: not files that it can load: .*unset them"):
        build_on_ray(toy, "out", workers=1)


def test_neighbours_with_equal_resources_share_an_operator_and_gpu_stages_form_their_own(tmp_path) -> None:
    toy = ToyProject(tmp_path)
    toy.add_stage("peak", GPU_STAGE)
    pipeline = toy.prepare().pipeline
    assert [group.stages for group in pipeline.groups(with_gpus=False)] == [("wave", "peak")]
    with_gpus = [(group.stages, group.gpus) for group in pipeline.groups(with_gpus=True)]
    assert with_gpus == [(("wave",), 0), (("peak",), 0.5)]
