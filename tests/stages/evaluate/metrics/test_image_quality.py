"""PSNR and SSIM against piq's numbers, and against pictures whose values are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jobs.bench import reference_metrics
from pipeline.media.encode import read_video
from stages.evaluate.metrics.image_quality import psnr, psnr_of_frames, ssim, ssim_full_size, ssim_of_frames
from stages.evaluate.metrics.validation import MismatchError

PSNR_DB, SSIM = 1e-4, 2e-5  # tolerances of golden/README.md


@pytest.fixture(scope="module")
def golden(shared: Path) -> Any:
    return json.loads((shared / "golden" / "metrics" / "psnr_ssim.json").read_text())


def assert_alike(pair: list[np.ndarray], expected: Any) -> None:
    """PSNR and SSIM are those of piq."""
    assert psnr(*pair) == pytest.approx(expected["psnr"], abs=PSNR_DB)
    assert ssim(*pair) == pytest.approx(expected["ssim"], abs=SSIM), expected
    assert ssim_full_size(*pair) == pytest.approx(expected["ssim_no_downsample"], abs=SSIM)


def enlarged(picture: Image.Image, side_px: int) -> np.ndarray:
    """uint8 (1, side, side, 3)."""
    same = picture.size == (side_px, side_px)
    return np.asarray(picture if same else picture.resize((side_px, side_px), Image.Resampling.BICUBIC))[None]


@pytest.mark.shared
def test_stored_pictures_have_the_numbers_of_piq_at_every_size(golden: Any, shared: Path) -> None:
    folder = shared / "golden" / "metrics" / "frames"
    for stored in golden["png_pairs"]:
        pictures = [Image.open(folder / stored[key]).convert("RGB") for key in "xy"]
        for side_px, expected in stored["at"].items():
            assert_alike([enlarged(picture, int(side_px)) for picture in pictures], expected)


@pytest.mark.shared
def test_frames_of_video_have_the_numbers_of_piq_at_odd_sizes(golden: Any, shared: Path) -> None:
    film = golden["entries"][0]["file"]
    chosen = [entry for entry in golden["entries"] if entry["file"] == film and entry["role"] == "listener"]
    listener = np.stack(list(read_video(shared / "media" / film)))[:, :, 256:]
    assert {entry["size"] for entry in chosen} >= {256, 384, 512} and len(chosen) >= 10
    for entry in chosen:
        frames = [Image.fromarray(listener[entry[f"{key}_frame"]]) for key in "xy"]
        assert_alike([enlarged(frame, entry["size"]) for frame in frames], entry)


@pytest.mark.shared
def test_the_mean_of_a_clip_is_that_of_the_challenge(golden: Any, shared: Path) -> None:
    expected = golden["aggregation_shift30"]["clips"][0]
    listener = np.stack(list(read_video(shared / "media" / expected["file"])))[:, :, 256:]
    assert psnr(listener[:-30], listener[30:]) == pytest.approx(expected["psnr_mean"], abs=PSNR_DB)
    assert ssim(listener[:-30], listener[30:]) == pytest.approx(expected["ssim_mean"], abs=SSIM)


@pytest.mark.shared
def test_distorted_photographs_have_the_numbers_of_piq(golden: Any, shared: Path) -> None:
    for entry in golden["tid2013"]:
        pair = [cv2.imread(str(shared / "media" / entry[key]))[None, ..., ::-1] for key in ("dist", "ref")]
        assert_alike([np.ascontiguousarray(frames) for frames in pair], entry)


@pytest.mark.parametrize("side_px", [48, 384, 400, 640])
def test_noise_has_the_numbers_of_the_published_way(side_px: int) -> None:
    rng = np.random.default_rng(side_px)
    pair = [rng.integers(0, 256, (2, side_px, side_px + 3, 3), np.uint8) for _ in range(2)]
    tensors = [reference_metrics.clip_tensor(frames) for frames in pair]
    np.testing.assert_allclose(psnr_of_frames(*pair), reference_metrics.psnr(*tensors), atol=PSNR_DB)
    np.testing.assert_allclose(ssim_of_frames(*pair, shrink=True), reference_metrics.ssim(*tensors), atol=SSIM)


@settings(max_examples=20, deadline=None)
@given(level=st.integers(0, 200), step=st.integers(1, 55))
def test_a_constant_difference_has_a_known_psnr_and_ssim(level: int, step: int) -> None:
    dark, bright = (np.full((1, 32, 32, 3), value, np.uint8) for value in (level, level + step))
    assert psnr(dark, bright) == pytest.approx(-10 * np.log10((step / 255) ** 2 + 1e-8), abs=1e-9)
    one, other = level / 255, (level + step) / 255
    luminance = (2 * one * other + 1e-4) / (one**2 + other**2 + 1e-4)
    assert ssim(dark, bright) == pytest.approx(luminance, abs=1e-4)


def test_a_picture_shifted_further_is_further_away() -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (96, 160, 3), np.uint8), (0, 0), 4)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)
    shifted = [picture[None, :, k : k + 96].copy() for k in (0, 1, 2, 4)]
    for metric in (psnr, ssim, ssim_full_size):
        values = [metric(shifted[0], other) for other in shifted]
        assert values == sorted(values, reverse=True) and len(set(values)) == len(values)


def test_pictures_of_other_sizes_or_kinds_are_refused() -> None:
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    with pytest.raises(MismatchError, match=r"\(2, 64, 64, 3\), found \(2, 64, 32, 3\)"):
        psnr(frames[:, :, :32], frames)
    with pytest.raises(ValueError, match="uint8"):
        ssim(frames / 255, frames / 255)
    with pytest.raises(ValueError, match="8x64"):
        ssim(frames[:, :, :8], frames[:, :, :8])
