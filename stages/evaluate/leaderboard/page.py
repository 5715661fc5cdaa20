"""The leaderboard as one HTML page: tables, bars with intervals, clips as a scatter and as videos side by side.

The page asks nothing of the network: style, script and numbers stand in it, only videos lie beside it. Names and ids
are other people's: all text is escaped, and a content security policy lets no script run but the page's own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from schemas.score import ALL, REFERENCE_RUN, Score
from stages.evaluate.leaderboard.boards import Board
from stages.evaluate.leaderboard.markdown import ARROWS, ARROWS_MEAN, INTERVALS_MEAN, PUBLISHED_MEAN
from stages.evaluate.leaderboard.page_clips import Links, clip_numbers, clips_section
from stages.evaluate.leaderboard.page_table import cell, table
from stages.evaluate.leaderboard.report import Report, board_place, interval_text, number_text
from stages.evaluate.metrics.definition import Definition

FOLDER = Path(__file__).resolve().parent
HEADLINES = (  # what most papers print; the other metrics are folded away
    "fd_angle_eccv2022",
    "fd_exp_eccv2022",
    "fd_trans_eccv2022",
    "expl1_2023",
    "posel1_2023",
    "expfd_frechet_pooled",
    "posefd_frechet_pooled",
    "psnr_piq",
    "ssim_piq",
    "cpbd",
    "fid_piq",
    "csim_arcface",
)


def leaderboard_html(report: Report, links: Links) -> str:
    """The page; ``links`` are the videos of clips that were rendered."""
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; media-src 'self' file:"
    sections = list(_sections(report, links))
    return Template((FOLDER / "page.html").read_text(encoding="utf-8")).substitute(
        policy=policy,
        title=escape(f"Leaderboard: {report.data}"),
        facts="\n".join(_facts(report)),
        contents="".join(f'<li><a href="#{id}">{escape(title)}</a></li>' for id, title, _ in sections),
        sections="\n".join(
            f'<section id="{id}"><h2>{escape(title)}</h2>\n{body}\n</section>' for id, title, body in sections
        ),
        data=_json(clip_numbers(report)),
        script=script,
    )


def _json(value: Any) -> str:
    """JSON that can stand inside a script element: nothing in it ends the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _sections(report: Report, links: Links) -> Iterator[tuple[str, str, str]]:
    """Id, title and body of every section."""
    for split in report.splits:
        clips, frames = report.clips(split)
        if clips:
            yield split, f"{split}: {clips} clips, {frames} frames", _split_section(report, split)
    if report.differences:
        yield "differences", "Differences between runs", _differences(report)
    if report.rankings:
        yield "ranking", "Challenge ranking", _rankings(report)
    yield "clips", "Clips", clips_section(report, links)
    yield "published", "Beside the published scores", _published(report)
    yield "definitions", "Definitions", _definitions(report.computed())


def _facts(report: Report) -> Iterator[str]:
    if report.fitter:
        yield f'<p class="soft">Coefficients: {escape(report.fitter)}.</p>'
    yield f'<p class="soft">{escape(f"{ARROWS_MEAN}. {INTERVALS_MEAN} Seed {report.seed}.")}</p>'
    yield from (f'<p class="mark">Note: {escape(note)}.</p>' for note in report.notes)
    missing = [
        f"<li>{escape(', '.join(gap.metrics))} of {escape(', '.join(gap.runs))}: "
        f"<em>not computed: {escape(gap.reason)}</em></li>"
        for gap in report.missing()
    ]
    if missing:
        metrics = {metric for gap in report.missing() for metric in gap.metrics}
        summary = f"<summary>Not computed ({len(metrics)} metrics)</summary>"
        yield f"<details>{summary}<ul>{''.join(missing)}</ul></details>"


def _score_cell(score: Score | None, best: bool) -> str:
    if score is None:
        return cell("–")
    reach = "" if math.isnan(score.low) else f"{number_text(score.low)} to {number_text(score.high)}"
    value = f'<span class="best">{number_text(score.value)}</span>' if best else number_text(score.value)
    return cell(f'{value}<span class="range">{reach}</span>')


def _split_section(report: Report, split: str) -> str:
    blocks = [_bars(report, split), _score_table(report, split, ALL)]
    for attitude in report.attitudes(split):
        title = escape(f"{split}, {attitude}")
        blocks.append(f"<details><summary>Only {title}</summary>{_score_table(report, split, attitude)}</details>")
    return "\n".join(blocks)


def _score_table(report: Report, split: str, attitude: str) -> str:
    rows = []
    for row in report.rows(split, attitude):
        scores = [report.find(name, row.metric, split, attitude) for name in report.names]
        cells = [_score_cell(score, best) for score, best in zip(scores, row.best, strict=True)]
        found = next(score for score in scores if score)
        counted = f"{found.num_clips} clips, {found.num_frames} frames"
        rows.append([_metric_link(report, row.metric), *cells, cell(row.goal or "–"), cell(counted)])
    header = ["metric", *(escape(name) for name in report.names), "reference", "computed from"]
    return table(f"Scores on {split}, {attitude}", header, rows)


def _metric_link(report: Report, metric: str) -> str:
    arrow = ARROWS[report.metrics[metric].better]
    return f'<a href="#def-{escape(metric)}">{escape(report.metrics[metric].name)}</a> {arrow}'


