"""LR-ASD against the published program's inputs and outputs (golden/asd), and its crops against OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline.weights import file_sha256, registry
from schemas.errors import UserError
from stages.speakers.lr_asd import CROP_PX, OUTSIDE, PASSES_S, LrAsd, crop, median_over
from stages.speakers.mfcc import INT16_SCALE, mfcc

TOLERANCE = 1e-4  # that of golden/asd/README.md, from the stored faces and MFCC
CLIPS = ("cte53x3i02lo", "donfyjh9ge50")


@pytest.fixture(scope="module")
def detector(shared: Path) -> LrAsd:
    return LrAsd(shared / "models/lr_asd/finetuning_TalkSet.model")


@pytest.mark.shared
@pytest.mark.parametrize("clip", CLIPS)
def test_the_sound_becomes_the_coefficients_of_python_speech_features(clip: str, shared: Path) -> None:
    golden = np.load(shared / f"golden/asd/{clip}.npz")
    found = mfcc(golden["sound"] / INT16_SCALE)
    np.testing.assert_allclose(found, golden["mfcc"], rtol=1e-5, atol=TOLERANCE)


@pytest.mark.shared
@pytest.mark.parametrize(("clip", "side"), [(CLIPS[0], "left"), (CLIPS[1], "right")])  # one speaks, one listens
def test_encoders_logits_and_scores_are_those_of_the_published_program(
    clip: str, side: str, detector: LrAsd, shared: Path
) -> None:
    golden = np.load(shared / f"golden/asd/{clip}.npz")
    faces, rows = golden[f"{side}_faces"], golden["mfcc"]
    seen_rows = rows[: 4 * len(faces)]
    with torch.inference_mode():
        seen = detector.network.seen(torch.from_numpy(faces)[None])[0].numpy()
        heard = detector.network.heard(torch.from_numpy(seen_rows)[None])[0].numpy()
        logits = detector.network.logits(torch.from_numpy(seen)[None], torch.from_numpy(heard)[None])[0].numpy()
    np.testing.assert_allclose(seen, golden[f"{side}_visual"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(heard, golden[f"{side}_audio"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(logits, golden[f"{side}_logits"], rtol=0, atol=TOLERANCE)
    scores = detector.scores(faces, golden["sound"] / INT16_SCALE)  # from our own coefficients
    np.testing.assert_allclose(scores, golden[f"{side}_score"], rtol=0, atol=TOLERANCE)


@pytest.mark.shared
@pytest.mark.parametrize("frames", [26, 74])
def test_scores_are_those_of_every_piece_of_every_pass_by_itself(
    frames: int, detector: LrAsd, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = np.load(shared / f"golden/asd/{CLIPS[0]}.npz")
    faces = np.concatenate([golden[f"{side}_faces"] for side in ("left", "right", "left")])[:frames]
    sound = np.tile(golden["sound"], 3)[: frames * 640 + 400] / INT16_SCALE
    rows = mfcc(sound).astype(np.float32)
    expected = np.zeros(frames)
    for seconds in PASSES_S:
        for first in range(0, frames, 25 * seconds):
            piece = faces[first : first + 25 * seconds]
            if len(piece) > 1:
                heard = rows[4 * first : 4 * (first + len(piece))]
                with torch.inference_mode():
                    logits = detector.network(torch.from_numpy(piece)[None], torch.from_numpy(heard)[None])[0].numpy()
                expected[first : first + len(piece)] += logits[:, 1] / len(PASSES_S)
    monkeypatch.setattr("stages.speakers.lr_asd.AT_ONCE", 50)  # the last of these tracks comes in four parts
    np.testing.assert_allclose(detector.scores(faces, sound), expected, rtol=0, atol=1e-5)


@pytest.mark.shared
def test_the_registry_names_the_published_checkpoint(shared: Path) -> None:
    (file,) = registry()["lr_asd"].files
    assert registry()["lr_asd"].files[file] == file_sha256(shared / "models/lr_asd" / file)


def test_another_networks_checkpoint_is_refused_with_the_file_named(tmp_path: Path) -> None:
    file = tmp_path / "other.model"
    torch.save({"lossAV.FC.weight": torch.zeros(2, 128)}, file)
    with pytest.raises(UserError, match=r"other\.model.*expected the weights of Network"):
        LrAsd(file)


@pytest.mark.shared
def test_a_track_of_one_frame_and_one_without_sound_score_zero(detector: LrAsd) -> None:
    faces = np.zeros((3, CROP_PX, CROP_PX), np.uint8)
    assert detector.scores(faces[:1], np.zeros(16_000)).tolist() == [0]
    assert detector.scores(faces, np.zeros(0)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "place", [(200.0, 150.0, 60.0), (30.5, 20.25, 51.0), (390.0, 295.0, 80.0), (-500.0, 0.0, 40.0)]
)
def test_a_crop_is_the_middle_of_the_square_that_opencv_scales(place: tuple[float, float, float]) -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (300, 400, 3), np.uint8)
    rgb = cv2.GaussianBlur(rgb, (0, 0), 3)
    x, y, half = place
    beyond = 400  # px of grey around, enough for all places
    padded = np.pad(rgb, ((beyond, beyond), (beyond, beyond), (0, 0)), constant_values=OUTSIDE)
    scale = 2 * CROP_PX / (2.8 * half)
    corner = np.array([x - 1.4 * half, y - half]) + beyond
    onto_square = np.c_[scale * np.eye(2), scale * (0.5 - corner) - 0.5]  # a pixel's centre is at a half, as in resize
    grey = cv2.cvtColor(padded, cv2.COLOR_RGB2GRAY)
    square = cv2.warpAffine(grey, onto_square, (2 * CROP_PX,) * 2, flags=cv2.INTER_LINEAR, borderValue=OUTSIDE)
    middle = slice(CROP_PX // 2, CROP_PX // 2 + CROP_PX)
    difference = np.abs(square[middle, middle].astype(int) - crop(rgb, x, y, half))
    assert difference.max() <= 5  # OpenCV places pixels to 1/32 of one, at the picture's edge a step of up to 145
    assert difference.mean() < 0.6


def test_a_box_that_jumps_for_a_frame_does_not_move_the_crop() -> None:
    boxes = np.tile([10.0, 20.0, 30.0], (40, 1))
    boxes[17] = (200, 0, 5)
    assert (median_over(boxes, 13) == boxes[0]).all()
