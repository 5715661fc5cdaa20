"""The pages that show what the benchmark measured: a small table of the README, and docs/speed.md with all of it."""

from __future__ import annotations

from pathlib import Path

from jobs.bench.results import Results, Section
from jobs.bench.stages import ALL_STAGES, BY_DEFAULT, CHAIN_BUILD, PUBLISHED
from jobs.describe import filled
from pipeline.clock import seconds_of
from pipeline.tables import markdown_table

ROOT = Path(__file__).resolve().parent.parent.parent
BEGIN = "<!-- begin: python -m jobs.bench --fill out/bench.json -->"
FILMS = {"stages": "the demo", "film": "a real film"}  # section -> the film of it
FRAME_MS = 1000 * float(seconds_of(1))


def fill(results: Results) -> list[Path]:
    """Put results into the pages; returns those that changed."""
    pages = {ROOT / "README.md": in_short(results), ROOT / "docs" / "speed.md": in_full(results)}
    changed = []
    for page, content in pages.items():
        text = page.read_text(encoding="utf-8")
        if (new := filled(text, BEGIN, content)) != text:
            page.write_text(new, encoding="utf-8")
            changed.append(page)
    return changed


def in_short(results: Results) -> str:
    """The small table: a column a film."""
    films = {FILMS[name]: section for name, section in results.sections.items() if name in FILMS}
    rows = [[what, *(ratio(section) for section in films.values())] for what, ratio in RATIOS.items()]
    seen = f"{results.date}, {results.machine}, {results.cores} cores, 1920x1080"
    return markdown_table([seen, *films], rows)


def in_full(results: Results) -> str:
    """Everything as it was printed."""
    told = "\n\n".join(section.table() for section in results.sections.values())
    return f"Seen on {results.date}, {results.machine}, {results.cores} cores:\n\n```\n{told}\n```"


def _as_decoding(section: Section) -> str:
    return f"{section.ratio(BY_DEFAULT):.1f} x as long"


def _beside_published(section: Section) -> str:
    return f"{section.ms[PUBLISHED] / section.ms[CHAIN_BUILD]:.0f} x as fast"


def _real_time(section: Section) -> str:
    return f"{FRAME_MS / section.ms[ALL_STAGES]:.2f} x"


RATIOS = {
    "a whole build, default workers, beside decoding the film once with all cores": _as_decoding,
    "the published chain's stages, default workers, beside the published programs in one process": _beside_published,
    "all stages in one process, beside real time": _real_time,
}
