"""Describe all metrics from their definitions: ``python -m jobs.describe_metrics``.

``--write docs/metrics.md`` renews the tables of that document; the tests compare it with the definitions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.report import markdown_table
from stages.evaluate.definition import Definition
from stages.evaluate.registry import definitions

BEGIN, END = "<!-- begin: python -m jobs.describe_metrics -->", "<!-- end -->"
PERFECT = "the reference's"


def metrics_markdown() -> str:
    """One table of what is computed and one of where it comes from."""
    every = definitions().values()
    head = ["id", "name", "formula", "pooled as", "unit", "better", "perfect", "weights"]
    sources = ["id", "published as", "source", "mind that"]
    return "\n\n".join(
        [
            "## What is computed",
            markdown_table(head, [_computed(one) for one in every]),
            "## Where it comes from",
            markdown_table(sources, [[f"`{one.id}`", one.published_as, one.source, one.warning] for one in every]),
        ]
    )


def _computed(one: Definition) -> list[str]:
    pooled, better = one.pooling.name.lower().replace("_", " "), one.direction.name.lower()
    perfect = PERFECT if one.perfect is None else f"{one.perfect:g}"
    return [f"`{one.id}`", one.name, one.formula.replace("|", "\\|"), pooled, one.unit, better, perfect, one.weights]


def renew(text: str) -> str:
    """A document with the part between the markers made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{metrics_markdown()}\n\n{END}{rest.partition(END)[2]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m jobs.describe_metrics", description="Describe all metrics.")
    parser.add_argument("--write", type=Path, help="renew the tables in this document instead of printing them")
    options = parser.parse_args(arguments)
    if options.write:
        options.write.write_text(renew(options.write.read_text()))
    else:
        print(metrics_markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
