"""The pages show what the benchmark measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.bench import pages
from jobs.bench.results import Results, Section
from jobs.bench.stages import ALL_STAGES, BY_DEFAULT, CHAIN_BUILD, PUBLISHED


def results() -> Results:
    ms = {BY_DEFAULT: 30.0, ALL_STAGES: 40.0, PUBLISHED: 400.0, CHAIN_BUILD: 10.0}
    sections = {
        "stages": Section(ms, 4.0, "demo.mkv", "the demo, stage by stage"),
        "film": Section(ms, 5.0, "real.mkv", "a film, stage by stage"),
        "metrics": Section({"PSNR": 0.5}, 4.0, "demo.mkv", "metric by metric"),
    }
    return Results("2026-11-29", "x86_64", 2, sections)


def test_the_small_table_has_a_column_a_film_and_ratios_alone() -> None:
    head, _, *rows = (line.strip("| ").split(" | ") for line in pages.in_short(results()).splitlines())
    assert head == ["2026-11-29, x86_64, 2 cores, 1920x1080", "the demo", "a real film"]
    assert [row[1:] for row in rows] == [
        ["7.5 x as long", "6.0 x as long"],  # 30 ms beside 4 and 5
        ["40 x as fast", "40 x as fast"],
        ["0.83 x", "0.83 x"],  # of a frame that is shown for 33.3 ms
    ]


def test_results_are_put_between_the_markers_of_both_pages_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("README.md", "docs/speed.md")
    real = [(pages.ROOT / name).read_text(encoding="utf-8") for name in names]
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    for name, text in zip(names, real, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert pages.fill(results()) == [tmp_path / name for name in names]
    assert pages.fill(results()) == []
    for name, text in zip(names, real, strict=True):
        head, _, rest = text.partition(pages.BEGIN)
        new = (tmp_path / name).read_text(encoding="utf-8")
        assert rest and new.startswith(head + pages.BEGIN) and new.endswith(rest.partition("<!-- end -->")[2])
    for section in results().sections.values():
        assert section.table() in new
