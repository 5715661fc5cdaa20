"""The command line of a build, and the same under ``ray job submit``."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jobs import build, check
from tests.labs.leftovers import Snapshot
from tests.labs.ray_head import RAY, agent_ports, free_port, running, until, wait_for
from tests.labs.toy_build import PEAK, ToyProject, shard_bytes

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def toy(tmp_path) -> ToyProject:
    return ToyProject(tmp_path)


def test_plan_says_what_would_be_done_and_does_nothing(toy: ToyProject, capsys) -> None:
    assert build.main(toy.arguments("out", "--plan")) == 0
    printed = capsys.readouterr().out
    assert [line.split()[:4] for line in printed.splitlines() if line.startswith("wave")] == [["wave", "1", "0", "4"]]
    assert not (toy.folder / "out" / "columns").exists()


def test_mistakes_end_with_status_2_and_a_sentence(toy: ToyProject, capsys) -> None:
    assert build.main(toy.arguments("out", "--set", "wave.gian=2")) == 2
    assert "unknown setting 'gian'; settings of 'wave': gain" in capsys.readouterr().err
    assert build.main([str(toy.folder / "none.toml"), "--out", str(toy.folder / "out")]) == 2
    assert "none.toml: cannot be read" in capsys.readouterr().err
    assert check.main([str(toy.folder)]) == 2
    assert "holds no finished data set" in capsys.readouterr().err


@pytest.mark.slow
def test_a_build_from_the_shell_reports_yield_and_resumes(toy: ToyProject) -> None:
    command = [sys.executable, "-m", "jobs.build", *toy.arguments("out")]
    before = Snapshot.now()
    first = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "a_000003_000009: rejected by wave: too_long (180 frames, at most 60)" in first.stdout
    assert "3 of 4 clips published" in first.stdout
    assert not first.stderr and Snapshot.now().folders == before.folders
    second = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert second.stdout.count("up to date") == 2
    assert check.main([str(toy.folder / "out")]) == 0
    manifest = toy.folder / "cli.toml"
    manifest.write_text(manifest.read_text().replace("min_yield = 0.5", "min_yield = 0.9"))
    third = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert third.returncode == 1
    assert "yield 0.75 is under the manifest's min_yield 0.90" in third.stdout


@pytest.mark.slow
def test_a_build_that_is_told_to_end_leaves_no_process_and_no_folder_of_ray(toy: ToyProject) -> None:
    wait = "(clip.source.parent / 'busy').touch()\n        __import__('time').sleep(60)\n        note.write"
    toy.add_stage("peak", PEAK.replace("note.write", wait))
    before = Snapshot.now()
    with subprocess.Popen([sys.executable, "-m", "jobs.build", *toy.arguments("out")], cwd=PROJECT) as process:
        until((toy.folder / "busy").exists, "the stage at work")
        assert len(Snapshot.now().folders - before.folders) == 1
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    before.end_what_came()


@pytest.mark.slow
def test_ray_job_submit_builds_the_same_bytes(toy: ToyProject) -> None:
    toy.build("here")
    port, address = free_port(), f"http://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as home:
        path = f"{RAY.parent}:/usr/bin:/bin"
        member = {"PATH": path, "HOME": home, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex()}
        dashboard = f"--dashboard-port={address.rpartition(':')[2]}"
        with running(
            f"ray start --head --port={port} {dashboard} {agent_ports()} --num-cpus=2 --temp-dir={home}", member
        ):
            wait_for(f"{address}/api/version")
            submit = [RAY, "job", "submit", "--address", address, "--working-dir", PROJECT, "--"]
            command = [*submit, "python", "-m", "jobs.build", *toy.arguments("there")]
            job = subprocess.run(command, env=member, capture_output=True, text=True, timeout=200)
    assert job.returncode == 0, job.stdout + job.stderr
    assert "3 of 4 clips published" in job.stdout
    assert shard_bytes(toy.folder / "there") == shard_bytes(toy.folder / "here") != {}
