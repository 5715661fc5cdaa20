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
from pipeline.registry import find_stages
from pipeline.store import Store
from tests.reliability.kill_lab import files_of
from tests.toy_build import in_process, shard_bytes

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
        build.run(build.survey(), in_process)


def in_a_process(manifest: Path, out: Path, killed_after_s: float | None) -> int:
    process = multiprocessing.get_context("spawn").Process(target=build, args=(manifest, out))
    process.start()
    try:
        process.join(killed_after_s)
    finally:
        process.kill()
        process.join()
    return process.exitcode or 0


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
    started = time.monotonic()
    assert in_a_process(manifest, calm, None) == 0
    whole_s = time.monotonic() - started
    kills = sum(in_a_process(manifest, killed, chance.uniform(0.3, 1) * whole_s) < 0 for _ in range(KILLS))
    assert in_a_process(manifest, killed, None) == 0
    print(f"{kills} kills, {whole_s:.0f} s undisturbed")
    assert kills
    assert shard_bytes(killed) == shard_bytes(calm) != {}
    assert files_of(killed / "media") == files_of(calm / "media") != {}
    assert read_ledger(Store(killed)) == read_ledger(Store(calm))
    assert not (killed / ".tmp").exists()
    assert list(check_dataset(killed)) == []
