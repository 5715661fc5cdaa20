"""Data that a run cannot read are refused, with the column named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.coefficients import MixedCoefficientsError
from schemas.column import Column
from schemas.errors import UserError
from stages.train.inputs import check_alike, inputs_of
from tests.labs.trainer import changed, described


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
