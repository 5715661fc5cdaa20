"""Real clips through real stages, killed at random moments: nothing is lost, nothing that is whole is done again."""

from __future__ import annotations

import math
import random
import secrets
import shutil
import time
from collections import Counter
from itertools import takewhile
from pathlib import Path

import pytest

from pipeline.dataset.lock import locked
from pipeline.ledger.diary import read_diary
from tests.labs.kill import FORKED, as_if_undisturbed, files_of, settled
from tests.labs.toy_build import build_own_stages, write_manifest

KILLS = 50
KILLS_A_LIFE = 8  # of one data set; a clip that is in work at the tenth would be given up
LATER_S = 0.5  # at most, after the moment that the diaries tell: within a stage, a file, a rename
STAGES = 'stages = ["clip", "acoustic", "landmarks"]\n'
FILM = "media/a_dyadic/grid_pair1_bbaf2n_brbk7n.mp4"  # CC BY 4.0 (GRID corpus)
HEAVY = ("torch", "mediapipe.python.solutions.face_mesh", "scipy.signal", "pyloudnorm", "soxr")
CLIPS = [f"grid_pair1,{second},{second + 1},left,neutral,p,q,train" for second in range(6)]


def build(manifest: Path, out: Path) -> None:
    with locked(out):
        build_own_stages(manifest, out)


def build_and_kill(manifest: Path, out: Path, after: float = math.inf, later_s: float = 0.0) -> int:
    """Build in a process of its own; kill it when it has written so many lines to the diaries, and a bit later.

    Returns its exit status. Nothing that stood in a whole file before is begun again.
    """
    whole, before = settled(out), begun(out)
    process = FORKED.Process(target=build, args=(manifest, out))
    process.start()
    try:
        while process.is_alive() and begun(out).total() < before.total() + after:
            time.sleep(0.02)
        process.join(later_s)
    finally:
        process.kill()
        process.join()
    assert not (begun(out) - before).keys() & whole.keys()
    return process.exitcode or 0


def begun(out: Path) -> Counter[tuple[str, str]]:
    """(stage, clip) -> how often the one began to work on the other."""
    lines = [line for diary in (out / "ledger" / "attempts").glob("*.jsonl") for line in read_diary(diary)]
    return Counter((line["stage"], line["clip"]) for line in lines if line["event"] == "start" and line["clip"])


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.timeout(2400)  # some sixty starts of all models
def test_fifty_kills_of_real_clips_lose_nothing_and_repeat_nothing(tmp_path: Path, shared: Path) -> None:
    FORKED.set_forkserver_preload(["tests.reliability.test_kill_examples", *HEAVY])  # if it does not run yet
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    chance, kills, lives = random.Random(seed), 0, 0
    manifest = write_manifest(tmp_path / "killed.toml", {"grid_pair1": str((shared / FILM).resolve())}, CLIPS, STAGES)
    calm = tmp_path / "calm"
    assert build_and_kill(manifest, calm) == 0
    steps = begun(calm).total()
    while kills < KILLS:
        out = tmp_path / f"killed-{lives}"
        lives += 1
        moments = ((chance.randint(1, steps // 4), chance.uniform(0, LATER_S)) for _ in range(KILLS_A_LIFE))
        statuses = (build_and_kill(manifest, out, *moment) for moment in moments)
        kills += sum(1 for _ in takewhile(lambda status: status < 0, statuses))
        assert build_and_kill(manifest, out) == 0
        as_if_undisturbed(out, calm)
        assert files_of(out / "media") != {}
        shutil.rmtree(out)
    print(f"{kills} kills of {lives} data sets")
