"""What is done to rendered frames, against a picture that was blurred and against networks that are known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from schemas.errors import UserError
from stages.evaluate.render.restoration import Exported, Sharpening
from tests.labs.rendering import portrait


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.square(found.astype(float) - wanted).mean())


def test_a_blurred_picture_comes_nearer_to_what_it_was_and_a_flat_one_stays() -> None:
    sharp = portrait()
    blurred = cv2.GaussianBlur(sharp, (0, 0), 1.0)
    flat = np.full((32, 32, 3), 90, np.uint8)
    restored, still = [next(Sharpening().restored([picture])) for picture in (blurred, flat)]
    assert error(restored, sharp) < 0.75 * error(blurred, sharp)
    assert np.array_equal(still, flat)


class Brighter(torch.nn.Module):
    """Adds to each frame the mean of the window that it is in; ``larger`` doubles the size."""

    def __init__(self, larger: int = 1) -> None:
        super().__init__()
        self.larger = larger

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return (
            (frames + frames.mean(dim=1, keepdim=True))
            .repeat_interleave(self.larger, 3)
            .repeat_interleave(self.larger, 4)
        )


def exported(network: torch.nn.Module, path: Path, *shape: int) -> Path:
    torch.export.save(torch.export.export(network, (torch.zeros(*shape),)), path)
    return path


@pytest.mark.parametrize("larger", [1, 2])
def test_a_network_of_ones_own_sees_windows_of_the_length_that_it_was_exported_with(
    tmp_path: Path, larger: int
) -> None:
    network = Exported(exported(Brighter(larger), tmp_path / "x.pt2", 1, 4, 3, 16, 16))
    frames = [np.full((16, 16, 3), 10 * number, np.uint8) for number in range(6)]
    found = list(network.restored(frames))
    means = [15] * 4 + [(40 + 3 * 50) / 4] * 2  # the last frame fills the second window
    expected = [min(round(10 * number + mean), 255) for number, mean in enumerate(means)]
    assert [picture.shape for picture in found] == [(16, 16, 3)] * 6
    assert [int(picture[3, 3, 0]) for picture in found] == pytest.approx(expected, abs=1)


def test_files_that_are_no_such_network_are_refused_with_how_to_write_one(tmp_path: Path) -> None:
    (tmp_path / "x.pt2").write_bytes(b"garbage")
    with pytest.raises(
        UserError, match="x.pt2: expected a network of torch.export, found .*; save it with torch.export"
    ):
        Exported(tmp_path / "x.pt2")
    single = exported(torch.nn.Identity(), tmp_path / "single.pt2", 1, 3, 16, 16)
    with pytest.raises(UserError, match=r"expected a network of \(1, frame, 3, side, side\), found \[1, 3, 16, 16\]"):
        Exported(single)
    other = Exported(exported(Brighter(), tmp_path / "other.pt2", 1, 4, 3, 16, 16))
    with pytest.raises(UserError, match="expected pictures of 16 px, found 20 px"):
        list(other.restored([np.zeros((20, 20, 3), np.uint8)]))
