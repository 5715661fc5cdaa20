"""A listener learns the coefficients that a data set has: 64 numbers of expression, or those of another fitter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jobs.predict import main as predict
from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import read_clips, space_of
from schemas.column import FRAME_AXIS, Column
from schemas.errors import UserError
from stages.train.prediction import Predictor
from tests.labs.listener_comparison import REDUCED
from tests.labs.trainer import CPU, changed, planned, small_set, trained

WIDTHS = (10, 50, 52, 64)  # tddfa_v2's, FLAME's, ARKit's, ours and Deep3DFaceRecon's
LISTENERS = [("vico_lstm", "code"), *((name, "") for name in ("vico_lstm", "pchg", "hsp", "elp", "mfr", "mirror"))]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Data sets by width of expression; that of 10 is tddfa_v2's altogether."""
    folder, size = tmp_path_factory.mktemp("spaces"), {"clips": 10, "frames": 700}
    made = {64: small_set(folder / "64", **size), 10: small_set(folder / "10", **size, fitter="tddfa_v2")}
    for width in (50, 52):
        half = narrowed(made[64], folder / f"{width}_speaker", "speaker_exp", width)
        made[width] = narrowed(half, folder / str(width), "listener_exp", width)
    return made


def narrowed(root: Path, out: Path, name: str, width: int) -> Path:
    like = Column(name, "float32", (FRAME_AXIS, width))
    return changed(root, out, name, lambda rows: [row[:width] for row in rows], like)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_data_set_says_its_space(width: int, roots: dict[int, Path]) -> None:
    space = space_of(roots[width])
    assert space.axes["exp"] == (FRAME_AXIS, width) and space.axes["angle"] == (FRAME_AXIS, 3)
    assert space.axes["identity"] == ((FRAME_AXIS, 40) if width == 10 else (80,))
    assert space.name == ("tddfa_v2" if width == 10 else "landmark_gn")
    assert space.order == ("baseline73" if width == 10 else "paper70")


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
    parts = ["exp", "angle", "trans", *(["crop"] if preset == "code" or width == 10 else [])]  # tddfa_v2's crops move
    for row in read_clips(said, [f"listener_{part}" for part in parts]):
        shapes = {part: row[f"listener_{part}"].shape for part in parts}
        assert shapes == {part: (row["num_frames"], width if part == "exp" else 3) for part in parts}
        assert all(np.isfinite(row[f"listener_{part}"]).all() for part in parts)


def test_a_run_reads_no_other_width_than_it_learned(roots: dict[int, Path], tmp_path: Path) -> None:
    folder = trained(roots[64], tmp_path / "run", epochs=1)
    with pytest.raises(UserError, match=r"'speaker_exp': expected float \(frame, 64\), found float \(frame, 10\)"):
        Predictor(folder, CPU.device).check(roots[10])
