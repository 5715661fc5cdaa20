"""The talking head: a run that predicts the speaker, from the sound and the first frame alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jobs import predict, train
from pipeline.dataset.read import read_clips, read_description
from schemas.column import SPEAKER, both
from stages.train.prediction import Draw, Predictor, predict_clip
from stages.train.run_folder import RunFolder
from tests.labs.synthetic_world import MOUTH, World
from tests.labs.trainer import CPU, changed, trained

SMALL = ("width=32", "hidden=24", "layers=1", "dropout=0", "members=0", "held_out=none", "batch_size=32")
WORLD = World({"train": 64, "test": 6, "ood": 6}, people=30)
LEAD = 0.3  # in correlation, of the own sound over another's; chosen before anything was trained


def command(*words: object) -> int:
    return train.main([*map(str, words), "--num-workers", "0"])


def few(*settings: str) -> list[str]:
    return [word for setting in (*SMALL, *settings) for word in ("--set", setting)]


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A speaker's driver of a few steps, on random numbers."""
    out = tmp_path_factory.mktemp("speaker") / "run"
    assert command(root, "--listener", "pchg", "--role", SPEAKER, "--out", out, *few("epochs=1")) == 0
    return out


def test_lips_move_with_the_sound_and_not_with_another_clips(tmp_path: Path) -> None:
    """In the synthetic world mouths move while words are said; clips and people of the tests are new to the driver."""
    data, run = WORLD.write(tmp_path / "data"), tmp_path / "run"
    asked = few("epochs=14", "learning_rate=0.02", "batch_size=16")
    assert command(data, "--listener", "pchg", "--role", SPEAKER, "--out", run, *asked) == 0
    truth = {row["clip_id"]: row["speaker_exp"] for row in read_clips(data, ["speaker_exp"])}
    found = {}
    for sound in ("own", "another"):
        out = tmp_path / sound
        assert predict.main([*map(str, (run, data, "--split", "test", "ood", "--sound", sound, "--out", out))]) == 0
        said = {row["clip_id"]: row["speaker_exp"] for row in read_clips(out, ["speaker_exp"])}
        moves = [(exp[:, MOUTH].mean(axis=1), truth[clip][:, MOUTH].mean(axis=1)) for clip, exp in said.items()]
        found[sound] = np.mean([np.corrcoef(*pair)[0, 1] for pair in moves])
    assert found["own"] > 0.5, found
    assert found["own"] > found["another"] + LEAD, found


def test_a_speakers_driver_hears_the_sound_and_sees_one_frame_and_no_listener(root: Path, run: Path) -> None:
    predictor = Predictor(RunFolder(run), CPU.device)
    row = next(read_clips(root, predictor.run.inputs.columns, ["train"]))
    said = predict_clip([predictor], row, Draw())
    assert sorted(said) == ["speaker_angle", "speaker_exp", "speaker_trans"]

    def again(**others: np.ndarray) -> bool:
        return np.array_equal(predict_clip([predictor], {**row, **others}, Draw())["speaker_exp"], said["speaker_exp"])

    first = int(np.flatnonzero(row["speaker_coeffs_valid"])[0])
    later = np.where(np.arange(row["num_frames"])[:, None] > first, 9.0, row["speaker_exp"])
    assert again(speaker_exp=later, **{name: row[name] + 1 for name in row if name.startswith("listener_exp")})
    assert not again(speaker_exp=np.roll(row["speaker_exp"], 1, axis=1))
    assert not again(acoustic=row["acoustic"][::-1])


def test_files_say_whose_motion_it_is_and_those_of_listeners_are_as_before(
    root: Path, run: Path, tmp_path: Path
) -> None:
    listener = trained(root, tmp_path / "listener", "pchg", epochs=1, width=8, hidden=8, layers=1, dropout=0.0)
    said = {}
    for name, folder in {"speaker": run, "listener": listener.root}.items():
        assert predict.main([*map(str, (folder, root, "--split", "test", "--out", tmp_path / f"{name}_said"))]) == 0
        said[name] = json.loads((tmp_path / f"{name}_said" / "dataset.json").read_text())
    assert json.loads((run / "run.json").read_text())["inputs"]["role"] == SPEAKER
    assert said["speaker"]["predicted"]["role"] == SPEAKER
    assert "role" not in (listener.root / "run.json").read_text() + json.dumps(said["listener"])
    described = {name: read_description(tmp_path / f"{name}_said") for name in said}
    assert {name: one.role for name, one in described.items()} == {"speaker": "speaker", "listener": "listener"}
    held = {name: {c.partition("_")[0] for c in one.packed if c.endswith("_exp")} for name, one in described.items()}
    assert held == {"speaker": {"speaker"}, "listener": {"listener"}}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--listener", "hsp", "--role", "speaker"],
            r"listener 'hsp' predicts no speaker; choose one that does: pchg, ",
        ),
        (["--listener", "pchg", "--resume"], r"a run that predicts the speaker; --role asks for the listener"),
    ],
)
def test_a_role_that_does_not_fit_is_named(
    words: list[str], said: str, root: Path, run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = run if "--resume" in words else tmp_path / "run"
    assert command(root, "--out", out, *words) == 2
    assert said in capsys.readouterr().err


def test_a_speaker_and_a_listener_are_no_ensemble(
    root: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listener = trained(root, tmp_path / "listener", "pchg", epochs=1, width=8, hidden=8, layers=1, dropout=0.0)
    asked = [*map(str, (run, listener.root, root, "--out", tmp_path / "said"))]
    assert predict.main(asked) == 2
    assert "an ensemble needs runs of one role and order of motion" in capsys.readouterr().err


def test_whose_clips_validate_is_counted_by_the_one_who_is_predicted(root: Path, tmp_path: Path) -> None:
    """Every listener has a clip of its own and everything has one speaker: no speaker can be held out."""
    alone = changed(root, tmp_path / "alone", "speaker_id", lambda _: "ada")
    held = {}
    for role in ("speaker", "listener"):
        out = tmp_path / role
        asked = ["--set", "held_out=listeners", "--set", "validation_share=0.3", "--set", "epochs=1"]
        small = ["--set", "width=8", "--set", "hidden=8"]
        assert command(alone, "--listener", "pchg", "--role", role, "--out", out, *asked, *small) == 0
        held[role] = json.loads((out / "run.json").read_text())["held_out"]
    assert not held["speaker"] and held["listener"]


def test_a_picture_of_the_listener_is_enough(root: Path, run: Path) -> None:
    """Of clips without a video of their listener there is one row."""
    predictor = Predictor(RunFolder(run), CPU.device)
    row = next(read_clips(root, predictor.run.inputs.columns, ["test"]))
    still = {name: row[name][:1] for name in predictor.run.inputs.columns if name.startswith("listener_")}
    whole, pictured = (predict_clip([predictor], seen, Draw()) for seen in (row, {**row, **still}))
    assert len(both("{role}_exp")) == 2 and all(np.array_equal(whole[name], pictured[name]) for name in whole)
