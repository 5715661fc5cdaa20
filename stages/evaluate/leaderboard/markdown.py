"""The leaderboard in Markdown: our runs, by split and attitude, their differences, and the published beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.tables import markdown_table
from schemas.score import ALL, Difference
from stages.evaluate.leaderboard.boards import Board
from stages.evaluate.leaderboard.report import Report, board_place, interval_text, number_text
from stages.evaluate.metrics.definition import Direction

ARROWS = {Direction.LOWER: "↓", Direction.HIGHER: "↑", Direction.REFERENCE: "→"}
ARROWS_MEAN = "↓ lower is better, ↑ higher is better, → closer to the reference's own value is better"
INTERVALS_MEAN = (
    "Brackets hold the 95 % interval of a bootstrap over clips; with fewer than about ten clips it is too narrow."
)
SPECIAL = re.compile(r"([\\`*\[\]|<>~&]|\b_|_\b)")  # what means something inside a line; words keep their underscores


def plain(text: str) -> str:
    """Text of others as Markdown shows it letter by letter, on one line."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def leaderboard_markdown(report: Report) -> str:
    """The whole document."""
    blocks = [f"# Leaderboard: {plain(report.data)}", *_facts(report)]
    for split in report.splits:
        clips, frames = report.clips(split)
        blocks += [f"## {split}: {clips} clips, {frames} frames", *_tables(report, split)]
    blocks += _missing(report)
    blocks += _rankings(report)
    blocks += _differences(report)
    blocks += ["## Beside the published scores", PUBLISHED_MEAN, *_boards(report)]
    blocks += ["## Definitions", *_definitions(report)]
    return "\n\n".join(blocks) + "\n"


PUBLISHED_MEAN = (
    "Numbers are ranked only among those that share definition, data set, split, attitude, space, scale, pooling and "
    "resolution. Without a rank stand numbers that were copied, averaged over sets, contradict their neighbours or "
    "cannot be read; the note says which."
)


def _facts(report: Report) -> Iterator[str]:
    if report.fitter:
        yield f"Coefficients: {plain(report.fitter)}."
    yield f"{ARROWS_MEAN}. {INTERVALS_MEAN} Seed {report.seed}."
    yield from (f"Note: {plain(note)}." for note in report.notes)


def _missing(report: Report) -> Iterator[str]:
    gaps = list(report.missing())
    if gaps:
        yield "## Not computed"
    for gap in gaps:
        metrics = ", ".join(f"`{metric}`" for metric in gap.metrics)
        yield f"{metrics} of {plain(', '.join(gap.runs))}: *not computed: {plain(gap.reason)}*"


def _tables(report: Report, split: str) -> Iterator[str]:
    for attitude in (ALL, *report.attitudes(split)):
        if attitude != ALL:
            yield f"### {split}, {attitude}"
        header = ["metric", *(plain(name) for name in report.names), "reference"]
        rows = []
        for row in report.rows(split, attitude):
            texts = zip(map(interval_text, row.scores), row.best, strict=True)
            arrow, goal = ARROWS[report.metrics[row.metric].better], number_text(row.goal.value) if row.goal else ""
            rows.append([f"`{row.metric}` {arrow}", *(f"**{text}**" if best else text for text, best in texts), goal])
        yield markdown_table(header, rows)


def _rankings(report: Report) -> Iterator[str]:
    if report.rankings:
        yield "## Challenge ranking"
        yield "By the challenge's rules, over the metrics that all runs have."
        header = ["rule", *(plain(name) for name in report.names), "metrics"]
        rows = [
            [f"{r.split}, {r.rule}", *(str(r.results[name]) for name in report.names), ", ".join(r.metrics)]
            for r in report.rankings
        ]
        yield markdown_table(header, rows)


def _differences(report: Report) -> Iterator[str]:
    """A row a metric, a column a pair of runs."""
    found = {(d.key.split, d.key.metric, d.first, d.second): d for d in report.differences if d.key.attitude == ALL}
    pairs = list(dict.fromkeys((first, second) for _, _, first, second in found))
    if pairs:
        yield "## Differences between runs"
        yield "First minus second; a paired bootstrap on the same clips, in bold where the interval leaves out 0."
    for split in dict.fromkeys(split for split, *_ in found):
        yield f"### Differences on {split}"
        metrics = dict.fromkeys(metric for there, metric, *_ in found if there == split)
        rows = [[f"`{m}`", *(_difference_text(found.get((split, m, *pair))) for pair in pairs)] for m in metrics]
        yield markdown_table(["metric", *(f"{plain(a)} - {plain(b)}" for a, b in pairs)], rows)


def _difference_text(difference: Difference | None) -> str:
    if difference is None:
        return ""
    text = interval_text(difference)
    return f"**{text}**" if difference.decided else text


def _boards(report: Report) -> Iterator[str]:
    for board in report.boards_beside_others():
        yield f"### `{board.key.metric}` on {plain(board_place(board.key))}"
        yield markdown_table(["rank", "method", "value", "source", "notes"], list(_board_rows(board)))


def _board_rows(board: Board) -> Iterator[list[str]]:
    for row in board.rows:
        value = "not legible" if row.value is None else number_text(row.value)
        if row.low is not None and row.high is not None and row.low == row.low:
            value += f" [{number_text(row.low)}, {number_text(row.high)}]"
        notes = "; ".join(f"*{plain(flag)}*" + (f": {plain(note)}" if note else "") for flag, note in row.flags)
        yield [str(row.rank or "–"), plain(row.name), value, plain(row.source or "this evaluation"), notes]


def _definitions(report: Report) -> Iterator[str]:
    for definition in report.computed():
        lines = [f"**`{definition.id}`** ({plain(definition.name)}): {plain(definition.formula)}."]
        lines.append(f"Source: {plain(definition.source)}. Pooling: {definition.pooling.value}.")
        if definition.published_as:
            lines.append(f"Published as {plain(definition.published_as)}.")
        if definition.warning:
            lines.append(f"Mind: {plain(definition.warning)}.")
        yield " ".join(lines)
