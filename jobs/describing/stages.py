"""Tables of columns, settings and reasons for rejects, read off the stages."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.dataset.write import PackSettings
from pipeline.ledger.limits import Limits
from pipeline.plan import Pipeline
from pipeline.registry import find_stages
from pipeline.settings import describe
from pipeline.sources.download import DownloadSettings
from pipeline.stage import Stage
from pipeline.tables import markdown_table
from schemas.clip import CLIP_COLUMNS
from schemas.column import Column


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
    described = [(stage.name, describe(stage.Settings)) for stage in stages] + [
        ("pack", describe(PackSettings)),
        ("download", describe(DownloadSettings)),
        ("limits", describe(Limits)),
    ]
    rows = [[f"`{name}.{key}`", f"`{default}`", meaning] for name, all_ in described for key, default, meaning in all_]
    return markdown_table(["setting", "default", "meaning"], rows)


def _reasons_table(stages: Sequence[Stage]) -> str:
    rows = [[stage.name, f"`{reason}`", meaning] for stage in stages for reason, meaning in stage.rejects.items()]
    return markdown_table(["stage", "reason", "meaning"], rows)
