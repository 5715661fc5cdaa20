"""A listener learns the coefficients that a data set has: 64 numbers of expression, or those of another fitter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.predict import main as predict
from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import columns_of, read_clips, read_description, space_of
from pipeline.dataset.write import write_dataset
from schemas.clip import CLIP_COLUMNS
from schemas.column import FRAME_AXIS, Column
from schemas.errors import UserError
from stages.morphable.columns import columns_of as fitted
from stages.train.prediction import Predictor
from tests.labs.listener_comparison import REDUCED
from tests.labs.trainer import CPU, planned, small_set, trained

WIDTHS = (10, 50, 52, 64)  # tddfa_v2's, FLAME's, ARKit's, ours and Deep3DFaceRecon's
FITTED = ("_exp", "_angle", "_trans", "_crop", "_identity", "_coeffs_valid")
LISTENERS = [("vico_lstm", "code"), *((name, "") for name in ("vico_lstm", "pchg", "hsp", "elp", "mfr", "mirror"))]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Data sets by width of expression; that of 10 is tddfa_v2's altogether."""
    folder = tmp_path_factory.mktemp("spaces")
    root = small_set(folder / "64", clips=10, frames=700)
    wide = {width: _with_expression(root, width) for width in WIDTHS if width not in (10, 64)}
    return {
        64: root,
        10: _rewritten(root, folder / "10", "tddfa_v2", {column.name: column for column in fitted("tddfa_v2")}),
        **{width: _rewritten(root, folder / f"{width}", f"of{width}", columns) for width, columns in wide.items()},
    }


def _with_expression(root: Path, width: int) -> dict[str, Column]:
    names = ("speaker_exp", "listener_exp")
    return {name: replace(column, axes=(FRAME_AXIS, width)) for name, column in columns_of(root, names).items()}


def _rewritten(root: Path, out: Path, fitter: str, others: dict[str, Column]) -> Path:
    """The data set with some columns of another declaration, filled with random numbers, by another fitter."""
    description, rng = read_description(root), np.random.default_rng(0)
    manifest = {column.name for column in CLIP_COLUMNS}
    columns = columns_of(root, [name for name in description.packed if name not in manifest]) | others
    rows = []
    for row in read_clips(root, [name for name in columns if name not in others]):
        sizes = {name: [row["num_frames"] if a == FRAME_AXIS else a for a in c.axes] for name, c in others.items()}
        drawn = {name: rng.normal(size=shape).astype(np.float32) for name, shape in sizes.items()}
        valid = {f"{role}_coeffs_valid": np.ones(row["num_frames"], bool) for role in ("speaker", "listener")}
        rows.append({**row, **drawn, **valid})
    writes = tuple((c.name, str(c.arrow_type)) for c in columns.values() if c.name.endswith(FITTED))
    maker = replace(description.stages["threedmm"], settings={"fitter": fitter}, writes=writes)
    stages = {**description.stages, "threedmm": maker}
    write_dataset(out, rows, list(columns.values()), name=fitter, kind=description.kind, stages=stages)
    return out


@pytest.mark.parametrize("width", WIDTHS)
def test_a_data_set_says_its_space(width: int, roots: dict[int, Path]) -> None:
    space = space_of(roots[width])
    assert space.axes["exp"] == (FRAME_AXIS, width) and space.axes["angle"] == (FRAME_AXIS, 3)
    assert space.axes["identity"] == ((FRAME_AXIS, 40) if width == 10 else (80,))
    assert space.name == {10: "tddfa_v2", 64: "landmark_gn"}.get(width, f"of{width}")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("name", "preset"), LISTENERS)
def test_a_listener_of_any_width_is_trained_predicts_and_is_read_back(
    name: str, preset: str, width: int, roots: dict[int, Path], tmp_path: Path
) -> None:
    small = {**REDUCED[name], "epochs": 1, **({"sampling_steps": 5} if name == "mfr" else {})}
    make = planned if name == "mirror" else trained  # nothing in it learns
    folder = make(roots[width], tmp_path / "run", name, preset, **small)
    assert folder.read().sizes.motion.widths["exp"] == width
    said = tmp_path / "said"
    assert predict([str(folder.root), str(roots[width]), "--out", str(said)]) == 0
    assert list(check_dataset(said)) == []
    parts = ["exp", "angle", "trans", *(["crop"] if preset == "code" else [])]
    for row in read_clips(said, [f"listener_{part}" for part in parts]):
        shapes = {part: row[f"listener_{part}"].shape for part in parts}
        assert shapes == {part: (row["num_frames"], width if part == "exp" else 3) for part in parts}
        assert all(np.isfinite(row[f"listener_{part}"]).all() for part in parts)


def test_a_run_reads_no_other_width_than_it_learned(roots: dict[int, Path], tmp_path: Path) -> None:
    folder = trained(roots[64], tmp_path / "run", epochs=1)
    with pytest.raises(UserError, match=r"'speaker_exp': expected float \(frame, 64\), found float \(frame, 10\)"):
        Predictor(folder, CPU.device).check(roots[10])
