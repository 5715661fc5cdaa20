"""Real clips through real stages, killed at random moments: media, columns and shards come out as if undisturbed."""

from __future__ import annotations

import multiprocessing
import random
import secrets
import time
from pathlib import Path

import pytest

from pipeline.build import Build, BuildOptions
from pipeline.check import check_dataset
from pipeline.ledger import read_ledger
from pipeline.lock import locked
from pipeline.manifest import load_manifest
from pipeline.part import run_here
from pipeline.registry import find_stages
from pipeline.store import Store
from tests.reliability.kill_lab import files_of
from tests.toy_build import shard_bytes

KILLS = 3
MANIFEST = """[dataset]
name = "killed"
clips = "clips.csv"
stages = ["clip", "acoustic", "landmarks"]
[[sources]]
id = "grid_pair1"
path = "{media}/a_dyadic/grid_pair1_bbaf2n_brbk7n.mp4"
licence = "CC BY 4.0 (GRID corpus)"
"""
CLIPS = """source,start_s,end_s,speaker_side,attitude,speaker_id,listener_id,split
grid_pair1,0,3,left,neutral,p,q,train
grid_pair1,3,6,right,neutral,q,p,train
"""


def build(manifest: Path, out: Path) -> None:
    with locked(out):
        build = Build(load_manifest(manifest), out, find_stages(), BuildOptions())
        build.run(build.survey(), run_here)


def in_a_process(manifest: Path, out: Path, kill_after: int | None = None) -> int:
    """Build; kill the build when it has written so many lines to its diaries. Returns its exit status."""
    process = multiprocessing.get_context("spawn").Process(target=build, args=(manifest, out))
    before = diary_lines(out)
    process.start()
    try:
        while kill_after is not None and process.is_alive() and diary_lines(out) < before + kill_after:
            time.sleep(0.02)
        if kill_after is None:
            process.join()
    finally:
        process.kill()
        process.join()
    return process.exitcode or 0


def diary_lines(out: Path) -> int:
    return sum(path.read_text().count("\n") for path in (out / "ledger" / "attempts").glob("*.jsonl"))


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.timeout(900)  # builds real clips twice and more, beside others on a shared machine
def test_real_clips_that_are_killed_at_random_moments_come_out_as_if_undisturbed(tmp_path, shared) -> None:
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    manifest, calm, killed = tmp_path / "killed.toml", tmp_path / "calm", tmp_path / "out"
    manifest.write_text(MANIFEST.format(media=(shared / "media").resolve()))
    (tmp_path / "clips.csv").write_text(CLIPS)
    assert in_a_process(manifest, calm) == 0
    whole = diary_lines(calm)  # half of them stand when the first part's files do
    kills = sum(in_a_process(manifest, killed, chance.randint(1, whole * 2 // 3)) < 0 for _ in range(KILLS))
    assert in_a_process(manifest, killed) == 0
    assert kills  # the first at least; a build that has finished is left alone
    assert shard_bytes(killed) == shard_bytes(calm) != {}
    assert files_of(killed / "media") == files_of(calm / "media") != {}
    assert read_ledger(Store(killed)) == read_ledger(Store(calm))
    assert not (killed / ".tmp").exists()
    assert list(check_dataset(killed)) == []
