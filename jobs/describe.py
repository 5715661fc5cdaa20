"""Describe stages, listeners and metrics from their code: ``python -m jobs.describe``; ``--write`` renews docs/.

A document has its tables between two markers; the tests compare them with the code.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jobs.command import command, option
from jobs.layouts import find_layouts
from jobs.mining.mining import PeopleSettings
from jobs.mining.reasons import CLIP, REASONS
from jobs.mining.spans import SpanSettings
from jobs.mining.windows import WindowSettings
from pipeline.dataset.write import PackSettings
from pipeline.gpu import GpuSettings
from pipeline.ledger.limits import Limits
from pipeline.plan import Pipeline
from pipeline.registry import find_stages
from pipeline.settings import describe
from pipeline.sources.download import DownloadSettings
from pipeline.stage import Stage
from pipeline.tables import markdown_table
from schemas.clip import ATTITUDES, CLIP_COLUMNS
from schemas.coefficients import Layout
from schemas.column import ROLES, Column
from schemas.errors import UserError
from schemas.score import NOT_STATED
from stages.evaluate.leaderboard.published import PUBLISHED
from stages.evaluate.metrics.definition import Definition
from stages.evaluate.metrics.registry import definitions

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN, END = "<!-- begin: python -m jobs.describe {topic} -->", "<!-- end -->"
BLINK, ACOUSTIC_WIDTH = "listener_blink", 45
PERFECT = "the reference's"
DEVIATION = ["where", "the paper", "here, by default", "the paper's with"]
PAPERS = {"vico_lstm": "vico", "pchg": "pchg", "hsp": "hsp", "elp": "elp", "mfr": "mfr"}  # listener -> published scores
BASELINES = {"vico_lstm": ("random", "simulation", "mirror"), "elp": ("random", "nn_motion", "nn_audio")}


def stages_markdown() -> str:
    """Tables of all columns, settings and reasons, in Markdown."""
    pipeline = Pipeline(find_stages(), {})
    blocks = ["## Columns", _columns_table(pipeline), "## Settings", _settings_table(pipeline.stages)]
    return "\n\n".join([*blocks, "## Reasons", _reasons_table(pipeline.stages)])


def _columns_table(pipeline: Pipeline) -> str:
    rows = [(column, "manifest") for column in CLIP_COLUMNS]
    opt_in = {stage.name: " (opt-in)" if stage.opt_in else "" for stage in pipeline.stages}
    writer = {name: stage + opt_in[stage] for name, stage in pipeline.writer.items()}
    copies = _own_copies(pipeline)
    rows += [(column, writer[column.name]) for column in pipeline.columns.values() if column.name not in copies]
    table = markdown_table(["column", "type", "unit", "stage", "meaning"], [_column_row(*row) for row in rows])
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(copies.values()))
    note = (
        f"Where the stage `sounds` runs there are also {names} of each person's own sound: `speaker_words` and so on."
    )
    return f"{table}\n\n{note}"


def _own_copies(pipeline: Pipeline) -> dict[str, str]:
    """The columns that hold of each person's own sound what another of the same stage holds of both -> that other."""
    of = {f"{role}_{name}": name for name in pipeline.columns for role in ROLES}
    writer = pipeline.writer
    return {name: of[name] for name, stage in writer.items() if name in of and writer[of[name]] == stage}


def _column_row(column: Column, stage: str) -> list[str]:
    kind = "path" if column.media else str(column.element_type)
    notes = " (heavy: in shards on request)" if column.heavy else ""
    return [f"`{column.name}`", f"{kind} {column.shape}".strip(), column.unit, stage, column.meaning + notes]


def _settings_table(stages: Sequence[Stage]) -> str:
    of = {stage.name: stage.Settings for stage in stages}
    of |= {"pack": PackSettings, "download": DownloadSettings, "limits": Limits, "gpu": GpuSettings}
    rows = [[f"`{name}.{key}`", f"`{default}`", text] for name in of for key, default, text in describe(of[name])]
    return markdown_table(["setting", "default", "meaning"], rows)


def _reasons_table(stages: Sequence[Stage]) -> str:
    rows = [[stage.name, f"`{reason}`", meaning] for stage in stages for reason, meaning in stage.rejects.items()]
    rows += [
        [stage.name, f"`{reason}`", f"{meaning} (a warning: the clip stays)"]
        for stage in stages
        for reason, meaning in stage.warnings.items()
    ]
    return markdown_table(["stage", "reason", "meaning"], rows)


def mining_markdown() -> str:
    """Tables of the settings of windows and spans, and of why a span of film is no clip, in Markdown."""
    kinds = {"windows": WindowSettings, "spans": SpanSettings, "people": PeopleSettings}
    settings = [[f"`{n}.{key}`", f"`{default}`", text] for n in kinds for key, default, text in describe(kinds[n])]
    out = [[f"`{name}`", step, meaning] for name, (step, meaning) in REASONS.items() if name != CLIP]
    blocks = [markdown_table(["setting", "default", "meaning"], settings)]
    return "\n\n".join([*blocks, markdown_table(["reason", "falls out at", "meaning"], out)])


