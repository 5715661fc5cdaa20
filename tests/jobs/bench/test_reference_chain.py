"""The published chain does the work that the benchmark times: faces, landmarks and features do come out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.bench.reference_chain import chunkwise_audio, facemesh_static, mtcnn_every_frame
from pipeline.clock import HOP_SAMPLES
from stages.acoustics import vico45_code

EYES_PX = np.array([[202, 101], [247, 103]])  # image-left and -right pupil of the portrait, measured by eye
MOUTH_PX = np.array([223, 147])
HAIR_PX = np.array([[150, 30], [302, 190]])  # top left of the hair, and its right edge with the collar


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    """A public-domain portrait, 512x512 pixels."""
    from skimage import data

    return data.astronaut()


def test_mtcnn_looks_at_every_frame_and_an_empty_one_has_no_face(portrait: NDArray[np.uint8]) -> None:
    boxes = mtcnn_every_frame([portrait, np.zeros_like(portrait)])
    ((x1, y1, x2, y2),) = boxes[0]
    for x, y in (*EYES_PX, MOUTH_PX):
        assert x1 < x < x2 and y1 < y < y2
    assert ((x1, y1) > HAIR_PX[0]).all() and ((x2, y2) < HAIR_PX[1]).all()
    assert boxes[1].shape == (0, 4)


def test_facemesh_finds_478_points_on_the_face_and_none_elsewhere(portrait: NDArray[np.uint8]) -> None:
    crop = portrait[40:240, 120:320].copy()
    face, nothing = facemesh_static([crop, np.zeros_like(crop)])
    assert nothing is None and face is not None and face.shape == (478, 3)
    irises_px = face[[468, 473], :2] + (120, 40)
    np.testing.assert_allclose(irises_px, EYES_PX, atol=3)


def test_the_audio_loop_agrees_with_our_emulation_where_it_calls_the_same_functions() -> None:
    sound = np.random.default_rng(0).standard_normal(20 * HOP_SAMPLES).astype(np.float32) * np.float32(0.1)
    loop, ours = chunkwise_audio(sound), vico45_code.features(sound)
    assert loop.shape == ours.shape == (20, 45)
    np.testing.assert_allclose(loop[:, 39:], ours[:, 39:], atol=1e-6)
    assert np.abs(loop[:, 13:39]).max() < 2e-6  # one row a chunk has no delta, in librosa either
