"""The machine gets in the way: the disk is full or read-only, the clock jumps, somebody else builds already."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from jobs import build
from pipeline.dataset.check import check_dataset
from pipeline.dataset.lock import locked
from pipeline.media.encode import VideoWriter
from schemas.errors import is_machine_trouble
from tests.labs.kill import settled
from tests.labs.toy_build import PEAK, ToyProject, computed, shard_bytes

BIG = PEAK.replace("write_text(f", "write_text('x' * 200_000 + f")  # a file of 200 kB for every clip
Mount = Callable[[str], None]


@pytest.fixture
def disk(tmp_path) -> Iterator[Mount]:
    """Mounts ``out`` as a file system of its own, in memory; again with other options."""
    out = tmp_path / "out"
    out.mkdir()

    def mount(options: str) -> None:
        kind = ["-o", f"remount,{options}"] if out.is_mount() else ["-t", "tmpfs", "-o", options, "tmpfs"]
        result = subprocess.run(["mount", *kind, out], capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"mounting needs privileges: {result.stderr.strip()}")

    yield mount
    if out.is_mount():
        subprocess.run(["umount", "--lazy", out], check=True)


@pytest.fixture
def toy(tmp_path) -> ToyProject:
    """A project with big files, built undisturbed once."""
    toy = ToyProject(tmp_path)
    toy.add_stage("peak", BIG)
    toy.build("undisturbed")
    return toy


def test_a_full_disk_stops_the_build_fails_no_clip_and_costs_nothing_that_is_finished(
    toy: ToyProject, disk: Mount
) -> None:
    disk("size=360k")
    with pytest.raises(OSError, check=lambda stop: stop.errno == errno.ENOSPC):
        toy.build()
    assert set(settled(toy.folder / "out").values()) <= {"ok", "rejected"}
    disk("size=8m")
    assert 0 < sum(computed(toy.build()).values()) < 7
    assert shard_bytes(toy.folder / "out") == shard_bytes(toy.folder / "undisturbed") != {}
    assert list(check_dataset(toy.folder / "out")) == []


@pytest.mark.parametrize("num_frames", [3, 300])  # it is full as the file is closed, or long before
def test_a_full_disk_amid_a_film_is_told_by_its_number_and_leaves_nothing(
    tmp_path: Path, disk: Mount, num_frames: int
) -> None:
    disk("size=360k")
    num_threads = threading.active_count()
    film, noise = tmp_path / "out" / "film.mp4", np.random.default_rng(0)
    told = pytest.raises(OSError, check=is_machine_trouble, match=r"could not write .*film\.mp4")
    with told, VideoWriter(film, (384, 384), crf=0, preset="ultrafast") as writer:
        for _ in range(num_frames):
            writer.write(noise.integers(0, 255, (384, 384, 3), np.uint8))
    assert not film.exists() and threading.active_count() == num_threads


def test_a_disk_that_becomes_read_only_stops_the_build_and_the_data_set_stays_sound(
    toy: ToyProject, disk: Mount
) -> None:
    disk("size=8m")
    toy.build()
    toy.add_stage("peak", BIG.replace("reads =", "version = 2\n    reads ="))
    disk("ro")
    with pytest.raises(OSError, check=lambda stop: stop.errno == errno.EROFS):
        toy.build()
    assert list(check_dataset(toy.folder / "out")) == []
    assert shard_bytes(toy.folder / "out") == shard_bytes(toy.folder / "undisturbed")


@pytest.mark.parametrize("address", ["none", pytest.param("local", marks=pytest.mark.slow)], ids=["no Ray", "Ray"])
def test_a_full_disk_in_workers_ends_with_status_2_and_a_sentence(
    toy: ToyProject, disk: Mount, capsys, address
) -> None:
    command = toy.arguments("out", "--address", address)
    disk("size=360k")
    assert build.main(command) == 2
    assert "No space left on device" in capsys.readouterr().err
    disk("size=8m")
    assert build.main(command) == 0
    assert shard_bytes(toy.folder / "out") == shard_bytes(toy.folder / "undisturbed")


@pytest.mark.parametrize("year", [1970, 2037], ids=["into the past", "into the future"])
def test_nothing_is_computed_again_when_the_clock_jumps(toy: ToyProject, year: int) -> None:
    toy.build()
    then = time.mktime((year, 6, 1, 0, 0, 0, 0, 0, 0))
    for number, path in enumerate(sorted(toy.folder.rglob("*"))):
        os.utime(path, (then + number, then - number))
    report = toy.build()
    assert computed(report) == {}
    assert report.shards_written == 0


def test_parts_of_a_killed_build_count_whatever_their_dates_say(toy: ToyProject) -> None:
    toy.build()
    shutil.rmtree(toy.folder / "out" / "shards")
    (toy.folder / "out" / "columns" / "peak" / "part-00003.parquet").unlink()
    for path in (toy.folder / "out").rglob("*"):
        os.utime(path, (0, 0))
    assert computed(toy.build()) == {"peak": 1}
    assert shard_bytes(toy.folder / "out") == shard_bytes(toy.folder / "undisturbed")


def hold(root: Path, ready) -> None:
    with locked(root):
        ready.set()
        time.sleep(60)


def test_a_second_build_of_a_folder_is_refused_with_the_host_and_process_of_the_first(toy: ToyProject, capsys) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    first = spawn.Process(target=hold, args=(toy.folder / "out", ready))
    first.start()
    assert ready.wait(timeout=60)
    assert build.main(toy.arguments("out", "--plan")) == 2
    assert f"is being built by {socket.gethostname()} process {first.pid}" in capsys.readouterr().err
    first.kill()  # the lock ends with its holder, however that ends
    first.join()
    assert build.main(toy.arguments("out", "--plan")) == 0
