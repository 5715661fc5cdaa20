"""A picture of a film's spans: a line for every two minutes, who speaks above it, and what was left out in grey."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from jobs.mining import reasons
from jobs.mining.evidence import Row
from schemas.clip import SIDES

LINE_S = 120.0  # of film
MOST_LINES = 60  # two hours; what is later is left out of the picture
COLOURS = {0: "#1f77b4", 1: "#ff7f0e"}  # who speaks: left, right
GREYS = {reasons.READ: "#000000", reasons.TWO_PEOPLE: "#555555", reasons.IN_VIEW: "#888888"}
LIGHT = "#cccccc"  # two people are in view, and yet it is no clip


def write_picture(path: Path, film: str, rows: Sequence[Row]) -> None:
    """Draw the spans of one film, in order."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    spans = [row for row in rows if not row.span.turns]
    end_s = min(float(spans[-1].times.end_s), MOST_LINES * LINE_S)
    lines, width_s = ceil(end_s / LINE_S), min(end_s, LINE_S)
    figure = Figure(figsize=(11, 1.2 + 0.55 * lines))
    axes = figure.subplots()
    shown = {}
    for row in spans:
        step = reasons.REASONS[row.span.reason][0]
        side = row.span.side if row.is_clip else None
        colour = GREYS.get(step, LIGHT) if side is None else COLOURS[side]
        name = row.span.reason if side is None else f"clip: the {SIDES[side]} one speaks"
        shown[name] = Patch(color=colour, label=name)
        start_s, rest_s = float(row.times.start_s), float(row.times.end_s)
        while start_s < min(rest_s, end_s):
            line = int(start_s / LINE_S)
            stop_s = min(rest_s, (line + 1) * LINE_S)
            axes.broken_barh([(start_s - line * LINE_S, stop_s - start_s)], (line - 0.35, 0.7), facecolors=colour)
            start_s = stop_s
    axes.set(xlim=(0, width_s), ylim=(lines - 0.5, -0.5), title=film, xlabel="seconds from the line's beginning")
    axes.set_yticks(range(lines), [f"{int(line * LINE_S // 60)} min" for line in range(lines)])
    figure.legend(handles=list(shown.values()), loc="outside right upper", fontsize=8, frameon=False)
    figure.set_layout_engine("constrained")
    figure.savefig(path, format="png", dpi=90, metadata={"Software": None})
