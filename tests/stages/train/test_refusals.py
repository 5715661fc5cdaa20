"""Folders that hold no run, damaged ones, and data that a run cannot read are refused: what, where, what to do next."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save

from jobs import predict, train
from schemas.coefficients import MixedCoefficientsError
from schemas.column import Column
from schemas.errors import UserError
from stages.train.checkpoint import NOTE
from stages.train.inputs import check_alike, inputs_of
from stages.train.loop import Trainer
from stages.train.prediction import Predictor
from stages.train.run_folder import RunFolder
from stages.train.training_log import Log
from tests.labs.trainer import CPU, changed, described, trained

NEXT = "python -m jobs.train"


@pytest.fixture(scope="module")
def files(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a good run."""
    folder = trained(root, tmp_path_factory.mktemp("runs") / "run", epochs=1).root
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def run(files: dict[str, bytes], tmp_path: Path) -> RunFolder:
    """A copy of it, to be damaged."""
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return RunFolder(tmp_path)


def test_a_run_is_read_as_it_was_written(run: RunFolder, files: dict[str, bytes]) -> None:
    run.write(run.read())
    assert run.description.read_bytes() == files["run.json"]


def test_a_run_of_before_the_sizes_were_left_out_is_the_same_run(run: RunFolder) -> None:
    found = run.read()
    content = of_before_hashes(run) | {"sizes": {"coefficients": 70, "audio": 45, "attitudes": 3}}
    run.description.write_text(json.dumps(content))
    assert run.read() == replace(found, clips=()) and found.sizes.coefficients == 70


