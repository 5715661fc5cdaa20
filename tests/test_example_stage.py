"""The example of a stage of one's own: at most 60 lines, from outside the tree, computed alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.registry import find_stages
from tests.examples.mouth_opening import LEFT_EYE, LOWER_LIP, RIGHT_EYE, UPPER_LIP, opening

EXAMPLE = Path(__file__).parent / "examples" / "mouth_opening.py"


def test_the_example_is_short_and_found_by_its_file() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60
    code = next(code for code in find_stages([EXAMPLE]) if code.name == "mouth_opening")
    assert {column.name for column in code.load()().writes()} == {"speaker_mouth_opening", "listener_mouth_opening"}


def test_an_opening_of_a_quarter_of_the_eyes_distance_reads_one_quarter() -> None:
    landmarks = np.zeros((2, 478, 3), np.float32)
    landmarks[:, LEFT_EYE, 0], landmarks[:, RIGHT_EYE, 0] = 90, 10
    landmarks[:, UPPER_LIP, 1], landmarks[:, LOWER_LIP, 1] = 100, 120
    landmarks[1] = np.nan
    np.testing.assert_allclose(opening(landmarks), [0.25, np.nan])
