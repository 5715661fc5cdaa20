"""The presets of elp, hsp and mfr from a data set with their columns to predictions, and what is said without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.predict import main as predict
from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import read_clips
from schemas.errors import UserError
from tests.labs.trainer import planned, rows_of, small_set, trained
from tests.stages.train.conftest import SMALL

FITTERS = {"landmark_gn": "paper70", "tddfa_v2": "baseline73"}  # the latter's crop moves from frame to frame
ABLATIONS = [
    ("elp", "", {"space": "shared", "heads": 5}),
    ("hsp", "", {"audio_encoder": "baseline"}),
    ("hsp", "", {"visual_encoder": False, "text_encoder": False}),
    ("mfr", "paper", {"aggregation": "concat"}),
    ("mfr", "paper", {"diffusion": False}),
]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, stages = tmp_path_factory.mktemp("presets"), ("spectrogram", "face_identity")
    return {fitter: small_set(folder / fitter, 8, 500, fitter=fitter, stages=stages) for fitter in FITTERS}


@pytest.mark.parametrize("fitter", FITTERS)
@pytest.mark.parametrize(
    ("name", "preset", "settings"), [*((n, "paper", {}) for n in ("elp", "hsp", "mfr")), *ABLATIONS]
)
def test_a_preset_or_an_ablation_is_trained_and_predicts(
    name: str, preset: str, settings: dict[str, object], fitter: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    two_steps = {"epochs": 2, "batch_size": 64, "iterations": 2}
    folder = trained(roots[fitter], tmp_path / "run", name, preset, **{**SMALL[name], **two_steps, **settings})
    assert folder.read().inputs.order == FITTERS[fitter]
    assert [row["epoch"] for row in rows_of(folder)] == [1.0, 2.0]  # a step each
    said = tmp_path / "said"
    assert predict([str(folder.root), str(roots[fitter]), "--out", str(said)]) == 0
    assert list(check_dataset(said)) == []
    parts = ["exp", "angle", "trans", *(["crop"] if FITTERS[fitter] == "baseline73" else [])]
    for row in read_clips(said, [f"listener_{part}" for part in parts]):
        assert all(np.isfinite(row[f"listener_{part}"]).all() for part in parts)


@pytest.mark.parametrize(
    ("name", "column", "stage"),
    [("hsp", "log_mel", "spectrogram"), ("mfr", "listener_face_identity", "face_identity")],
)
def test_a_preset_whose_column_is_missing_says_which_stage_makes_it(
    name: str, column: str, stage: str, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"no column {column}; .*\[stages\.{stage}\]"):
        planned(root, tmp_path / "run", name, "paper")
