"""The recipes of docs/papers run as they stand, from ViCo's files to the papers' tables, with a dry run's values."""

from __future__ import annotations

import importlib
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from jobs import train
from jobs.describe import PAPERS
from pipeline.settings import parse_overrides, resolve
from stages.train.registry import find_listener
from tests.labs.release import ReleasedClip, write_release

PAGES = Path(__file__).resolve().parent.parent / "docs" / "papers"
ASSIGNED = re.compile(r"(\w+)=(.*)")
RELEASE = (
    ReleasedClip("ek3utk9fn46v", "JohCZ6V1C70_000350_000352", "neutral", "train", 0, 0, 1.5),
    ReleasedClip("fd21te30h4a7", "JohCZ6V1C70_000362_000364", "positive", "train", 1, 0, 1.5),
    ReleasedClip("cz7zhbn7aq0u", "JohCZ6V1C70_000370_000372", "negative", "train", 2, 0, 1.5),
    ReleasedClip("ek3utk9fn46v", "JohCZ6V1C70_000381_000382", "neutral", "test", 0, 4, 1.05),
    ReleasedClip("d336vte2a17j", "-abc_EF_123_000070_000071", "positive", "ood", 3, 0, 1.05),
)

Command = tuple[str, list[str]]  # job, arguments


def blocks(page: str) -> list[str]:
    """The page's recipe, the values of a dry run, and its ablations."""
    found = re.findall(r"```sh\n(.*?)```", (PAGES / f"{page}.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(found) == 3
    return [block.replace("\\\n", " ") for block in found]


def values_of(block: str) -> dict[str, str]:
    """The names that a block gives values."""
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assigned = [ASSIGNED.fullmatch(words[0]) for words in lines if len(words) == 1]
    return {found[1]: found[2] for found in assigned if found}


def commands(block: str, values: dict[str, str]) -> list[Command]:
    """Every job that a block runs, as a shell would read its line."""
    lines = [shlex.split(re.sub(r"\$(\w+)", lambda name: values[name[1]], line), comments=True)
             for line in block.splitlines()]  # fmt: skip
    ran = [words for words in lines if words[:2] == ["python", "-m"]]
    assert sum("python" in line for line in block.splitlines()) == len(ran)
    return [(words[2].removeprefix("jobs."), words[3:]) for words in ran]


def dry(page: str) -> tuple[list[Command], list[Command]]:
    """The commands of a page's recipe and of its ablations in a dry run."""
    recipe, other, ablations = blocks(page)
    values = values_of(recipe) | values_of(other)
    assert set(values_of(other)) <= set(values_of(recipe))
    return commands(recipe, values), commands(ablations, values)


def expanded(words: list[str]) -> list[str]:
    """Words whose * names files, as a shell expands them."""
    found = [sorted(map(str, Path().glob(word))) if "*" in word else [] for word in words]
    return [name for word, names in zip(words, found, strict=True) for name in names or [word]]


@pytest.fixture(scope="module")
def ran(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Command]]:
    """What ran already in a folder with a small release of ViCo: pages share the data set and the baselines."""
    folder, before = tmp_path_factory.mktemp("papers"), Path.cwd()
    write_release(shared, folder / "ViCo", RELEASE)
    os.chdir(folder)
    yield []
    os.chdir(before)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAPERS)
def test_a_recipe_runs_from_the_release_to_the_table(page: str, ran: list[Command]) -> None:
    recipe, _ = dry(page)
    for job, words in recipe:
        if (job, words) not in ran:
            here = ["--workers", "1"] if job in ("render", "build") else []  # not a process a core, which takes seconds
            assert importlib.import_module(f"jobs.{job}").main([*expanded(words), *here]) == 0, (job, words)
            ran.append((job, words))
    for job, words in recipe:
        if job == "evaluate":
            table = Path(words[words.index("--out") + 1]) / "leaderboard.md"
            assert all(f"## {split}" in table.read_text() for split in ("test", "ood"))


@pytest.mark.parametrize("page", PAPERS)
def test_every_recipe_predicts_and_scores_both_test_sets(page: str) -> None:
    recipe, _ = dry(page)
    for job, words in recipe:
        if job in ("predict", "evaluate"):
            at = words.index("--split")
            assert words[at + 1 : at + 3] == ["test", "ood"], words


@pytest.mark.parametrize("page", PAPERS)
def test_every_ablation_changes_the_papers_listener(page: str) -> None:
    _, ablations = dry(page)
    runs = [words for job, words in ablations if job == "train"]
    assert runs
    for words in runs:
        options = train.main.parser().parse_args(words)
        kind = find_listener(options.listener)
        whole = parse_overrides([f"{options.listener}.{word}" for word in options.set])[options.listener]
        more = {shlex.split(word)[0].partition("=")[0] for word in _more(page)}
        ablated = {key: value for key, value in whole.items() if key not in more}
        assert ablated
        paper = asdict(resolve(options.listener, kind.Settings, kind.presets["paper"]))
        changed = asdict(resolve(options.listener, kind.Settings, {**kind.presets["paper"], **ablated}))
        assert all(changed[key] != paper[key] for key in ablated), ablated


def _more(page: str) -> list[str]:
    words = shlex.split(values_of(blocks(page)[1])["more"])
    return [word for word in words if word != "--set"]
