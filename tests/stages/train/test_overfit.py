"""A listener can learn one real clip by heart: its motion loss falls to a tenth and less."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from tests.labs.toy_build import build_own_stages
from tests.labs.trainer import rows_of, trained

CLIP = SHARED / "media" / "vico" / "cte53x3i02lo.mp4"
ONE_CLIP = f"""
dataset = {{name = "one_clip", clips = "clips.csv"}}
[[sources]]
id = "cte53x3i02lo"
path = "{CLIP.resolve()}"
licence = "ViCo: non-commercial research and education"
"""
CSV = """source,start_s,end_s,speaker_side,attitude,speaker_id,listener_id,split
cte53x3i02lo,0,3,left,positive,a,b,train
"""

FREE = {"dropout": 0.0, "weight_decay": 0.0}
WHOLE = {**FREE, "window_frames": 90, "batch_size": 1}  # an epoch is a step
THIRDS = {**FREE, "window_frames": 30, "stride_frames": 30, "batch_size": 3}  # as well
SETTINGS: dict[str, dict[str, Any]] = {
    "vico_lstm": {**WHOLE, "epochs": 300, "learning_rate": 5e-3, "decay_epochs": 1000},
    "pchg": {**WHOLE, "epochs": 600, "width": 128, "hidden": 128},
    "hsp": {
        **THIRDS, "epochs": 320, "learning_rate": 5e-3, "clip_norm": 1.0, "audio_width": 2, "width": 128, "hidden": 128,
    },
    "elp": {
        **THIRDS, "epochs": 450, "learning_rate": 3e-3, "heads": 32, "codes": 16, "width": 48, "audio_width": 8,
        "audio_outputs": 32, "channels": 8,
    },
    "mfr": {
        **FREE, "epochs": 400, "learning_rate": 3e-3, "window_frames": 60, "stride_frames": 1, "min_frames": 60,
        "batch_size": 12, "width": 128, "layers": 2, "heads": 4, "steps": 100,  # an epoch is three steps, then a file
    },
}  # fmt: skip
MOTION = {"vico_lstm": ("exp", "pose"), "elp": ("motion",), "mfr": ("noise",)}  # terms of the loss; of the others:
BOTH = ("expression", "pose")
LAST = 30  # epochs over which the end is taken: elp and mfr draw noise in each


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of one real clip of three seconds."""
    if not CLIP.is_file():
        pytest.skip(f"{CLIP} is not here")
    root = tmp_path_factory.mktemp("one")
    (root / "one.toml").write_text(ONE_CLIP)
    (root / "clips.csv").write_text(CSV)
    build_own_stages(root / "one.toml", root / "data")
    return root / "data"


@pytest.mark.slow
@pytest.mark.timeout(900)  # hsp: one and a half minutes of a core that has nothing else to do
@pytest.mark.parametrize("name", SETTINGS)
def test_one_clip_is_learned_by_heart(name: str, clip: Path, tmp_path: Path) -> None:
    rows = rows_of(trained(clip, tmp_path / name, name, **SETTINGS[name]))
    losses = [sum(row[term] for term in MOTION.get(name, BOTH)) for row in rows]
    first, last = losses[0], sum(losses[-LAST:]) / LAST
    print(f"{name}: from {first:.3f} to {last:.3f}, {last / first:.1%}")
    assert last < 0.1 * first, f"{name}: from {first:.3f} to {last:.3f}"
