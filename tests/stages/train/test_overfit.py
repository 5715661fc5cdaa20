"""Every learned listener of this project can learn one clip by heart: its motion loss falls to a tenth and less."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from tests.synthetic_world import World
from tests.trainer_lab import rows_of, trained

PROJECT = Path(__file__).resolve().parents[3]
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

COMMON = {"window_frames": 60, "stride_frames": 2, "min_frames": 60, "batch_size": 8, "dropout": 0.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "pchg": {"epochs": 60, "width": 128, "hidden": 96, "layers": 4},
    "hsp": {"epochs": 60, "learning_rate": 3e-3, "audio_width": 2, "width": 48, "hidden": 64},
    "elp": {
        "epochs": 60, "learning_rate": 3e-3, "heads": 16, "codes": 16, "width": 48, "audio_width": 4,
        "audio_outputs": 32, "channels": 8,
    },
    "mfr": {"epochs": 100, "learning_rate": 2e-3, "width": 128, "layers": 2, "heads": 4, "steps": 100},
}  # fmt: skip
MOTION = {"pchg": ("expression", "pose"), "hsp": ("expression", "pose"), "elp": ("motion",), "mfr": ("noise",)}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of one clip: a real one of five seconds or, where ../shared is absent, one of the synthetic world."""
    root = tmp_path_factory.mktemp("one")
    if not SHARED.is_dir():
        return World(clips={"train": 1}).write(root / "data")
    (root / "one.toml").write_text(ONE_CLIP.format(path=SHARED / "media" / "vico" / "cte53x3i02lo.mp4"))
    (root / "clips.csv").write_text(CSV)
    command = [sys.executable, "-m", "jobs.build", str(root / "one.toml"), "--out", str(root / "data")]
    subprocess.run(command, cwd=PROJECT, capture_output=True, check=True)
    return root / "data"


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_one_clip_is_learned_by_heart(name: str, clip: Path, tmp_path: Path) -> None:
    rows = rows_of(trained(clip, tmp_path / name, name, **COMMON, **SETTINGS[name]))
    first, last = (sum(row[term] for term in MOTION[name]) for row in (rows[0], rows[-1]))
    assert last < 0.1 * first, f"{name}: from {first:.3f} to {last:.3f}"
