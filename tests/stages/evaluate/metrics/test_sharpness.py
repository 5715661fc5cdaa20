"""CPBD against python-cpbd's numbers and its counts on the way, and against a loop over pixels."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.bench import reference_metrics
from stages.evaluate.metrics import sharpness
from stages.evaluate.metrics.sharpness import canny_edges, cpbd, cpbd_of_picture, edge_widths, sobel_edges, strip_edges


@pytest.fixture(scope="module")
def golden(shared: Path) -> Any:
    return json.loads((shared / "golden" / "metrics" / "cpbd.json").read_text())


def stored(golden: Any, shared: Path) -> list[tuple[Any, np.ndarray]]:
    """Entries with their pictures, sharp and blurred."""
    entries = [entry for entry in (*golden["frames"], *golden["blurred"]) if "png" in entry]
    folder = shared / "golden" / "metrics"
    return [(entry, cv2.imread(str(folder / entry["png"]), cv2.IMREAD_GRAYSCALE)) for entry in entries]


@pytest.fixture
def as_where_golden_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Canny smooths with what numpy's exp gives with AVX-512: of e**-2 and e**-4.5 the last bit is another.

    Three of 11,157 pixels of edges hang on it, where two neighbours are equally strong.
    """

    def kernel(sigma: float, order: int, radius: int) -> np.ndarray:
        assert (sigma, order, radius) == (1, 0, 4)
        half = [math.exp(-0.5 * x**2) for x in range(radius + 1)]
        half[2:4] = math.nextafter(half[2], 0), math.nextafter(half[3], 1)
        whole = np.array([*half[:0:-1], *half])
        return whole / whole.sum()

    monkeypatch.setattr("scipy.ndimage._filters._gaussian_kernel1d", kernel)


@pytest.mark.shared
@pytest.mark.usefixtures("as_where_golden_was_made")
def test_stored_pictures_have_the_published_number_and_every_count_on_the_way(golden: Any, shared: Path) -> None:
    pictures = stored(golden, shared)
    assert len(pictures) == 10
    for entry, grey in pictures:
        assert cpbd_of_picture(grey) == pytest.approx(entry["cpbd"], abs=1e-9)
        if "sobel_pixels" in entry:
            _, _, widths = edge_widths(grey)
            counts = canny_edges(grey).sum(), sobel_edges(grey).sum(), len(widths), widths.sum()
            expected = [entry[key] for key in ("canny_pixels", "sobel_pixels", "width_nonzero", "width_sum")]
            assert [int(count) for count in counts] == expected


@pytest.mark.shared
@pytest.mark.parametrize("strip_px", sharpness.STRIPS_PX)
def test_what_the_strip_finds_is_what_canny_finds_there(strip_px: int, golden: Any, shared: Path) -> None:
    for _, grey in stored(golden, shared):
        block_px, width = sharpness.BLOCK_PX, grey.shape[1]
        height, first = len(grey) // block_px * block_px, (block_px - strip_px) // 2
        inside = canny_edges(grey)[:height].reshape(-1, block_px, width)[:, first : first + strip_px]
        found = strip_edges(grey[:height], strip_px)
        apart = (found != inside.reshape(-1, width))[:, 8:-8]
        assert found.sum() > 100 and apart.sum() <= 2 + 0.01 * found.sum()  # weak edges that join strong ones


@pytest.mark.shared
def test_the_synthetic_pictures_have_the_published_numbers(golden: Any) -> None:
    noise = 100 + np.round(10 * np.random.RandomState(5).standard_normal((128, 128)))
    steps = np.repeat([0] * 40 + [200] * 50 + [40] * 38, 128).reshape(128, 128).T
    flat, noise = np.full((128, 128), 100), np.clip(noise, 0, 255)
    made = {"flat100": flat, "noise_sigma10": noise, "steps_at_col_40_and_90": steps}
    for entry in golden["synthetic"]:
        grey = np.ascontiguousarray(made[entry["name"]], np.uint8)
        assert cpbd_of_picture(grey) == pytest.approx(entry["cpbd"], abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.tuples(st.integers(64, 150), st.integers(64, 150)), st.floats(0.3, 6), st.floats(0, 1))
def test_any_picture_has_the_number_of_a_loop_over_pixels(seed: int, size: tuple, blur_px: float, flat: float) -> None:
    rng = np.random.default_rng(seed)
    grey = cv2.GaussianBlur(rng.integers(0, 256, size).astype(np.float32), (0, 0), blur_px)
    grey = (cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX)).astype(np.uint8)
    grey[:, : int(flat * size[1])] = 90  # blocks without an edge, and one with few
    assert cpbd_of_picture(grey) == pytest.approx(reference_metrics.cpbd(grey), abs=1e-12)


@pytest.mark.parametrize("grey", [np.arange(0, 256, 2), np.arange(254, -1, -2)], ids=["rises", "falls"])
def test_a_ramp_without_noise_has_the_number_of_a_loop_over_pixels(grey: np.ndarray) -> None:
    picture = np.tile(grey.astype(np.uint8), (70, 1))
    picture[20:30, 60:64] += 1
    for case in (picture, np.tile(picture[0], (64, 1))):
        assert cpbd_of_picture(case) == reference_metrics.cpbd(case)


def test_a_photograph_gets_less_sharp_the_more_it_is_blurred() -> None:
    from skimage import data

    portrait = np.ascontiguousarray(data.astronaut()[:256, 100:356])
    blurred = [portrait, *(cv2.GaussianBlur(portrait, (0, 0), sigma) for sigma in (1, 2, 4))]
    values = [cpbd(picture[None]) for picture in blurred]
    assert values == sorted(values, reverse=True) and values[0] > 2 * values[-1]


def test_a_picture_smaller_than_a_block_has_no_edge_that_counts() -> None:
    assert cpbd_of_picture(np.random.default_rng(0).integers(0, 256, (63, 300), np.uint8)) == 0


def test_pictures_that_are_not_rgb_of_8_bit_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        cpbd(np.zeros((1, 64, 64, 3)))
    with pytest.raises(ValueError, match="uint8"):
        cpbd(np.zeros((1, 64, 64, 4), np.uint8))
