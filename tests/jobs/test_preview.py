"""Previews and comparisons of data sets whose truth is known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from jobs import preview
from jobs.study.compare_fitters import agreement, table
from pipeline.dataset.store import Store
from pipeline.dataset.write import write_dataset
from pipeline.media.encode import VideoWriter, count_frames
from pipeline.settings import as_plain
from schemas.column import ROLES
from schemas.dataset import BUILT, Maker
from schemas.outcome import Outcome
from stages.blink import Blink
from stages.landmarks import Landmarks
from stages.morphable.basis import load_basis
from stages.threedmm import ThreeDMM
from tests.labs.morphable import SIDE_PX, clip_of, moving_face

FRAMES = 8


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """The media folder of a clip with landmarks, blinks and coefficients; the listener is not seen in frame 3."""
    points = moving_face(FRAMES).landmarks(load_basis())
    holes = points.copy()
    holes[3] = np.nan
    folder = tmp_path / "media" / "clip-1"
    folder.mkdir(parents=True)
    for role in ROLES:
        with VideoWriter(folder / f"{role}.mp4", (SIDE_PX, SIDE_PX)) as writer:
            for _ in range(FRAMES):
                writer.write(np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8))
        (tmp_path / f"{role}.mp4").hardlink_to(folder / f"{role}.mp4")  # where `clip_of` says the clip has it
    seen = clip_of({"speaker": points, "listener": holes}, tmp_path, "clip-1")
    stages = {"landmarks": Landmarks(), "threedmm": ThreeDMM(ThreeDMM.Settings(min_valid=0.5)), "blink": Blink()}
    stages["threedmm"].setup("cpu")
    makers = {}
    for name, stage in stages.items():
        said = seen if name == "landmarks" else stage.process(seen)
        row = Outcome("clip-1", "print", values={c.name: c.check(said[c.name], FRAMES) for c in stage.writes()})
        Store(tmp_path).write_columns(name, "part-00000", stage.writes(), [row], {})
        makers[name] = Maker(name, stage.version, as_plain(stage.settings), dict.fromkeys(stage.weights(), ""))
    write_dataset(tmp_path, [], [], name="one clip", kind=BUILT, stages=makers)
    return folder


def test_the_fitted_model_lies_on_the_landmarks(clip: Path) -> None:
    columns, description = preview.clip_columns(clip)
    what = preview.shown(columns, description, "speaker")
    assert what.model is not None
    assert np.linalg.norm(what.model - what.landmarks, axis=2).mean() < 0.5  # px


def test_a_picture_shows_six_frames_of_both_roles(clip: Path, tmp_path: Path) -> None:
    assert preview.main([str(clip), "--out", str(tmp_path / "x.png")]) == 0
    sheet = cv2.imread(str(tmp_path / "x.png"))
    assert sheet.shape == (2 * SIDE_PX, 6 * SIDE_PX, 3)
    drawn = np.abs(sheet.astype(int) - 90).max(axis=2) > 40
    tiles = drawn.reshape(2, SIDE_PX, 6, SIDE_PX).sum(axis=(1, 3))
    assert sorted(tiles.flatten())[1] > 5 * tiles.min()  # one tile has no face: the listener in frame 3
    assert tiles[0, 5] > 1000


def test_a_film_shows_every_frame(clip: Path, tmp_path: Path) -> None:
    assert preview.main([str(clip), "--out", str(tmp_path / "x.mp4")]) == 0
    assert count_frames(tmp_path / "x.mp4") == FRAMES


def test_a_folder_that_is_no_clip_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert preview.main([str(tmp_path), "--out", str(tmp_path / "x.png")]) == 2
    assert "this folder holds no finished data set" in capsys.readouterr().err


def test_angles_that_agree_correlate_and_still_ones_do_not_count() -> None:
    moving = np.radians(np.stack([np.linspace(-20, 20, 50), np.sin(np.arange(50)), np.full(50, 3.0)], 1))
    other = moving + np.radians([5, 0, 0])
    other[7] = np.nan
    row = agreement("clip speaker", other, moving)
    np.testing.assert_allclose(row.correlation[:2], 1)
    np.testing.assert_allclose(row.offset_deg, [5, 0, 0], atol=1e-9)
    text = table([row])
    assert "**1.000** of 1, +5.0°" in text and "(1.00), 2.0°" in text and text.count("none moves") == 2
