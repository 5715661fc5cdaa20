"""Builds with toy stages: what is computed when, and what every clip's end is."""

from __future__ import annotations

import hashlib
import json

import pyarrow.parquet as pq
import pytest

from pipeline.build import BuildOptions
from pipeline.dataset.check import check_dataset
from pipeline.dataset.lock import locked
from pipeline.dataset.store import Store
from pipeline.ledger.survey import read_ledger
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


def test_a_fingerprint_is_the_hash_of_what_a_stage_is_and_of_its_inputs(toy: ToyProject) -> None:
    toy.add_stage("length", LENGTH)
    build = toy.prepare()
    (task, *_), *_ = (part.clips for part in build.survey().parts)
    prints = build.pipeline.fingerprints(task)
    source = [hashlib.sha256(b"a").hexdigest(), "0", "1"]
    inputs = {"wave": {"source": source}, "peak": {"wave": prints["wave"]}, "length": {"num_frames": 30}}
    for stage, read in inputs.items():
        text = json.dumps({**build.pipeline.identity[stage], "inputs": read}, sort_keys=True)
        assert prints[stage] == hashlib.sha256(text.encode()).hexdigest()[:32]


def test_clips_that_were_added_later_stand_among_the_others(toy: ToyProject) -> None:
    rows = [f"a,{n},{n + 1},left,,p,q,train" for n in range(70)]
    toy.write_clips(rows)
    toy.build("at_once")
    for count in (3, 2, 1):  # every third, then all even ones, then all: parts of different builds among each other
        toy.write_clips(rows[::count])
        toy.build()
    assert shard_bytes(toy.folder / "out") == shard_bytes(toy.folder / "at_once")
    ledgers = [[row | {"part": ""} for row in read_ledger(Store(toy.folder / out))] for out in ("out", "at_once")]
    assert ledgers[0] == ledgers[1] and len(ledgers[0]) == 140
    assert list(check_dataset(toy.folder / "out")) == []


def test_a_new_stage_runs_alone(toy: ToyProject) -> None:
    toy.build()
    toy.add_stage("length", LENGTH)
    assert computed(toy.build()) == {"length": 3}  # the clip that wave rejects never reaches it


def test_a_stage_that_is_opt_in_runs_where_the_manifest_names_it_and_then_alone(toy: ToyProject) -> None:
    toy.add_stage("length", LENGTH.replace("    reads", "    opt_in = True\n    reads"))
    assert computed(toy.build()) == {"wave": 4, "peak": 3}
    before = shard_bytes(toy.folder / "out")
    assert computed(toy.build(options=BuildOptions({"length": {}}))) == {"length": 3}  # an empty [stages.length]
    table = pq.read_table(toy.folder / "out" / "shards" / "train-00000-of-00001.parquet")
    assert table["length"].to_pylist() == [30, 30]
    assert computed(toy.build()) == {} and shard_bytes(toy.folder / "out") == before


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


WARNS = """from pipeline.stage import Stage, Warned
from schemas.column import Column


class Odd(Stage):
    reads = ("wave",)
    writes = (Column("odd", "bool"),)
    warnings = {"odd_start": "begins at no whole second"}

    def process(self, clip):
        odd = clip.clip_id == "a_000001_000003"
        return Warned({"odd": odd}, "odd_start", "at 1.5 s") if odd else {"odd": odd}
"""


def test_a_warning_keeps_the_clip_and_stands_in_its_row_and_in_every_builds_last_lines(toy: ToyProject) -> None:
    toy.add_stage("odd", WARNS)
    for report in (toy.build(), toy.build()):  # the second computes nothing
        assert sorted(report.after.published) == ["a_000000_000001", "a_000001_000003", "b_000000_000002"]
        assert "warning: odd: odd_start in 1 clips: a_000001_000003 (at 1.5 s)" in report.summary()
        assert "one by one" not in report.summary()
    assert list(check_dataset(toy.folder / "out")) == []


def test_a_warning_that_the_stage_does_not_list_is_a_failure(toy: ToyProject) -> None:
    toy.add_stage("odd", WARNS.replace('"odd_start", "at', '"other", "at'))
    stage, row = toy.build().after.missing["a_000001_000003"]
    assert (stage, row.outcome) == ("odd", "failed")
    assert "which its `warnings` does not list" in row.reason


def test_media_of_a_rejected_run_never_stand_in_the_data_set(toy: ToyProject) -> None:
    toy.add_stage("peak", PEAK.replace("return {", "raise RuntimeError('the file was written')\n        return {"))
    toy.build()
    assert not (toy.folder / "out" / "media").exists()
    assert not (toy.folder / "out" / ".tmp").exists()


def test_what_rows_named_that_are_gone_leaves_the_media(toy: ToyProject) -> None:
    toy.add_stage("peak", PEAK.replace("note.txt", "first.txt"))
    toy.build()
    toy.add_stage("peak", PEAK.replace("reads =", "version = 2\n    reads ="))
    toy.build()
    media = toy.folder / "out" / "media"
    assert {path.name for path in media.glob("*/*")} == {"note.txt"}
    turned_away = 'from pipeline.stage import Reject\n        raise Reject("loud", "")\n'
    text = PEAK.replace("reads =", 'version = 3\n    rejects = {"loud": "all are"}\n    reads =')
    toy.add_stage("peak", text.partition("        note =")[0] + f"        {turned_away}")
    toy.build()
    assert not list(media.glob("*/*"))


def test_of_a_clip_that_an_earlier_stage_turns_away_now_later_ones_leave_nothing(toy: ToyProject) -> None:
    toy.add_stage("length", LENGTH)  # reads nothing of the earlier stage
    toy.build()
    text = WAVE.replace("reads =", "version = 2\n    reads =")
    toy.add_stage("wave", text.replace("clip.num_frames > 60", 'clip.clip_id.startswith("b")'))
    toy.build()
    left = {path.parent.name for path in (toy.folder / "out" / "media").glob("*/*")}
    assert left and not any(clip.startswith("b") for clip in left)
    store = Store(toy.folder / "out")
    for stage in ("peak", "length"):
        rows = [store.read_outcomes(stage, path.stem) for path in store.column_files() if path.parent.name == stage]
        assert rows and all(rows) and not any(clip.startswith("b") for of_part in rows for clip in of_part)


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


def test_rows_that_are_lost_while_a_build_runs_are_computed_again_before_it_ends(toy: ToyProject) -> None:
    rounds = []

    def loses_one(job, pipeline, parts):
        rounds.append(len(parts))
        yield from run_here(job, pipeline, parts)
        if len(rounds) == 1:
            Store(job.root).column_file("peak", parts[0].name).unlink()

    report = toy.build(runner=loses_one)
    assert rounds == [4, 1] and len(report.after.published) == 3
    with pytest.raises(RuntimeError, match="part-00000 was computed, and rows are missing"):
        toy.build("nothing", runner=lambda *_: iter(()))
