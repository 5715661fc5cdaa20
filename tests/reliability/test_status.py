"""Seeing a build run: status and progress while it works, after a kill and at the end; trying again what failed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from jobs import retry, status
from pipeline.ledger import progress
from schemas.outcome import OUTCOMES
from tests.labs.kill import FORKED, build_here
from tests.labs.ray_head import ROOT, free_port, membership, running, until, wait_for
from tests.labs.toy_build import PEAK, ROWS, WAVE, ToyProject, computed

SLOW = WAVE.replace("ramp =", "__import__('time').sleep(0.3)\n        ramp =")
BROKEN = PEAK.replace("note = clip.output", "if FAULT:\n            RAISE\n        note = clip.output")


@pytest.fixture
def toy(tmp_path) -> ToyProject:
    return ToyProject(tmp_path)


def spoil(toy: ToyProject, deed: str) -> Path:
    """Have the second stage fail so while a file is there."""
    toy.add_stage("peak", BROKEN.replace("FAULT", "(clip.source.parent / 'fault').exists()").replace("RAISE", deed))
    (toy.folder / "fault").touch()
    return toy.folder / "fault"


def row_of(text: str, stage: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{stage} ")]
    return line.split()[1:]


def test_status_follows_a_build_through_its_work_its_death_and_its_end(toy: ToyProject, capsys) -> None:
    out = toy.folder / "out"
    toy.add_stage("wave", SLOW.replace("sleep(0.3)", "sleep(300 * (clip.clip_id == 'a_000002_000003'))"))
    toy.write_clips([f"a,{n},{n + 1},left,,p,q,train" for n in range(40)])
    assert status.main([str(out)]) == 2
    process = FORKED.Process(target=build_here, args=(toy.folder, "out"))
    process.start()
    printed = ""
    while "in work: a_000002_000003 (wave)" not in printed:
        time.sleep(0.05)
        status.main([str(out)])
        printed = capsys.readouterr().out
    assert "running for 0:00:" in printed and f"process {process.pid}," in printed
    done, of, rejected, failed, pace, left = row_of(printed, "wave")
    assert (done, of) == ("2", "40")
    assert (rejected, failed) == ("0", "0") and float(pace) > 0 and re.fullmatch(r"\d:\d\d:\d\d", left)
    process.kill()
    process.join()

    assert status.main([str(out)]) == 1
    printed = capsys.readouterr().out
    assert "stopped: killed, without a last word" in printed
    assert row_of(printed, "wave")[:2] == ["2", "40"]
    assert "was in work: a_000002_000003 (wave)" in printed

    toy.add_stage("wave", WAVE)
    toy.build()
    assert status.main([str(out)]) == 0
    assert "finished: 40 of 40 clips published" in capsys.readouterr().out


def test_status_names_the_error_that_stopped_a_build(toy: ToyProject, capsys) -> None:
    toy.add_stage("peak", PEAK + "\n    def setup(self, device):\n        raise RuntimeError('no such model')\n")
    with pytest.raises(RuntimeError):
        toy.build()
    assert status.main([str(toy.folder / "out")]) == 1
    assert "stopped: RuntimeError: no such model" in capsys.readouterr().out


def test_a_log_gets_a_table_of_all_stages_now_and_then(toy: ToyProject, capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress, "LINES_EVERY_S", (0.1, 0.1))
    toy.add_stage("wave", SLOW)
    toy.build()
    tables = capsys.readouterr().out.split("after 0:00:")[1:]
    assert len(tables) >= 2
    counts = [int(row_of(table, "wave")[0]) for table in tables]
    assert counts == sorted(counts) and counts[-1] > 0
    assert row_of(tables[-1], "peak")[1] in ("3", "4")  # one clip is rejected before it comes here


def test_a_terminal_gets_a_bar_for_every_stage(toy: ToyProject) -> None:
    program = f"""
