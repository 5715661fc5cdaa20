"""Describe stages, listeners and metrics from their code: ``python -m jobs.describe``; ``--write`` renews docs/.

A document has its tables between two markers; the tests compare them with the code.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command import command, option
from pipeline.dataset.write import PackSettings
from pipeline.ledger.limits import Limits
from pipeline.plan import Pipeline
from pipeline.registry import find_stages
from pipeline.settings import describe
from pipeline.sources.download import DownloadSettings
from pipeline.stage import Stage
from pipeline.tables import markdown_table
from schemas.clip import ATTITUDES, CLIP_COLUMNS
from schemas.coefficients import Layout
from schemas.column import Column
from schemas.errors import UserError
from stages.evaluate.metrics.definition import Definition
from stages.evaluate.metrics.registry import definitions

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN, END = "<!-- begin: python -m jobs.describe {topic} -->", "<!-- end -->"
BLINK, ACOUSTIC_WIDTH = "listener_blink", 45
PERFECT = "the reference's"


def stages_markdown() -> str:
    """Tables of all columns, settings and reasons, in Markdown."""
    pipeline = Pipeline(find_stages(), {})
    blocks = ["## Columns", _columns_table(pipeline), "## Settings", _settings_table(pipeline.stages)]
    return "\n\n".join([*blocks, "## Reasons", _reasons_table(pipeline.stages)])


def _columns_table(pipeline: Pipeline) -> str:
    rows = [(column, "manifest") for column in CLIP_COLUMNS]
    rows += [(column, pipeline.writer[column.name]) for column in pipeline.columns.values()]
    return markdown_table(["column", "type", "unit", "stage", "meaning"], [_column_row(*row) for row in rows])


def _column_row(column: Column, stage: str) -> list[str]:
    kind = "path" if column.media else str(column.element_type)
    notes = " (heavy: in shards on request)" if column.heavy else ""
    return [f"`{column.name}`", f"{kind} {column.shape}".strip(), column.unit, stage, column.meaning + notes]


def _settings_table(stages: Sequence[Stage]) -> str:
    of = {stage.name: stage.Settings for stage in stages}
    of |= {"pack": PackSettings, "download": DownloadSettings, "limits": Limits}
    rows = [[f"`{name}.{key}`", f"`{default}`", text] for name in of for key, default, text in describe(of[name])]
    return markdown_table(["setting", "default", "meaning"], rows)


def _reasons_table(stages: Sequence[Stage]) -> str:
    rows = [[stage.name, f"`{reason}`", meaning] for stage in stages for reason, meaning in stage.rejects.items()]
    return markdown_table(["stage", "reason", "meaning"], rows)


def listeners_markdown() -> str:
    """A table of all listeners and their presets, and one of the settings of each."""
    from stages.train.listener import TrainingSettings
    from stages.train.registry import find_listeners

    shared = [[f"`{key}`", f"`{default}`", text] for key, default, text in describe(TrainingSettings)]
    rows, settings = [], []
    for name, listener in find_listeners().items():
        rows += [_listener_row(name, listener, preset) for preset in listener.presets or ("",)]
        every = [[f"`{key}`", f"`{default}`", text] for key, default, text in describe(listener.Settings)]
        settings += [[f"`{name}`", *row] for row in every if row not in shared]
    columns = ["listener", "preset", "paper", "reads", "says", "parameters", "causal", "stochastic"]
    return "\n\n".join(
        [
            markdown_table(columns, rows),
            "Settings that all have (`--set key=value`), with the defaults of those that do not set their own:",
            markdown_table(["setting", "default", "meaning"], shared),
            "Settings that differ or that a listener has for itself:",
            markdown_table(["listener", "setting", "default", "meaning"], settings),
        ]
    )


def _listener_row(name: str, listener: Any, preset: str) -> list[str]:
    from stages.train.listener import Sizes

    settings = listener.Settings(**listener.presets.get(preset, {}))
    order = listener.layout(settings)
    columns = Pipeline(find_stages(), {}).columns
    extra = {column: ([a for a in columns[column].axes if isinstance(a, int)] or [1])[-1] for column in listener.reads}
    model = listener(settings, Sizes(Layout(order), ACOUSTIC_WIDTH, len(ATTITUDES), extra))
    weights = sum(parameter.numel() for parameter in model.parameters())
    reads = ", ".join(["motion, audio", *(f"`{column}`" for column in listener.reads if column != BLINK)])
    says = f"`{order}`" + (" and blinks" if BLINK in listener.reads else "")  # blinks are read only to learn them
    flags = ["yes" if flag else "no" for flag in (listener.causal, listener.stochastic)]
    return [f"`{name}`", preset, listener.paper, reads, says, f"{weights:,}" if weights else "", *flags]


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


TOPICS = {"stages": stages_markdown, "listeners": listeners_markdown, "metrics": metrics_markdown}


def renew(text: str) -> str:
    """A document with the parts between markers made anew."""
    for topic, tables in TOPICS.items():
        begin = BEGIN.format(topic=topic)
        if begin in text:
            head, _, rest = text.partition(begin)
            text = f"{head}{begin}\n\n{tables()}\n\n{END}{rest.partition(END)[2]}"
    return text


@command(
    option("topics", nargs="*", help=f"{', '.join(TOPICS)}; default: all"),
    option("--write", action="store_true", help="renew the tables in docs/ instead of printing them"),
)
def main(options: argparse.Namespace) -> None:
    """Describe the project's parts."""
    if unknown := set(options.topics) - set(TOPICS):
        raise UserError(f"nothing to describe under {', '.join(sorted(unknown))}; there are {', '.join(TOPICS)}")
    if not options.write:
        print("\n\n".join(TOPICS[topic]() for topic in options.topics or TOPICS))
        return
    for document in sorted(DOCS.glob("*.md")):
        document.write_text(renew(document.read_text(encoding="utf-8")), encoding="utf-8")
