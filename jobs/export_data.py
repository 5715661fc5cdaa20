"""Write a data set as others lay it out: ``python -m jobs.export_data --layout LAYOUT DATASET --out DIR``.

``--help`` lists the layouts with what each cannot hold. A layout on another clock gets rows, sound and videos on that
clock; one that means coefficients of some space is refused those of another. Exit status: 0 every clip went out, 1 some
did not, 2 none could.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from jobs.command import DATASET, command, option
from jobs.layouts import chosen, layouts_out, options_adder, options_of
from pipeline.dataset.storage import location
from pipeline.tables import aligned
from schemas.errors import UserError

OPTIONS = {name: layout.write_options for name, layout in layouts_out().items()}


def listing() -> str:
    """What there is."""
    rows = [[name, f"{layout.writes}; lost: {layout.loses}"] for name, layout in layouts_out().items()]
    return "layouts:\n" + aligned(rows)


@command(
    DATASET,
    option("--layout", required=True, help="how to lay it out, see below"),
    option("--out", type=Path, help="the folder into which it goes"),
    options_adder(OPTIONS),
    epilog=listing,
)
def main(options: argparse.Namespace) -> int:
    """Write a data set as others lay it out."""
    layout = chosen(options.layout, layouts_out())
    if layout.to_folder != bool(options.out):
        wanted = "a folder" if layout.to_folder else "none"
        raise UserError(f"--out: the layout {layout.name} expected {wanted}, found {options.out or 'none'}")
    moved = layout.write(location(options.dataset), options.out, **options_of(layout.name, options, OPTIONS))
    for problem in moved.problems:
        print(problem)
    where = moved.next or f"the layout {layout.name} under {options.out}"
    print(f"{len(moved.clips)} clips, {len(moved.problems)} problems: {where}")
    return 1 if moved.problems else 0
