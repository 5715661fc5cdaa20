"""Coefficients of other people's trackers: listeners learn them and say them again, under their own names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs import evaluate, predict
from jobs.study.random_set import Extent, write_random_set
from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import provenance_of, read_clips
from schemas.coefficients import MixedCoefficientsError
from schemas.errors import UserError
from stages.train.inputs import inputs_of
from tests.labs.trainer import small_set, trained


def data_of(root: Path, space: str, *parts: str) -> Path:
    """A data set of random numbers in a tracker's space."""
    (root / "own").mkdir(parents=True)
    (root / "own" / "file").write_text("stands for a tracker's files")
    settings = {"folder": f"{root}/own", "space": space, "fps": 30.0, "parts": parts}
    write_random_set(root / "data", Extent(8, 700, people=4), {"coefficients": settings})
    return root / "data"


@pytest.mark.slow
def test_a_listener_of_flame_predicts_flame_and_is_scored(tmp_path, capsys) -> None:
    data = data_of(tmp_path, "flame")
    run = trained(data, tmp_path / "run", epochs=1)
    assert run.read().settings["order"] == "exp_pose"
    predicted, out = tmp_path / "predicted", tmp_path / "scores"
    assert predict.main([str(run.root), str(data), "--split", "test", "--out", str(predicted)]) == 0
    assert list(check_dataset(predicted)) == []
    assert provenance_of(predicted) == provenance_of(data) and provenance_of(data).fitter == "flame"
    for row in read_clips(predicted, ["listener_exp", "listener_pose"]):
        assert row["listener_exp"].shape == (row["num_frames"], 50)
        assert row["listener_pose"].shape == (row["num_frames"], 6)
        assert np.isfinite(row["listener_pose"]).all()
    words = ["--reference", str(data), "--split", "test", "--predicted", str(predicted), "--out", str(out)]
    assert evaluate.main([*words, "--metrics", "mse_exp_per_clip", "frcorr_exp_react", "--address", "none"]) == 0
    assert "mse_exp_per_clip" in capsys.readouterr().out


def test_numbers_of_two_spaces_are_not_learned_together(tmp_path) -> None:
    ours = small_set(tmp_path / "ours", clips=8, frames=700)
    with pytest.raises(MixedCoefficientsError, match=r"bfm version 1.*landmark_gn version"):
        inputs_of([data_of(tmp_path / "bfm", "bfm"), ours], "paper70", ())


def test_a_listener_of_expression_and_head_refuses_expressions_alone(tmp_path) -> None:
    data = data_of(tmp_path, "arkit")
    with pytest.raises(UserError, match="without the head's motion"):
        trained(data, tmp_path / "run", "hsp", epochs=1)


@pytest.mark.slow
@pytest.mark.parametrize("listener", ["pchg", "hsp", "elp"])
def test_every_listener_without_an_identity_learns_flame(listener: str, tmp_path) -> None:
    trained(data_of(tmp_path, "flame"), tmp_path / "run", listener, epochs=1)
