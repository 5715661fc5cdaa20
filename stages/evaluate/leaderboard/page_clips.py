"""Single clips on the leaderboard's page: a dot a clip, its numbers, and reference, speaker, predictions as videos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from stages.evaluate.leaderboard.page_table import table
from stages.evaluate.leaderboard.report import Report
from stages.evaluate.metrics.definition import Pooling

Links = Mapping[str, Mapping[str, str]]  # clip -> whose -> file, relative to the page


def clip_numbers(report: Report) -> dict[str, Any]:
    """The numbers of single clips, as the script reads them; of several samples the first."""
    rows = [row for row in report.clip_scores if row.sample == 0]
    clips: dict[str, dict[str, Any]] = {}
    for row in rows:
        facts = {"id": row.clip_id, "split": row.split, "attitude": row.attitude, "frames": row.num_frames}
        known = clips.setdefault(row.clip_id, facts)
        known["frames"] = max(known["frames"], row.num_frames)
    order = sorted(clips, key=lambda clip_id: (report.splits.index(clips[clip_id]["split"]), clip_id))
    position = {clip_id: i for i, clip_id in enumerate(order)}
    values: dict[str, dict[str, list[float | None]]] = {}
    for row in rows:
        column = values.setdefault(row.metric, {}).setdefault(row.run, [None] * len(clips))
        column[position[row.clip_id]] = None if math.isnan(row.value) else float(f"{row.value:.6g}")
    for metric in values.values():
        for name in report.names:
            metric.setdefault(name, [None] * len(clips))
    return {"runs": report.names, "clips": [clips[clip_id] for clip_id in order], "values": values}


def clips_section(report: Report, links: Links) -> str:
    """The scatter, and every clip with its numbers and videos."""
    metrics = [metric for metric in report.computed() if metric.pooling is not Pooling.DATA_SET]
    if not metrics:
        return "<p>None of the metrics has values of single clips.</p>"
    choices = [("metric", "Metric", [(metric.id, metric.name) for metric in metrics], metrics[0].id)]
    axes = [*((name, name) for name in report.names), ("", "frames of the clip")]
    second = report.names[1] if len(report.names) > 1 else ""
    choices += [("x", "Across", axes, report.names[0]), ("y", "Upwards", axes, second)]
    picks = "".join(_select(*choice) for choice in choices)
    key = "".join(
        f'<span><i style="background:var(--{kind})"></i>{label}</span>'
        for kind, label in (*((a, a) for a in ("positive", "neutral", "negative")), ("none", "not labelled"))
    )
    chart = '<svg id="scatter" viewBox="0 0 400 400" role="img" aria-label="A dot a clip"></svg>'
    told = '<p><output id="told" class="soft"></output></p>'
    clips = "\n".join(_clip(clip, i, report, links) for i, clip in enumerate(clip_numbers(report)["clips"]))
    return f'<div class="pick">{picks}</div><div class="key">{key}</div>{chart}{told}{clips}'


def _select(id: str, label: str, choices: Sequence[tuple[str, str]], chosen: str) -> str:
    options = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(name)}</option>'
        for value, name in choices
    )
    return f'<label>{label}<select id="pick-{id}">{options}</select></label>'


def _clip(clip: Mapping[str, Any], position: int, report: Report, links: Links) -> str:
    files = links.get(clip["id"], {})
    films = "".join(
        f'<figure><video src="{escape(file)}" aria-label="{escape(name)}" controls muted playsinline preload="metadata"'
        f"></video><figcaption>{escape(name)}</figcaption></figure>"
        for name, file in files.items()
    )
    together = '<p><button type="button" data-play>Play together</button></p>' if files else ""
    title = escape(f"{clip['id']} ({clip['split']}, {clip['attitude'] or 'not labelled'}, {clip['frames']} frames)")
    values = table(f"Values of {clip['id']}", ["metric", *(escape(name) for name in report.names)], [])
    shown = " open" if files and position == 0 else ""
    return (
        f'<details class="clip" data-clip="{position}"{shown}><summary>{title}</summary>'
        f'{together}<div class="films">{films}</div>{values}</details>'
    )
