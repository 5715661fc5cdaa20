"""A head whose place lies in the crop of every frame, as Deep3DFaceRecon has it, is predicted and drawn there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from jobs import predict, render
from pipeline.clock import HOP_SAMPLES
from pipeline.dataset.read import columns_of, read_clips, read_description
from pipeline.dataset.write import write_dataset
from pipeline.media.encode import VideoWriter, read_video, write_wav
from schemas.clip import CLIP_COLUMNS
from schemas.column import Column
from schemas.dataset import RANDOM
from stages.train.registry import find_listeners
from tests.labs.listener_comparison import REDUCED
from tests.labs.rendering import SIDE_PX, portrait
from tests.labs.sliding import write_sliding
from tests.labs.trainer import planned, small_set, trained

FRAMES = 9  # of the clip that is drawn
MIDDLE_PX, SPREAD_PX = 192.0, 20.0  # where heads are, and how far they wander
SIDE_256 = SIDE_PX / 256
ROLES = ("speaker", "listener")
FILES = {"speaker_video": "listener.mp4", "listener_video": "listener.mp4", "audio": "audio.wav"}
MORE = {"mfr": {"sampling_steps": 5}, "nn_audio": {"window_frames": FRAMES}, "nn_motion": {"window_frames": FRAMES}}
MORE |= {
    "dls_random": REDUCED["elp"],
    "pchg": {"epochs": 40, "learning_rate": 0.02},
}  # at first it adds next to nothing to the first frame


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random numbers in Deep3DFaceRecon's space, but for crops that wander, and one short clip to test with."""
    folder = tmp_path_factory.mktemp("place")
    made = small_set(folder / "numbers", clips=10, frames=700, fitter="deep3d")
    names = [name for name in read_description(made).packed if name not in {column.name for column in CLIP_COLUMNS}]
    columns = columns_of(made, names)
    rows = [_placed(row) for row in read_clips(made, names)]
    tested = next(row for row in rows if row["split"] == "test")
    for name, column in columns.items():
        if column.per_frame:
            tested[name] = tested[name][:FRAMES]
    tested |= {"num_frames": FRAMES, "end_s": FRAMES / 30, "attitude": "positive"}
    tested["frame_token"] = np.zeros(FRAMES, np.int32)
    root = folder / "data"
    for row in rows:
        row |= {name: f"media/clip/{file}" for name, file in FILES.items()}
    kept = [row for row in rows if row["split"] == "train" or row is tested]
    (root / "media" / "clip").mkdir(parents=True)
    with VideoWriter(root / "media/clip/listener.mp4", (SIDE_PX, SIDE_PX)) as writer:
        for _ in range(FRAMES):
            writer.write(portrait())
    write_wav(root / "media/clip/audio.wav", np.zeros(FRAMES * HOP_SAMPLES))
    media = [Column(name, "string", media=True) for name in FILES]
    write_dataset(
        root, kept, [*columns.values(), *media], name="place", kind=RANDOM, stages=read_description(made).stages
    )
    return root


def _placed(row: dict[str, object]) -> dict[str, object]:
    """The row with crops in pixels."""
    for role in ROLES:
        row[f"{role}_crop"] = np.asarray(row[f"{role}_crop"]) * [0.05, SPREAD_PX, SPREAD_PX] + [
            0.7,
            MIDDLE_PX,
            MIDDLE_PX,
        ]
    return row


def shifts(video: Path) -> Iterator[tuple[float, float]]:
    """How far every frame's picture lies to the right of the portrait and above it, px, by phase correlation."""
    inner = np.s_[60:-60, 60:-60]
    still = cv2.cvtColor(portrait(), cv2.COLOR_RGB2GRAY)[inner].astype(np.float32)
    window = cv2.createHanningWindow(still.shape[::-1], cv2.CV_32F)
    for frame in read_video(video):
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[inner].astype(np.float32)
        (x, y), _ = cv2.phaseCorrelate(still, grey, window)
        yield x, -y


@pytest.mark.slow
@pytest.mark.parametrize("name", find_listeners())
def test_the_head_moves_in_the_picture_as_in_the_coefficients(name: str, data: Path, tmp_path: Path) -> None:
    make = trained if find_listeners()[name].learned else planned
    settings = {**REDUCED.get(name, {}), "epochs": 1, **MORE.get(name, {})}
    run = make(data, tmp_path / "run", name, held_out="none", **settings)
    assert predict.main([str(run.root), str(data), "--out", str(tmp_path / "said")]) == 0
    (truth,), (said,) = (read_clips(root, ["listener_crop"], ["test"]) for root in (data, tmp_path / "said"))
    home = truth["listener_crop"][0, 1:]  # of the head in the portrait
    network = write_sliding(tmp_path / "network.pt", tuple(home / SIDE_256))
    words = [str(tmp_path / "said"), "--data", str(data), "--out", str(tmp_path / "videos"), "--workers", "1"]
    assert render.main([*words, "--renderer", "pirender", "--plain", "--weights", str(network)]) == 0
    three = (np.arange(FRAMES)[:, None] + [-1, 0, 1]).clip(0, FRAMES - 1)  # of which that generator takes the mean
    place = said["listener_crop"][three, 1:].mean(axis=1)
    found = np.array(list(shifts(tmp_path / "videos" / f"{said['clip_id']}.mp4")))
    assert np.ptp(place, axis=0).max() > 2, "the coefficients hold no movement to be seen"
    np.testing.assert_allclose(
        found - found[0], place - place[0], atol=0.5
    )  # px of 384; all lie half a pixel beside, by `grid_sample` as PIRenderer calls it


def test_a_prediction_of_70_numbers_is_refused_there_with_the_command_to_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = planned(data, tmp_path / "run", "mirror", order="paper70")
    assert predict.main([str(run.root), str(data), "--out", str(tmp_path / "said")]) == 0
    network = tmp_path / "network.pt"
    network.touch()  # nothing of it is read
    words = [str(tmp_path / "said"), "--data", str(data), "--out", str(tmp_path / "videos"), "--renderer", "pirender"]
    assert render.main([*words, "--weights", str(network)]) == 2
    said = capsys.readouterr().err
    assert "expected listener_crop" in said
    assert f"python -m jobs.train {data} --listener mirror --set order=baseline73" in said