import fcntl, struct, termios
from pathlib import Path
fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))  # rows, columns
from tests.labs.toy_build import ToyProject
ToyProject(Path({str(toy.folder)!r})).build()
"""
    shell = f"import pty, sys; sys.exit(pty.spawn([{sys.executable!r}, '-c', {program!r}]) >> 8)"
    command = [sys.executable, "-c", shell]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"wave: 100%.* 4/4 .*1 rejected, 0 failed", shown)
    assert re.search(r"peak: 100%.* 3/3 .*0 rejected, 0 failed", shown)
    assert len(toy.build().after.published) == 3


@pytest.mark.parametrize(
    ("deed", "classes"),
    [("raise ValueError('a bug')", "failed"), ("raise MemoryError", "timed_out,out_of_memory")],
)
def test_retry_has_the_named_class_computed_again_and_nothing_else(
    toy: ToyProject, capsys, deed: str, classes: str
) -> None:
    fault = spoil(toy, deed)
    assert len(toy.build().after.published) == 0
    fault.unlink()
    assert computed(toy.build()) == {}
    out = str(toy.folder / "out")
    assert retry.main([out, "--class", "crashed"]) == 0
    assert "no such clip" in capsys.readouterr().out
    assert computed(toy.build()) == {}
    assert retry.main([out, "--class", classes]) == 0
    assert "3 clips set free" in capsys.readouterr().out
    report = toy.build()
    assert computed(report) == {"peak": 3}
    assert len(report.after.published) == 3


def test_retry_gives_a_clip_that_killed_its_workers_a_clean_slate(toy: ToyProject) -> None:
    fault = spoil(toy, "raise KeyboardInterrupt")
    toy.write_clips(ROWS[:1])
    for _ in range(10):
        with pytest.raises(KeyboardInterrupt):
            toy.build()
    fault.unlink()
    assert [row.outcome for _, row in toy.build().after.missing.values()] == ["crashed"]
    assert retry.main([str(toy.folder / "out"), "--class", "timeout,crashed"]) == 0
    assert len(toy.build().after.published) == 1


def test_retry_covers_what_the_reader_rejected_on_a_busy_machine(toy: ToyProject) -> None:
    toy.add_stage("wave", WAVE.replace("too_long", "timed_out"))
    toy.build()
    assert retry.main([str(toy.folder / "out"), "--class", "timed_out"]) == 0
    assert computed(toy.build()) == {"wave": 1}


def test_retry_of_an_unknown_class_lists_the_known_ones(tmp_path, capsys) -> None:
    assert retry.main([str(tmp_path), "--class", "rejected"]) == 2
    assert "unknown rejected; allowed: failed, crashed, timed_out, out_of_memory" in capsys.readouterr().err
    assert set(retry.CLASSES) - {"decoder_crashed"} <= set(OUTCOMES)


def test_the_report_for_programs_counts_failures_by_class(toy: ToyProject) -> None:
    toy.add_stage("peak", BROKEN.replace("FAULT", "clip.num_frames == 60").replace("RAISE", "raise MemoryError"))
    toy.build()
    content = json.loads((toy.folder / "out" / "report.json").read_text())
    rows = {row["stage"]: row for row in content["stages"]}
    assert rows["peak"]["failures"] == {"out_of_memory": 1} and rows["peak"]["failed"] == 1
    assert rows["wave"]["reasons"] == {"too_long": 1}
    assert (content["published"], content["wanted"]) == (2, 4)


@pytest.mark.slow
def test_prometheus_finds_the_clips_of_every_stage_and_outcome(toy: ToyProject, monkeypatch) -> None:
    port, metrics_port = free_port(), free_port()
    with membership() as member:
        ports = f"--port={port} --metrics-export-port={metrics_port} --include-dashboard=false"
        with running(f"ray start --head {ports} --num-cpus=2 --temp-dir={member['HOME']}", member):
            wait_for(f"http://127.0.0.1:{metrics_port}/metrics")
            command = [sys.executable, "-m", "jobs.build", *toy.arguments("out"), "--address", f"127.0.0.1:{port}"]
            subprocess.run(command, cwd=ROOT, env=member, check=True, capture_output=True, timeout=200)
            # The workers report after a while.
            scraped = until(lambda: scrape(metrics_port), "a metric of ours", within_s=60)
    assert clips_of(scraped, "wave") == {"ok": 3.0, "rejected": 1.0}
    assert clips_of(scraped, "peak") == {"ok": 3.0}


def scrape(port: int) -> list[str]:
    """The lines about clips that Prometheus would read."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return [line for line in answer.read().decode().splitlines() if line.startswith("ray_vico_clips")]


def clips_of(lines: list[str], stage: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in lines:
        if f'stage="{stage}"' in line.lower():
            found[re.search(r'outcome="(\w+)"', line)[1]] += float(line.rpartition(" ")[2])
    return found
