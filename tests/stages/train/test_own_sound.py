"""Whose sound a run hears: both people's, or the own one of the person who is not predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset.read import read_clips
from schemas.errors import UserError
from stages.train.corpus import open_corpus
from stages.train.inputs import MIX, OWN, inputs_of
from stages.train.prediction import Draw, Predictor, predict_clip
from tests.labs.trainer import CPU, changed, small_set, trained

EXTRA = ("log_mel", "token_embedding", "listener_blink")


@pytest.fixture(scope="module")
def sounding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random numbers, also of each person's own sound."""
    stages = ("sounds", "spectrogram")
    return small_set(tmp_path_factory.mktemp("sounding") / "data", clips=8, frames=500, stages=stages)


def test_what_is_heard_is_of_both_by_default_and_else_of_the_one_who_is_not_predicted(sounding: Path) -> None:
    found = {
        (role, sound): open_corpus([sounding], inputs_of([sounding], "paper70", EXTRA, role, sound), ["train"]).arrays
        for role in ("speaker", "listener")
        for sound in (MIX, OWN)
    }
    names = [f"{whose}{name}" for whose in ("", "speaker_", "listener_") for name in ("acoustic", "log_mel")]
    rows = list(read_clips(sounding, [*names, "listener_blink"], ["train"]))
    for (role, sound), arrays in found.items():
        other = {"speaker": "listener_", "listener": "speaker_"}[role] if sound == OWN else ""
        for name, column in (("audio", "acoustic"), ("log_mel", "log_mel")):
            np.testing.assert_array_equal(arrays[name][:-1], np.concatenate([row[f"{other}{column}"] for row in rows]))
        np.testing.assert_array_equal(
            arrays["listener_blink"][:-1], np.concatenate([r["listener_blink"] for r in rows])
        )
    assert len({arrays["token_embedding"].tobytes() for arrays in found.values()}) == 3  # both hear the same mix


@pytest.mark.slow
def test_a_run_of_ones_own_sound_predicts_from_that_and_from_no_other(sounding: Path, tmp_path: Path) -> None:
    folder = trained(sounding, tmp_path / "run", epochs=1, sound=OWN)
    predictor = Predictor(folder, CPU.device)
    assert predictor.run.inputs.own == ("acoustic",)
    predictor.check(sounding)
    row = next(read_clips(sounding, [*predictor.run.inputs.columns, "acoustic"], ["test"]))
    said = [
        predict_clip([predictor], {**row, **heard}, Draw())["listener_exp"]
        for heard in ({}, {"acoustic": row["acoustic"] + 1}, {"speaker_acoustic": row["speaker_acoustic"] + 1})
    ]
    np.testing.assert_array_equal(said[0], said[1])
    assert not np.array_equal(said[0], said[2])
    with pytest.raises(UserError, match="clip .* has no sound of the speaker alone; train with --set sound=mix"):
        predict_clip([predictor], {**row, "speaker_acoustic": None}, Draw())


def test_a_data_set_without_sounds_of_ones_own_is_refused_with_what_to_do(sounding: Path, tmp_path: Path) -> None:
    plain = small_set(tmp_path / "plain", clips=8, frames=500)
    with pytest.raises(UserError, match="found no column speaker_acoustic; name each person's sound in the manifest"):
        inputs_of([plain], "paper70", (), sound=OWN)
    folder = trained(sounding, tmp_path / "run", epochs=1, sound=OWN)
    with pytest.raises(UserError, match="found no column speaker_acoustic"):
        Predictor(folder, CPU.device).check(plain)
    silent = changed(sounding, tmp_path / "silent", "speaker_acoustic", lambda value: None)
    with pytest.raises(UserError, match="has no sound of the speaker alone"):
        trained(silent, tmp_path / "none", epochs=1, sound=OWN)
