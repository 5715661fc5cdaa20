"""A listener can learn one real clip by heart: its motion loss falls to a tenth and less."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from tests.trainer_lab import rows_of, trained

PROJECT = Path(__file__).resolve().parents[3]
CLIP = SHARED / "media" / "vico" / "cte53x3i02lo.mp4"
ONE_CLIP = """
[dataset]
name = "one_clip"
clips = "clips.csv"
[[sources]]
id = "cte53x3i02lo"
path = "{path}"
licence = "ViCo: non-commercial research and education"
"""
CSV = """source,start_s,end_s,speaker_side,attitude,speaker_id,listener_id,split
cte53x3i02lo,0,5,left,positive,a,b,train
"""

WHOLE = {"window_frames": 150, "batch_size": 1, "dropout": 0.0, "weight_decay": 0.0}  # an epoch is a step
SETTINGS: dict[str, dict[str, Any]] = {
    "vico_lstm": {**WHOLE, "epochs": 400, "learning_rate": 5e-3, "decay_epochs": 1000},
    "pchg": {**WHOLE, "epochs": 600, "width": 128, "hidden": 128},
}
MOTION = {"vico_lstm": ("exp", "pose"), "pchg": ("expression", "pose")}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of one real clip of five seconds."""
    if not CLIP.is_file():
        pytest.skip(f"{CLIP} is not here")
    root = tmp_path_factory.mktemp("one")
    (root / "one.toml").write_text(ONE_CLIP.format(path=CLIP.resolve()))
    (root / "clips.csv").write_text(CSV)
    command = [sys.executable, "-m", "jobs.build", str(root / "one.toml"), "--out", str(root / "data")]
    subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
    return root / "data"


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_one_clip_is_learned_by_heart(name: str, clip: Path, tmp_path: Path) -> None:
    rows = rows_of(trained(clip, tmp_path / name, name, **SETTINGS[name]))
    first, last = (sum(row[term] for term in MOTION[name]) for row in (rows[0], rows[-1]))
    assert last < 0.1 * first, f"{name}: from {first:.3f} to {last:.3f}"
