"""Results of the benchmark as ratios to decoding, kept and compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs.bench.results import SLOWER, Results, Section, changes, changes_table
from schemas.errors import UserError

NAMES = [f"stage {number}" for number in range(30)]


def made_up(seed: int, slowness: float = 1.0, noise: float = 0.0, **slower: float) -> Results:
    """Times of a machine that needs ``slowness`` times as long for everything, and for some times more."""
    own, chance = np.random.default_rng(0), np.random.default_rng(seed)
    sections = {}
    for section in ("stages", "metrics"):
        ms = slowness * own.uniform(0.1, 400, len(NAMES)) * (1 + noise * chance.uniform(-1, 1, len(NAMES)))
        times = {name: float(value) for name, value in zip(NAMES, ms, strict=True)}
        times |= {name: slower.get(f"{section}/{name}", 1.0) * value for name, value in times.items()}
        sections[section] = Section(times, slowness * 3.2, "film.mkv", f"what {section} took")
    return Results("2026-11-29", "x86_64", 2, sections)


def named(before: Results, after: Results) -> list[tuple[str, str]]:
    return [(one.section, one.name) for one in changes(before, after) if one.is_slower]


def test_a_slower_machine_is_no_slower_program() -> None:
    before = made_up(0)
    assert len(list(changes(before, before))) == 60
    for slowness in (0.2, 1.0, 7.0):
        assert named(before, made_up(1, slowness, noise=0.1)) == []


@pytest.mark.parametrize("slowness", [0.3, 1.0, 4.0])
def test_what_became_slower_is_named_and_nothing_else(slowness: float) -> None:
    worse = {"stages/stage 7": 1.5, "metrics/stage 7": 1.1, "metrics/stage 29": 9.0, "stages/stage 2": 0.2}
    after = made_up(2, slowness, 0.02, **worse)
    assert named(made_up(3, noise=0.02), after) == [("stages", "stage 7"), ("metrics", "stage 29")]
    first, second = (line.split() for line in changes_table(list(changes(made_up(3), after))).splitlines()[1:])
    assert (first[:3], second[:3]) == (["metrics", "stage", "29"], ["stages", "stage", "7"])  # the worst first
    assert float(first[-1]) == pytest.approx(9, rel=0.03) and float(second[-1]) == pytest.approx(1.5, rel=0.03)


def test_the_table_has_every_time_beside_decoding() -> None:
    section = Section({"face": 14.4, "clip": 1.8}, 3.6, "film.mkv")
    assert [line.split() for line in section.table().splitlines()[2:]] == [
        ["face", "14.40", "4.00"], ["clip", "1.80", "0.50"]
    ]  # fmt: skip


def test_results_are_read_back_the_same(tmp_path: Path) -> None:
    made_up(4).write(tmp_path / "below" / "bench.json")
    assert Results.read(tmp_path / "below" / "bench.json") == made_up(4)


def test_parts_and_times_that_one_run_lacks_are_left_out() -> None:
    before, after = made_up(5), made_up(6)
    only = replace(after, sections={"stages": Section({"new": 1.0, "stage 0": 1e9}, 1.0, "film.mkv")})
    assert [(one.section, one.name) for one in changes(before, only)] == [("stages", "stage 0")]
    assert SLOWER > 1 and changes_table([]).startswith("none of 0 times")


def test_results_of_another_film_or_number_of_cores_are_refused() -> None:
    found = made_up(7)
    other = {"metrics": replace(found.sections["metrics"], film="other.mkv")}
    for strange, what in (
        (replace(found, cores=64), "cores: 2, here 64"),
        (replace(found, sections=other), "other.mkv"),
    ):
        with pytest.raises(UserError, match=what):
            list(changes(found, strange))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"sections": 3}',
        json.dumps({"sections": {"stages": {"ms": {}, "decoding_ms": 0, "film": "a"}}}),
        "[" * 9999,
    ],
)
def test_what_are_no_results_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bench.json").write_text(text)
    with pytest.raises(UserError, match="no results"):
        Results.read(tmp_path / "bench.json")
