"""Tables of metrics, read off their definitions."""

from __future__ import annotations

from pipeline.tables import markdown_table
from stages.evaluate.metrics.definition import Definition
from stages.evaluate.metrics.registry import definitions

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
