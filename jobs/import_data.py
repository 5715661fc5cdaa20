"""Bring data in that others laid out: ``python -m jobs.import_data --layout LAYOUT FOLDER --out DIR``.

Most layouts become a manifest to build, with ids, labels, people and splits kept as they are; what is missing, broken
or ambiguous is listed in ``problems.txt``, not guessed. ``--help`` lists the layouts. Exit status: 0 everything came
in, 1 something did not, 2 the folder is in another layout.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from jobs.command import command, option
from jobs.layouts import chosen, layouts_in, options_adder, options_of
from pipeline.tables import aligned

OPTIONS = {name: layout.read_options for name, layout in layouts_in().items()}


def listing() -> str:
    """What there is."""
    return "layouts:\n" + aligned([[name, layout.reads] for name, layout in layouts_in().items()])


@command(
    option("folder", type=Path, help="what others made"),
    option("--layout", required=True, help="how it is laid out, see below"),
    option("--out", type=Path, required=True, help="where the manifest goes"),
    options_adder(OPTIONS),
    epilog=listing,
)
def main(options: argparse.Namespace) -> int:
    """Bring data in that others laid out."""
    layout = chosen(options.layout, layouts_in())
    moved = layout.read(options.folder, options.out, **options_of(layout.name, options, OPTIONS))
    for problem in moved.problems:
        print(problem)
    print(f"{len(moved.clips)} clips, {len(moved.problems)} problems: {moved.next}")
    return 1 if moved.problems else 0
