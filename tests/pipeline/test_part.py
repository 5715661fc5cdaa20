"""The worker: what its stages load and with how many threads, and the order of its parts."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import cv2
import pytest
import torch

from pipeline.dataset.claim import Superseded
from pipeline.dataset.store import Store
from pipeline.ledger import survey
from pipeline.ledger.diary import attempts_of
from pipeline.part import PartWorker
from pipeline.plan import in_turn
from tests.labs.ray_head import until
from tests.labs.toy_build import PEAK, ToyProject, shard_bytes

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

WAITS = """
    def process(self, clip):
        import time
        from pathlib import Path
        sign, reached = Path("{folder}/sign"), Path("{folder}/reached")
        if clip.clip_id == "{clip_id}" and sign.exists():
            sign.rename(reached)  # the first worker that comes here waits
            end = time.monotonic() + 30
            while reached.exists() and time.monotonic() < end:
                time.sleep(0.01)
        return self.process_at_once(clip)
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


@pytest.mark.parametrize("clip_id", ["a_000000_000001", "a_000003_000004"])
def test_a_worker_whose_part_was_given_to_another_changes_nothing_any_more(
    clip_id: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a host that was cut off: Ray has given its part away, and the network is back before Ray ends it."""
    monkeypatch.setattr(survey, "MAX_PARTS_AT_ONCE", 1)
    toy = ToyProject(tmp_path)
    toy.write_clips([f"a,{n},{n + 1},left,,p,q,train" for n in range(6)])
    waits = WAITS.format(folder=tmp_path, clip_id=clip_id)
    toy.add_stage("peak", PEAK.replace("def process", "def process_at_once") + waits)
    toy.build("undisturbed")
    build = toy.prepare()
    (part,) = build.survey().todo
    (tmp_path / "sign").touch()
    cut_off, other = (PartWorker(build.job, ("wave", "peak")) for _ in range(2))
    with ThreadPoolExecutor(1) as thread:
        ends = thread.submit(cut_off.run, part)
        until((tmp_path / "reached").exists, "the clip", within_s=20)
        assert {done.clip_id for done in other.run(part)} == {task.row.clip_id for task in part.clips}
        before = written(tmp_path / "out")
        (tmp_path / "reached").unlink()
        with pytest.raises(Superseded, match="another worker"):
            ends.result(60)
    assert written(tmp_path / "out") == before
    toy.build()
    assert shard_bytes(tmp_path / "out") == shard_bytes(tmp_path / "undisturbed") != {}


def test_a_death_that_went_with_its_host_is_no_clips_fault_unless_the_watchdog_brought_it(tmp_path) -> None:
    fingerprint = "0" * 8
    for host, clips in (("lost", ("a", "b")), ("lives", ("b",)), ("lost", ("c",))):
        diary = attempts_of(Store(tmp_path), "part-00000", "now", host)
        for clip in clips:
            diary.start(diary.about("peak", clip, fingerprint))
    diary.append([{**diary.about("peak", "c", fingerprint), "event": "killed", "why": "timed_out"}])
    found = diary.deaths(lambda: ["lost", "another"])
    assert {clip: (deaths.now, deaths.ever, deaths.outcome) for (_, clip, _), deaths in found.items()} == {
        "a": (0, 1, "crashed"),
        "b": (1, 2, "crashed"),
        "c": (1, 1, "timed_out"),
    }
    assert diary.deaths()["peak", "a", fingerprint].now == 1


def written(root: Path) -> dict[Path, tuple[int, int]]:
    """Every file of a data set, and which one it is: of which write."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in root.glob("[!.]*/**/*") if path.is_file()}