def _bars(report: Report, split: str) -> str:
    cards = {metric.id: _card(report, metric, split) for metric in report.computed()}
    first = "".join(card for id, card in cards.items() if id in HEADLINES)
    others = "".join(card for id, card in cards.items() if id not in HEADLINES)
    folded = (
        f'<details><summary>All other metrics</summary><div class="cards">{others}</div></details>' if others else ""
    )
    return f'<div class="cards">{first}</div>{folded}'


def _card(report: Report, metric: Definition, split: str) -> str:
    """Bars of one metric, an interval on each, and a dashed line for the reference's own value."""
    scores = [score for name in report.names if (score := report.find(name, metric.id, split))]
    if not scores:
        return ""
    goal = report.find(REFERENCE_RUN, metric.id, split)
    ends = [v for s in (*scores, *([goal] if goal else [])) for v in (s.value, s.low, s.high) if math.isfinite(v)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    scale = 100 / (high - low) if high > low else 0.0
    bars = "".join(_bar(score, goal, low, scale) for score in scores)
    caption = f"{escape(metric.name)} {ARROWS[metric.direction]}{f' ({escape(metric.unit)})' if metric.unit else ''}"
    return f'<figure class="card"><figcaption>{caption}</figcaption>{bars}</figure>'


def _bar(score: Score, goal: Score | None, low: float, scale: float) -> str:
    def share(value: float) -> float:
        return (value - low) * scale

    start, end = sorted((share(0.0), share(score.value)))
    parts = [f'<span class="fill" style="left:{start:.2f}%;width:{end - start:.2f}%"></span>']
    if not math.isnan(score.low):
        width = share(score.high) - share(score.low)
        parts.append(f'<span class="reach" style="left:{share(score.low):.2f}%;width:{width:.2f}%"></span>')
    if goal:
        parts.append(f'<span class="goal" style="left:{share(goal.value):.2f}%" title="reference"></span>')
    words = escape(f"{score.run}: {interval_text(score)}")
    track = f'<span class="track" role="img" aria-label="{words}" title="{words}">{"".join(parts)}</span>'
    return f'<div class="bar"><span>{escape(score.run)}</span><span>{number_text(score.value)}</span>{track}</div>'


def _differences(report: Report) -> str:
    rows = []
    for difference in report.differences:
        if difference.key.attitude == ALL:
            text = interval_text(difference)
            shown = f"<strong>{text}</strong>" if difference.decided else text
            names = [cell(escape(name)) for name in (difference.first, difference.second)]
            metric = _metric_link(report, difference.key.metric)
            rows.append([metric, cell(difference.key.split), *names, cell(shown)])
    explained = "<p>Paired bootstrap on the same clips. Bold: the interval leaves out 0.</p>"
    shown = table("Differences", ["metric", "split", "first", "second", "first minus second"], rows)
    return f"{explained}<details><summary>All {len(rows)} differences</summary>{shown}</details>"


def _rankings(report: Report) -> str:
    rows = []
    for ranking in report.rankings:
        cells = [cell(str(ranking.results[name])) for name in report.names]
        rows.append(
            [escape(f"{ranking.split}, {ranking.rule}"), *cells, cell(escape(", ".join(ranking.metrics)), "words")]
        )
    return table(
        "Challenge ranking", ["rule", *(escape(name) for name in report.names), "metrics that took part"], rows
    )


def _published(report: Report) -> str:
    blocks = [f"<p>{escape(PUBLISHED_MEAN)}</p>"]
    for metric in dict.fromkeys(board.key.metric for board in report.boards):
        boards = [
            b for b in report.boards if b.key.metric == metric and not (b.ours and len(b.rows) <= len(report.names))
        ]
        if not boards:
            continue
        tables = []
        for board in boards:
            tables.append(f"<h3>{escape(board_place(board.key))}</h3>{_board(board)}")
        about = report.metrics[metric]
        mark = " (with ours)" if any(board.ours for board in boards) else ""
        count = f"{len(boards)} table{'s' if len(boards) > 1 else ''}"
        summary = f"{escape(about.name)} {ARROWS[about.better]}{mark}: {count}"
        meaning = f'<p class="soft">{escape(about.meaning)}</p>'
        blocks.append(f"<details><summary>{summary}</summary>{meaning}{''.join(tables)}</details>")
    return "\n".join(blocks)


def _board(board: Board) -> str:
    rows = []
    for row in board.rows:
        value = "not legible" if row.value is None else number_text(row.value)
        if row.low is not None and row.high is not None and not math.isnan(row.low):
            value += f'<span class="range">{number_text(row.low)} to {number_text(row.high)}</span>'
        notes = "; ".join(f"<strong>{escape(flag)}</strong> {escape(note)}" for flag, note in row.flags)
        cells = [cell(str(row.rank or "–")), cell(value), cell(escape(row.source or "this evaluation"), "words")]
        rows.append([escape(row.name), *cells, cell(notes, "words")])
    return table(board_place(board.key), ["method", "rank", "value", "source", "notes"], rows)


def _definitions(definitions: Sequence[Definition]) -> str:
    items = []
    for definition in definitions:
        parts = [f"{definition.formula}.", f"Source: {definition.source}.", f"Pooling: {definition.pooling.value}."]
        parts += [f"Published as {definition.published_as}."] if definition.published_as else []
        warning = f' <span class="mark">Mind: {escape(definition.warning)}.</span>' if definition.warning else ""
        name = f'{escape(definition.name)} <code class="soft">{escape(definition.id)}</code>'
        items.append(f'<dt id="def-{escape(definition.id)}">{name}</dt><dd>{escape(" ".join(parts))}{warning}</dd>')
    return f"<dl>{''.join(items)}</dl>"
