"""Builds with toy stages: what is computed when, and what every clip's end is."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from pipeline.build import BuildOptions
from pipeline.dataset.check import check_dataset
from pipeline.dataset.lock import locked
from pipeline.part import run_here
from schemas.errors import UserError
from tests.labs.toy_build import LENGTH, PEAK, ROWS, WAVE, ToyProject, computed, shard_bytes


@pytest.fixture
def toy(tmp_path) -> ToyProject:
    return ToyProject(tmp_path)


def test_a_build_publishes_good_clips_and_says_why_others_are_missing(toy: ToyProject) -> None:
    report = toy.build()
    assert sorted(report.after.published) == ["a_000000_000001", "a_000001_000003", "b_000000_000002"]
    stage, row = report.after.missing["a_000003_000009"]
    assert (stage, row.outcome, row.reason) == ("wave", "rejected", "too_long")
    assert "180 frames" in row.detail
    assert list(check_dataset(toy.folder / "out")) == []


def test_a_second_build_computes_nothing_and_writes_nothing(toy: ToyProject) -> None:
    toy.build()
    before = {path: path.stat().st_mtime_ns for path in (toy.folder / "out" / "columns").rglob("*")}
    report = toy.build()
    assert computed(report) == {}
    assert report.shards_written == 0
    assert before == {path: path.stat().st_mtime_ns for path in (toy.folder / "out" / "columns").rglob("*")}


@pytest.mark.parametrize(
    ("options", "peak"),
    [(BuildOptions({"wave": {"gain": 2.0}}), 118.0), (BuildOptions(redo=("wave",)), 59.0)],
    ids=["a changed setting", "--redo"],
)
def test_a_stage_that_is_computed_anew_takes_its_readers_along(toy: ToyProject, options, peak: float) -> None:
    toy.add_stage("length", LENGTH)
    toy.build()
    assert computed(toy.build(options=options)) == {"wave": 4, "peak": 3}
    table = pq.read_table(toy.folder / "out" / "shards" / "train-00000-of-00001.parquet")
    assert table["peak"].to_pylist() == [peak, peak]


def test_a_new_stage_runs_alone(toy: ToyProject) -> None:
    toy.build()
    toy.add_stage("length", LENGTH)
    assert computed(toy.build()) == {"length": 3}  # the clip that wave rejects never reaches it


def test_a_new_clip_moves_no_other_and_a_new_label_repacks_and_recomputes_nothing(toy: ToyProject) -> None:
    toy.build()
    toy.write_clips(["a,4,4.5,left,positive,p,q,train", *ROWS])
    assert computed(toy.build()) == {"wave": 1, "peak": 1}
    toy.write_clips([ROWS[0].replace("positive", "negative"), *ROWS[1:]])
    report = toy.build()
    assert computed(report) == {}
    assert report.shards_written == 1


def test_the_order_of_clips_does_not_change_the_shards(toy: ToyProject) -> None:
    toy.build("one")
    toy.write_clips(ROWS[::-1])
    toy.build("two")
    assert shard_bytes(toy.folder / "one") == shard_bytes(toy.folder / "two") != {}


def test_a_build_that_stops_midway_goes_on_where_it_was(toy: ToyProject) -> None:
    def dies_after_two_parts(job, pipeline, parts):
        for number, done in enumerate(run_here(job, pipeline, parts)):
            if number == 2:
                raise KeyboardInterrupt
            yield done

    build = toy.prepare()
    with pytest.raises(KeyboardInterrupt):
        build.run(build.survey(), dies_after_two_parts)
    assert sum(computed(toy.build()).values()) < 7
    toy.build("undisturbed")
    assert shard_bytes(toy.folder / "out") == shard_bytes(toy.folder / "undisturbed") != {}
    assert list(check_dataset(toy.folder / "out")) == []


def test_a_bug_in_a_stage_fails_that_clip_alone(toy: ToyProject) -> None:
    fault = "assert clip['clip_id'] != 'b_000000_000002', 'boom'\n        "
    toy.add_stage("wave", WAVE.replace("ramp = ", fault + "ramp = ").replace('("source",)', '("source", "clip_id")'))
    report = toy.build()
    assert len(report.after.published) == 2
    stage, row = report.after.missing["b_000000_000002"]
    assert (stage, row.outcome, row.reason) == ("wave", "failed", "AssertionError: boom")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ramp}", "ramp[:-1]}"), "axis 'frame' must have length"),
        (('"wave": self', '"waves": self'), "must return the columns"),
        (('Reject("too_long"', 'Reject("too_wide"'), "which its `rejects` does not list"),
    ],
)
def test_a_stage_that_breaks_its_contract_fails_with_the_contract(toy: ToyProject, change, message) -> None:
    toy.add_stage("wave", WAVE.replace(*change))
    failures = [row.reason for _, row in toy.build().after.missing.values() if row.outcome == "failed"]
    assert failures and all(message in reason for reason in failures)


def test_media_of_a_rejected_run_never_stand_in_the_data_set(toy: ToyProject) -> None:
    toy.add_stage("peak", PEAK.replace("return {", "raise RuntimeError('the file was written')\n        return {"))
    toy.build()
    assert not (toy.folder / "out" / "media").exists()
    assert not (toy.folder / "out" / ".tmp").exists()


def test_a_yield_under_the_minimum_is_reported(toy: ToyProject) -> None:
    toy.write_clips([ROWS[2], *(row.replace("0,2,", f"{n},{n + 8},") for n, row in enumerate([ROWS[3]] * 2))])
    assert not toy.build().enough


def test_a_second_build_of_one_folder_at_the_same_time_is_refused(tmp_path) -> None:
    with locked(tmp_path), pytest.raises(UserError, match="is being built by .* process"), locked(tmp_path):
        pass


def test_a_damaged_data_set_is_found(toy: ToyProject) -> None:
    toy.build()
    root = toy.folder / "out"
    (root / "media" / "a_000000_000001" / "note.txt").unlink()
    (root / "shards" / "ood-00000-of-00001.parquet").write_bytes(b"PAR1")
    (root / "columns" / "wave" / "part-00000.parquet").unlink()
    description = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**description, "missing": []}))
    findings = "\n".join(check_dataset(root))
    found = ("note.txt is missing", "ood-00000-of-00001.parquet: cannot be read", "lacks fingerprint", "disagree")
    assert [text for text in found if text not in findings] == []
