"""The worker: libraries that its stages load get as many threads as it has cores."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import pytest
import torch

from tests.labs.toy_build import PEAK, ToyProject


@pytest.fixture
def threads() -> Iterator[None]:
    """The process's own numbers of threads come back."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("cpus", [1, 2])
def test_loaded_libraries_get_the_threads_of_the_greediest_stage_of_the_worker(cpus: int, tmp_path) -> None:
    torch.set_num_threads(3)
    cv2.setNumThreads(3)
    toy = ToyProject(tmp_path)
    toy.add_stage("peak", PEAK.replace("class Peak(Stage):", f"class Peak(Stage):\n    cpus = {cpus}"))
    toy.build()
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (cpus, cpus)