def of_before_hashes(run: RunFolder) -> dict[str, Any]:
    """What run.json says, in which a damage is not seen by its hash."""
    content = json.loads(run.description.read_text())
    return {key: value for key, value in content.items() if key not in ("digest", "clips")}


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no object": lambda run: [run],
    "a part is missing": lambda run: run.pop("inputs"),
    "another format": lambda run: run.update(format_version=99),
    "a number for a list": lambda run: run.update(vocabulary=3),
    "text for a list": lambda run: run.update(held_out="abc"),
    "text for settings": lambda run: run.update(settings="fast"),
    "no such order": lambda run: run["inputs"].update(order="paper71"),
    "text for a number": lambda run: run["scores"]["audio"]["mean"].__setitem__(0, "loud"),
    "z-scores of other data": lambda run: run["scores"]["motion"]["std"].pop(),
    "columns without axes": lambda run: run["inputs"]["shapes"]["speaker_exp"].update(axes=[]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_description_is_refused(damage: str, run: RunFolder) -> None:
    content = of_before_hashes(run)
    changed = DAMAGES[damage](content)
    run.description.write_text(json.dumps(changed if isinstance(changed, list) else content))
    with pytest.raises(UserError, match=rf"run\.json: describes no run: .*{NEXT}"):
        run.read()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"format_version": 1'])
def test_a_description_that_is_cut_off_or_no_json_is_refused(content: bytes, run: RunFolder) -> None:
    run.description.write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json: (describes no run|not UTF-8)"):
        run.read()


def test_a_checkpoint_that_is_none_is_refused(run: RunFolder, files: dict[str, bytes]) -> None:
    weights = load_file(run.checkpoint)
    fewer = {name: weight for name, weight in weights.items() if name != "model.out.bias"}
    others = [save(weights), save(fewer, {NOTE: "{}"})]
    for content in (b"", b"no weights", files["checkpoint.safetensors"][:-100], *others):
        run.checkpoint.write_bytes(content)
        with pytest.raises(UserError, match=rf"checkpoint\.safetensors: (no checkpoint|another listener).*{NEXT}"):
            Predictor(run, CPU.device)


def test_a_state_that_training_cannot_go_on_from_is_refused(run: RunFolder, files: dict[str, bytes]) -> None:
    for content in (b"", files["last.safetensors"][:200], files["checkpoint.safetensors"]):
        run.last.write_bytes(content)
        with pytest.raises(UserError, match=rf"last\.safetensors: .*{NEXT}"):
            Trainer(run.read(), CPU, Log(None)).restore(run)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--listener", "nobody"], "unknown listener 'nobody'; known: .*vico_lstm.*python -m jobs.train --help"),
        (["--listener", "vico_lstm", "--preset", "mine"], "unknown preset 'mine'; its presets: paper, code"),
        (["--listener", "vico_lstm", "--set", "epoch=3"], "unknown setting 'epoch'; settings of 'vico_lstm': epochs"),
        (["--listener", "vico_lstm", "--set", "epochs"], "expected key=value"),
        (["--listener", "vico_lstm", "--resume"], rf"run\.json: missing; this folder holds no run: .*{NEXT}"),
    ],
)
def test_what_jobs_train_does_not_know_is_a_line_and_status_2(
    given: list[str], said: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([str(root), "--out", str(tmp_path / "run"), "--num-workers", "0", *given]) == 2
    assert_one_line(capsys.readouterr().err, said)


def test_only_a_run_predicts(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (root, tmp_path / "nowhere"):
        assert predict.main([str(folder), str(root), "--out", str(tmp_path / "said")]) == 2
        assert_one_line(capsys.readouterr().err, rf"run\.json: missing; this folder holds no run: .*{NEXT}")


def assert_one_line(found: str, said: str) -> None:
    assert re.search(said, found) and found.startswith("error: ") and found.count("\n") == 1


def of(root: Path) -> Any:
    return inputs_of([root], "paper70", ("listener_blink",))


def test_a_missing_column_is_named(root: Path, tmp_path: Path) -> None:
    without = described(root, tmp_path / "set", lambda d: d["packed"].remove("listener_blink"))
    with pytest.raises(UserError, match="no column listener_blink"):
        of(without)


def test_ten_expressions_of_another_fitter_are_not_64(root: Path, tmp_path: Path) -> None:
    like = Column("listener_exp", "float32", ("frame", 10))
    narrow = changed(root, tmp_path / "set", "listener_exp", lambda rows: [row[:10] for row in rows], like)
    with pytest.raises(UserError, match=r"'listener_exp': expected axes \('frame', 64\).*found \('frame', 10\)"):
        of(narrow)


def test_text_is_no_input(root: Path) -> None:
    with pytest.raises(UserError, match="'clip_id': a listener reads numbers"):
        inputs_of([root], "paper70", ("clip_id",))


def made_with(stage: str, **settings: Any) -> Callable[[dict[str, Any]], None]:
    return lambda description: description["stages"][stage]["settings"].update(settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (made_with("threedmm", fitter="deep3d"), "columns speaker_exp.*listener_exp.*landmark_gn.*found deep3d"),
        (made_with("acoustic", preset="vico45-code"), "columns acoustic.*vico45-paper.*found.*vico45-code"),
        (lambda description: description.update(fps=25), "expected 30 frames a second, found 25"),
    ],
)
def test_data_made_otherwise_than_a_run_learned_from_are_refused(
    root: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    other = described(root, tmp_path / "set", change)
    with pytest.raises(UserError, match=message):
        check_alike(other, of(other), of(root))


def test_settings_that_do_not_touch_the_columns_read_are_no_reason(root: Path, tmp_path: Path) -> None:
    faster = described(root, tmp_path / "faster", made_with("threedmm", batch=1))
    other = described(faster, tmp_path / "set", made_with("asr", no_speech=0.5))
    check_alike(other, of(other), of(root))


def test_data_sets_of_two_fitters_are_not_learned_from_together(root: Path, tmp_path: Path) -> None:
    other = described(root, tmp_path / "set", made_with("threedmm", fitter="deep3d"))
    with pytest.raises(MixedCoefficientsError, match="expected coefficients of one fitter"):
        inputs_of([root, other], "paper70", ())
