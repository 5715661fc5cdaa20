"""The worker: what its stages load and with how many threads, and the order of its parts."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import cv2
import pytest
import torch

from pipeline.plan import in_turn
from tests.labs.toy_build import PEAK, ToyProject

ROOT = Path(__file__).parents[2]
ALLOCATES = """# prints the page faults of getting 48 MiB again: as it is, then in each of two threads
import resource
from concurrent.futures import ThreadPoolExecutor
from pipeline.part import hold_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    b"x" * (48 << 20)
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

faults()
print(faults())
hold_memory()
faults()
print(faults())
with ThreadPoolExecutor(1) as pool:
    pool.submit(faults).result()
    print(pool.submit(faults).result())
"""


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


@pytest.mark.parametrize("body", ["pass", "raise LookupError('no such model')"])
def test_nothing_is_collected_while_models_load_and_whatever_happens_it_is_afterwards(body: str, tmp_path) -> None:
    toy = ToyProject(tmp_path)
    setup = f"    def setup(self, device):\n        import gc\n        assert not gc.isenabled()\n        {body}\n"
    toy.add_stage("peak", f"{PEAK}\n{setup}")
    with nullcontext() if body == "pass" else pytest.raises(LookupError):
        toy.build()
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_memory_that_a_worker_freed_is_there_for_its_next_allocation() -> None:
    told = subprocess.run([sys.executable, "-c", ALLOCATES], cwd=ROOT, check=True, capture_output=True).stdout
    as_it_is, held, held_by_thread = map(int, told.split())
    assert 10 * max(held, held_by_thread) < as_it_is  # 12,289 and none


def test_the_shortest_part_comes_first_and_then_the_longest(tmp_path) -> None:
    toy = ToyProject(tmp_path)
    toy.write_clips([f"a,{10 * n},{10 * n + seconds},left,,p,q,train" for n, seconds in enumerate((3, 1, 9, 5))])
    parts = in_turn(toy.prepare().survey().todo)
    assert [part.clips[0].row.span.num_frames for part in parts] == [30, 270, 150, 90]
