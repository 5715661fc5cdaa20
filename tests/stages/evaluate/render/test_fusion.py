"""PCHG's fusion against its equations, written out with scipy, and MediaPipe's segmentation on a known picture."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import correlate1d
from skimage import data as pictures

from stages.evaluate.render.fusion import Fusion, Segmenter, without_person

RNG = np.random.default_rng(0)
REFERENCE = RNG.integers(0, 256, (40, 40, 3), np.uint8)
GENERATED = RNG.integers(0, 256, (40, 40, 3), np.uint8)
ALL = np.ones((40, 40), bool)


def test_the_background_of_both_is_the_reference_and_the_rest_is_generated() -> None:
    left, upper = ALL.copy(), ALL.copy()
    left[:, 20:] = False
    upper[20:] = False
    fused = Fusion(REFERENCE, left).fuse(GENERATED, upper)
    assert np.array_equal(fused[:16, :16], REFERENCE[:16, :16])
    assert np.array_equal(fused[24:], GENERATED[24:]) and np.array_equal(fused[:, 24:], GENERATED[:, 24:])


def test_the_seam_is_a_gaussian_of_seven_pixels() -> None:
    left = ALL.copy()
    left[:, 20:] = False
    fused = Fusion(np.full((40, 40, 3), 255, np.uint8), left).fuse(np.zeros((40, 40, 3), np.uint8), ALL)
    kernel = np.array([1, 3.5, 7, 9, 7, 3.5, 1]) / 32  # 7 pixels: a Gaussian of sigma 1.4, rounded as OpenCV has it
    np.testing.assert_allclose(kernel, np.exp(-0.5 * (np.arange(-3, 4) / 1.4) ** 2) / 3.44, atol=0.01)
    expected = 255 * correlate1d(left[0].astype(float), kernel)
    np.testing.assert_allclose(fused[20, 5:35, 0], expected[5:35], atol=1)


def test_background_counts_that_was_seen_in_most_of_five_frames() -> None:
    fusion = Fusion(REFERENCE, ALL)
    seen = [ALL, ALL, ALL, ~ALL, ALL, ALL, ~ALL, ~ALL, ALL]
    pasted = [np.array_equal(fusion.fuse(GENERATED, mask), REFERENCE) for mask in seen]
    # frame 3: the person is there now; frame 8: background again, but only in two of the last five frames
    assert pasted == [True, True, True, False, True, True, False, False, True]
    assert not np.array_equal(fusion.fuse(GENERATED, ~ALL), REFERENCE)


def test_the_paper_pastes_what_was_background_in_most_of_five_frames_wherever_the_person_is_now() -> None:
    fusion = Fusion(REFERENCE, ALL, paper=True)
    seen = [ALL, ALL, ALL, ~ALL, ALL, ALL, ~ALL, ~ALL, ALL]
    pasted = [np.array_equal(fusion.fuse(GENERATED, mask), REFERENCE) for mask in seen]
    medians = [np.median(np.stack(seen[max(n - 4, 0) : n + 1])[:, 0, 0]) > 0.5 for n in range(len(seen))]  # eq. 5
    assert pasted == medians == [True, True, True, True, True, True, True, False, True]


def test_a_head_is_no_background_and_a_wall_is() -> None:
    head = cv2.resize(pictures.astronaut()[0:230, 110:340], (384, 384))
    background = Segmenter().background(head)
    assert not background[120:250, 130:250].any()
    assert background[:60, :60].all()


def test_the_wall_goes_on_behind_a_person() -> None:
    wall = np.tile(np.linspace(60, 180, 96).astype(np.uint8)[None, :, None], (96, 1, 3))
    person = np.zeros((96, 96), bool)
    person[30:96, 30:60] = True
    picture = np.where(person[..., None], np.uint8(250), wall)
    empty = without_person(picture, ~person)
    assert np.array_equal(empty[:, :15], wall[:, :15])
    assert np.abs(empty[30:90, 30:60].astype(int) - wall[30:90, 30:60]).max() < 60  # 250 is 100 and more away
    assert np.array_equal(without_person(picture, np.zeros_like(person)), picture)
