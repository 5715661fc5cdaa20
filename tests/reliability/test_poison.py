"""Clips that take a stage down: each ends in the ledger after a bounded number of attempts and costs no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.build import BuildOptions, Runner
from pipeline.dataset.check import check_dataset
from pipeline.dataset.storage import Location
from pipeline.dataset.store import Store
from pipeline.ledger.diary import read_diary
from pipeline.ledger.report import RunReport
from pipeline.ledger.survey import Survey, read_ledger
from pipeline.part import run_here
from pipeline.processes import run_parts
from tests.labs.toy_build import ROWS, ToyProject, computed

VICTIM = "b_000000_000002"
LIMITS = {"stage_s": 60.0, "frame_s": 0.0, "memory_gb": 0.4}
SHORT = {"stage_s": 2.0}  # for what never ends; good stages take milliseconds
POISON = '''"""Does something bad on one clip."""
import ctypes, os, re, signal, sys, time
import numpy as np
from pipeline.stage import Stage
from schemas.column import Column


class Unprintable(Exception):
    def __init__(self, first, second):  # pickle cannot make it again
        self.lock = __import__("threading").Lock()

    def __str__(self):
        raise RuntimeError("not even that")


class Poison(Stage):
    reads = ("clip_id",)
    writes = (Column("poison", "float32", ("frame", 2)), Column("words", "string"))

    def process(self, clip):
        good = {"poison": np.zeros((clip.num_frames, 2), np.float32), "words": "fine"}
        if clip.clip_id == "VICTIM":
            DEED
        return good
'''
SEGFAULT = "ctypes.string_at(0)"
OUT_OF_MEMORY = "hog = [np.ones(10**7) for _ in range(10**4)]"
ENDLESS_IN_C = "re.match(r'(a+)+$', 'a' * 60 + 'b')"  # never lets another thread of the process run


def poisoned(folder: Path, deed: str, rows: tuple[str, ...] = ROWS) -> ToyProject:
    toy = ToyProject(folder)
    toy.write_clips(rows)
    toy.add_stage("poison", POISON.replace("DEED", deed).replace("VICTIM", VICTIM))
    return toy


def build(toy: ToyProject, out: str | Location = "out", **limits: float) -> RunReport:
    return toy.build(out, BuildOptions({"limits": {**LIMITS, **limits}}), run_parts)


def lost_alone(report: RunReport, root: Location, outcome: str, reason: str) -> None:
    """The victim is missing with this outcome and reason, and no other clip is."""
    stage, row = report.after.missing[VICTIM]
    assert (stage, row.outcome) == ("poison", outcome)
    assert reason in row.reason
    assert len(report.after.published) == 2
    assert list(check_dataset(root)) == []


def takes_its_worker_down(toy: ToyProject, root: Location, outcome: str, reason: str) -> None:
    """A build of the toy ends so, with two attempts at the victim."""
    lost_alone(build(toy, root, **(SHORT if outcome == "timed_out" else {})), root, outcome, reason)
    lines = [line for path in (root / "ledger" / "attempts").glob("*.jsonl") for line in read_diary(path)]
    assert sum((line["event"], line["stage"], line["clip"]) == ("start", "poison", VICTIM) for line in lines) == 2
    assert computed(build(toy, root)) == {}  # and it is not tried again by itself


@pytest.mark.parametrize(
    ("deed", "outcome", "reason"),
    [
        (SEGFAULT, "crashed", "died 2 times"),
        (OUT_OF_MEMORY, "out_of_memory", "more than 0.4 GB, 2 times"),
        (ENDLESS_IN_C, "timed_out", "no end after 2 s, 2 times"),
    ],
    ids=["segfault", "memory", "endless loop in C"],
)
def test_a_clip_that_takes_its_worker_down_is_tried_twice_and_costs_no_other(tmp_path, deed, outcome, reason) -> None:
    takes_its_worker_down(poisoned(tmp_path, deed), tmp_path / "out", outcome, reason)


@pytest.mark.parametrize(
    ("deed", "outcome", "reason"),
    [
        ("good['poison'] = good['poison'][:-1]", "failed", "must have length 60, found 59"),
        ("good['poison'] = good['poison'].astype(complex)", "failed", "expected float32, found complex"),
        ("good['poison'] = [[1.0], [2.0, 3.0]]", "failed", "inhomogeneous"),
        ("good['poison'] = None; good['words'] = 12", "failed", "words"),
        ("good['words'] = chr(0xD800)", "failed", "words"),
        ("good['words'] = object()", "failed", "words"),
        ("del good['words']", "failed", "must return the columns"),
        ("good[3] = 4", "failed", "must return the columns"),
        ("good = None", "failed", "found NoneType"),
        ("raise Unprintable(1, 2)", "failed", "Unprintable: an error that cannot be printed"),
        ("raise ValueError(chr(0xD800))", "failed", r"ValueError: \ud800"),
        ("sys.exit('I leave')", "failed", "SystemExit: I leave"),
        ("raise MemoryError('no 3 TB here')", "out_of_memory", "no 3 TB here"),
        ("np.zeros(10**14) + 1", "out_of_memory", "Unable to allocate"),
        ("def deeper(): deeper()\n            deeper()", "failed", "RecursionError"),
    ],
)
def test_garbage_fails_its_clip_alone(tmp_path, deed: str, outcome: str, reason: str) -> None:
    lost_alone(poisoned(tmp_path, deed).build(), tmp_path / "out", outcome, reason)


BATCHED = POISON.replace("def process(self, clip):", "def process_part(self, clips):").replace(
    'good = {"poison"',
    'return [self.one(clip) for clip in clips]\n\n    def one(self, clip):\n        good = {"poison"',
)
PAIRS = [f"a,{n},{n + 1},left,,p,q,train" for n in range(65)]  # one more than parts at a time: parts of two clips


def first_batch(folder: Path, stage: str, runner: Runner) -> RunReport:
    """A build of the first part alone, which is two clips."""
    toy = ToyProject(folder)
    toy.write_clips(PAIRS)
    toy.add_stage("poison", stage)
    prepared = toy.prepare()
    part = prepared.survey().todo[0]
    assert [task.row.clip_id for task in part.clips] == ["a_000000_000001", "a_000001_000002"]
    return prepared.run(Survey([part], {}, todo=[part]), runner)


@pytest.mark.parametrize(
    ("deed", "outcome", "runner"),
    [
        (SEGFAULT, "crashed", run_parts),
        ("raise ValueError('boom')", "failed", run_here),
        ("return None", "failed", run_here),
    ],
    ids=["segfault", "error", "rubbish"],
)
def test_a_bad_clip_in_a_batch_costs_no_other_clip_of_the_batch(tmp_path, deed: str, outcome: str, runner) -> None:
    first_batch(tmp_path, BATCHED.replace("DEED", deed).replace("VICTIM", "a_000000_000001"), runner)
    ledger = read_ledger(Store(tmp_path / "out"))
    rows = {row["clip_id"]: row["outcome"] for row in ledger if row["stage"] == "poison"}
    assert rows == {"a_000000_000001": outcome, "a_000001_000002": "ok"}


def test_a_batch_that_fails_although_each_clip_is_well_is_told_with_its_traceback(tmp_path) -> None:
    broken = "assert len(clips) == 1, 'no memory for two'\n        return [self.one"
    report = first_batch(tmp_path, BATCHED.replace("return [self.one", broken), run_here)
    rows = [row for row in read_ledger(Store(tmp_path / "out")) if row["stage"] == "poison"]
    assert [row["outcome"] for row in rows] == ["ok", "ok"]
    assert all("in process_part" in row["detail"] and "no memory for two" in row["reason"] for row in rows)
    warning = "warning: poison computed 2 clips one by one, which is slow, because their batches failed: AssertionError"
    assert warning in report.summary()


@pytest.mark.parametrize(
    ("deed", "message"),
    [
        ("os._exit(1)", "ended 2 worker processes: crashed"),
        ("time.sleep(10**6)", "ended 2 worker processes: timed_out"),
    ],
)
def test_a_stage_that_cannot_be_set_up_ends_the_build_and_blames_no_clip(tmp_path, deed: str, message: str) -> None:
    toy = poisoned(tmp_path, "pass")
    toy.add_stage("poison", toy.stages["poison"].read_text() + f"\n    def setup(self, device):\n        {deed}\n")
    with pytest.raises(RuntimeError, match=message):
        build(toy, **SHORT)
    toy.add_stage("poison", POISON)
    assert len(build(toy).after.published) == 3


def test_a_stage_has_more_time_for_a_longer_clip(tmp_path) -> None:
    toy = poisoned(tmp_path, "time.sleep(1.5)")
    assert VICTIM in build(toy, stage_s=0.5, frame_s=1.0).after.published


def test_a_clip_that_takes_the_whole_run_down_is_given_up_after_so_many_runs(tmp_path) -> None:
    """The driver dies with the worker, as when a machine runs out of memory: no run sees a second attempt."""
    toy = poisoned(tmp_path, "raise KeyboardInterrupt")
    limits = BuildOptions({"limits": {"attempts_in_all": 3}})
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            toy.build(options=limits)
    stage, row = toy.build(options=limits).after.missing[VICTIM]
    assert (stage, row.outcome) == ("poison", "crashed")
    assert row.reason == "the worker process died 3 times in all runs on this clip"
    toy.add_stage("poison", POISON.replace("DEED", "pass").replace("    reads", "    version = 2\n    reads"))
    assert VICTIM in toy.build(options=limits).after.published  # a mended stage starts with a clean slate


def test_limits_change_no_fingerprint(tmp_path) -> None:
    toy = poisoned(tmp_path, "pass")
    toy.build()
    assert computed(toy.build(options=BuildOptions({"limits": {"stage_s": 5, "memory_gb": 1}}))) == {}
    assert "limits" not in json.loads((tmp_path / "out" / "dataset.json").read_text())["stages"]
