"""Prediction: whose sound is heard, and which of several runs say something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import predict, train
from pipeline.dataset.read import read_clips, read_description
from schemas.errors import UserError
from stages.train.prediction import Draw, Predictor, best, predict_clip
from stages.train.run_folder import RunFolder
from tests.labs.trainer import CPU, rows_of, trained


def said(root: Path, runs: list[Path], out: Path, *options: str) -> dict[str, np.ndarray]:
    """Clip id -> predicted expression."""
    assert predict.main([*map(str, runs), str(root), "--split", "train", "--out", str(out), *options]) == 0
    return {row["clip_id"]: row["listener_exp"] for row in read_clips(out, ["listener_exp"])}


def test_wrong_audio_is_that_of_another_speaker_and_all_else_stays(root: Path, tmp_path: Path) -> None:
    runs = {inputs: trained(root, tmp_path / inputs, epochs=1, inputs=inputs) for inputs in ("both", "visual")}
    own, another = (said(root, [runs["visual"].root], tmp_path / s, "--sound", s) for s in ("own", "another"))
    assert all(np.array_equal(own[clip], another[clip]) for clip in own)  # it does not listen
    heard = said(root, [runs["both"].root], tmp_path / "said", "--sound", "another")
    assert read_description(tmp_path / "said").predicted.sound == "another"
    predictor = Predictor(runs["both"], CPU.device)
    rows = {row["clip_id"]: row for row in read_clips(root, predictor.run.inputs.columns, ["train"])}
    for clip, row in rows.items():
        from_others = []
        for other in rows.values():
            sound = np.resize(other["acoustic"], row["acoustic"].shape)
            motion = predict_clip([predictor], {**row, "acoustic": sound}, Draw())["listener_exp"]
            from_others += [other["speaker_id"]] if np.array_equal(motion, heard[clip]) else []
        assert len(from_others) == 1 and from_others[0] != row["speaker_id"]


def test_of_several_seeds_those_that_validate_best_are_an_ensemble(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten validated, the best five: Huang et al., section 5.2; here three, and two."""
    few = ("epochs=2", "batch_size=8", "width=8", "hidden=8")
    asked = [str(root), "--listener", "pchg", "--seeds", "3", "--num-workers", "0", "--out", str(tmp_path / "runs")]
    assert train.main([*asked, *(word for setting in few for word in ("--set", setting))]) == 0
    runs = sorted((tmp_path / "runs").glob("seed-*"))
    losses = [min(row["validation"] for row in rows_of(RunFolder(run))) for run in runs]
    assert [run.name for run in runs] == ["seed-00", "seed-01", "seed-02"] and len(set(losses)) == 3
    two = [runs[i] for i in np.argsort(losses)[:2]]
    chosen, expected = (said(root, some, tmp_path / str(len(some)), "--best", "2") for some in (runs, two))
    assert all(np.array_equal(chosen[clip], expected[clip]) for clip in expected)
    assert f"the best of 3: {two[0].name}, {two[1].name}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"held_out": "none"}, "nothing validated this run"), ({"validation_share": 0.3}, "held-out clips differ")],
)
def test_runs_whose_validation_says_nothing_about_each_other_are_not_chosen_from(
    settings: dict[str, Any], said: str, root: Path, tmp_path: Path
) -> None:
    folders = [trained(root, tmp_path / "one", epochs=1), trained(root, tmp_path / "two", epochs=1, **settings)]
    with pytest.raises(UserError, match=said):
        best([Predictor(folder, CPU.device) for folder in folders], 1)
