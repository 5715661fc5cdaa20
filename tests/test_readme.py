"""The README tells the truth: its commands and code run, and its example of a stage of one's own is short and right."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from jobs import build, check, make_demo
from pipeline.registry import find_stages
from stages.train.listener import Batch, TrainingSettings
from tests.examples.mouth_opening import LEFT_EYE, LOWER_LIP, RIGHT_EYE, UPPER_LIP, opening

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "tests" / "examples" / "mouth_opening.py"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_every_job_and_option_that_it_names_exists() -> None:
    options = build.main.parser().format_help()
    for line in "".join(blocks("sh")).splitlines():
        for job in re.findall(r"python -m jobs\.([\w.]+)", line):
            assert importlib.util.find_spec(f"jobs.{job}"), line
        if "jobs.build" in line:
            named = re.findall(r" (--[a-z]+)", line.partition("jobs.build")[2])
            assert all(option in options for option in named), line


def test_every_make_target_that_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make (\w+)", README)) & set(re.findall(r"`make (\w+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def example(number: int) -> dict[str, Any]:
    """The names that one of its files defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(blocks("python")[number], names)
    return names


def test_the_listener_that_it_shows_learns_and_predicts() -> None:
    torch.manual_seed(0)
    frames = {name: torch.randn(2, 5, size) for name, size in (("speaker", 3), ("listener", 3), ("audio", 2))}
    mask, attitude = torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
    batch = Batch(**frames, reference=frames["listener"][:, 0], attitude=attitude, mask=mask)
    listener = example(1)["Echo"](TrainingSettings(), SimpleNamespace(coefficients=3, audio=2))
    assert listener.predict(batch, torch.Generator()).motion.shape == (2, 5, 3)
    sum(listener(batch, torch.Generator()).values()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in listener.parameters())


def test_the_metric_that_it_shows_scores() -> None:
    (metric,) = example(2)["DEFINITIONS"]
    predicted, reference = np.zeros((4, 3)), np.full((4, 3), -0.5)
    predicted[2, 1] = 1.5
    assert metric.clip_score(dict(zip(metric.inputs, (predicted, reference), strict=True))) == 2


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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_is_built_read_and_extended_as_it_says(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(make_demo, "SCENES", make_demo.SCENES[:1])  # `make demo` makes both films
    monkeypatch.setattr(make_demo, "ANSWERS", make_demo.SCENES[0].people[0])
    manifest = make_demo.make_demo(tmp_path / "out" / "demo" / "input")
    out = tmp_path / "out" / "demo" / "data"
    assert build.main([str(manifest), "--out", str(out)]) == 0
    assert check.main([str(out)]) == 0
    capsys.readouterr()
    exec(blocks("python")[0], {})
    clip_id, num_frames, rows, dims, blinks = capsys.readouterr().out.split()
    assert (rows, dims) == (num_frames, "45")
    assert int(blinks) > 0
    assert build.main([str(manifest), "--out", str(out), "--stage", str(EXAMPLE)]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    computed = {line[0] for line in table if len(line) > 5 and line[4].isdigit()}
    assert computed == {"mouth_opening"}
    for job, arguments in listener_commands():
        quick = {"train": ["--set", "epochs=3"], "render": ["--workers", "1"]}.get(job, [])
        assert importlib.import_module(f"jobs.{job}").main([*arguments, *quick]) == 0, job
    assert "fd_exp_eccv2022" in (tmp_path / "out" / "scores" / "leaderboard.md").read_text()


def listener_commands() -> list[tuple[str, list[str]]]:
    """Job and arguments of every command that trains, predicts, renders and evaluates."""
    (block,) = (block for block in blocks("sh") if "jobs.train" in block)
    data = re.search(r"^data=(\S+)", block, flags=re.MULTILINE)[1]
    lines = [shlex.split(line.replace("$data", data), comments=True) for line in block.splitlines()]
    return [(line[2].removeprefix("jobs."), line[3:]) for line in lines if line[:2] == ["python", "-m"]]


def test_the_listeners_commands_are_read_off_it() -> None:
    assert [job for job, _ in listener_commands()] == ["train", "predict", "render", "evaluate"]
    assert all("out/demo/data" in arguments for _, arguments in listener_commands())