def layouts_markdown() -> str:
    """A table of other people's layouts: what comes in, what goes out, and what is lost on the way out."""
    rows = [
        [f"`{name}`", layout.reads or "-", layout.writes or "-", layout.loses if layout.writes else "-"]
        + [layout.space or "any", f"{layout.fps} fps"]
        for name, layout in find_layouts().items()
    ]
    return markdown_table(["layout", "in", "out", "what it cannot hold", "coefficients", "clock"], rows)


def listeners_markdown() -> str:
    """A table of all listeners and their presets, and one of the settings of each."""
    from stages.train.listener import TrainingSettings
    from stages.train.registry import find_listeners

    shared = [[f"`{key}`", f"`{default}`", text] for key, default, text in describe(TrainingSettings)]
    rows, settings = [], []
    for name, listener in find_listeners().items():
        rows += [_listener_row(name, listener, preset) for preset in ("", *listener.presets)]
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
            "Where listeners differ from their papers, and what switches it; the presets `paper` hold all these "
            "settings but that of the layout:",
            _deviations_table(),
        ]
    )


def paper_markdown(listener: str) -> str:
    """What a paper printed, and where its listener differs from its text."""
    content = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
    paper = PAPERS[listener]
    printed = [_printed_table(table) for table in content["tables"] if table["paper"] == paper]
    return "\n\n".join(
        [
            "## The published numbers",
            f"{content['papers'][paper]}. As printed, but for zeros at the end; `-`: not printed, `?`: cannot be read.",
            *printed,
            "## Where this differs from the paper",
            "The preset `paper` switches all that names a setting but the layout of motion.",
            _deviations_table(["all", listener, *BASELINES.get(listener, ())]),
        ]
    )


def _printed_table(table: Mapping[str, Any]) -> str:
    """A table of the list of published scores, and under it what to know before comparing."""
    header = ["method", "split", "attitude", *table["columns"]]
    lines = [f"**Table {table['table']}**: {table['title']}", ""]
    lines += [markdown_table(header, [[str(cell) for cell in row] for row in table["rows"]])]
    rules = [*table.get("flags", ())]
    rules += [{"flag": "resolution not stated"}] * (table["resolution"] == NOT_STATED)
    for column, ids in table.get("candidates", {}).items():
        rules += [{"flag": "candidate definition", "columns": [column], "note": f"set beside {', '.join(ids)}"}]
    flags = [_flag(rule) for rule in rules]
    return "\n".join([*lines, *(["", *flags] if flags else [])])


def _flag(rule: Mapping[str, Any]) -> str:
    place = ", ".join(
        [str(rule[key]) for key in ("method", "split", "attitude") if key in rule] + rule.get("columns", [])
    )
    return f"- *{rule['flag']}*" + (f" ({place})" if place else "") + (f": {rule['note']}" if "note" in rule else "")


def _deviation_row(deviation: Any) -> list[str]:
    return [deviation.where, deviation.paper, deviation.ours, _set(deviation.settings)]


def _deviations_table(names: Sequence[str] = ()) -> str:
    """What the papers say, what the listeners of some names do by default, and the setting that takes it back."""
    from stages.train.listener import Listener
    from stages.train.registry import find_listeners

    of = {"all": Listener} | {name: kind for name, kind in find_listeners().items() if "deviations" in vars(kind)}
    rows = [
        [f"`{name}`" if name != "all" else name, *_deviation_row(d)]
        for name in names or of
        for d in of[name].deviations
    ]
    return markdown_table(["listener", *DEVIATION], rows)


def _set(settings: Mapping[str, Any]) -> str:
    """Settings as the command line takes them."""
    return " ".join(f"`--set {key}={json.dumps(value)}`" for key, value in settings.items()).replace('"', "")


def _listener_row(name: str, listener: Any, preset: str) -> list[str]:
    from stages.train.listener import Sizes

    settings = listener.Settings(**listener.presets.get(preset, {}))
    order = "paper70" if settings.order == "auto" else settings.order
    read = listener.reads(settings)
    columns = Pipeline(find_stages(), {}).columns
    extra = {column: ([a for a in columns[column].axes if isinstance(a, int)] or [1])[-1] for column in read}
    model = listener(settings, Sizes(Layout(order), ACOUSTIC_WIDTH, len(ATTITUDES), extra))
    weights = sum(parameter.numel() for parameter in model.parameters())
    reads = ", ".join(["motion, audio", *(f"`{column}`" for column in read if column != BLINK)])
    says = f"`{order}`" + (" and blinks" if BLINK in read else "")  # blinks are read only to learn them
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
TOPICS |= {"layouts": layouts_markdown, "mining": mining_markdown}
TOPICS |= {f"paper_{listener}": partial(paper_markdown, listener) for listener in PAPERS}


def renew(text: str) -> str:
    """A document with the parts between markers made anew."""
    for topic, tables in TOPICS.items():
        begin = BEGIN.format(topic=topic)
        if begin in text:
            text = filled(text, begin, tables())
    return text


def filled(text: str, begin: str, content: str) -> str:
    """A document with other content between a marker that it has and the next `END`."""
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n\n{content}\n\n{END}{rest.partition(END)[2]}"


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
    for document in sorted(DOCS.rglob("*.md")):
        document.write_text(renew(document.read_text(encoding="utf-8")), encoding="utf-8")
