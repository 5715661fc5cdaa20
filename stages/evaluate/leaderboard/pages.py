"""The leaderboard as one HTML page, with bars, clips as a scatter and as videos side by side; and in Markdown.

The page asks nothing of the network: style, script and numbers stand in it, only videos lie beside it. Names and ids
are other people's: the templates (``page.html``, ``page.md``) escape all that they print, and a content security policy
lets no script run but the page's own (``page.js``).
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from schemas.score import ALL, REFERENCE_RUN, Difference, Score
from stages.evaluate.leaderboard.boards import Board
from stages.evaluate.leaderboard.published import Metric
from stages.evaluate.leaderboard.report import Report, board_place, interval_text, number_text
from stages.evaluate.metrics.definition import Definition, Direction, Pooling

FOLDER = Path(__file__).resolve().parent
HEADLINES = (  # what most papers print; the other metrics are folded away
    *("fd_angle_eccv2022", "fd_exp_eccv2022", "fd_trans_eccv2022", "expl1_2023", "posel1_2023"),
    *("expfd_frechet_pooled", "posefd_frechet_pooled"),
    *("psnr_piq", "ssim_piq", "cpbd", "fid_piq", "csim_arcface"),
)
ARROWS = {Direction.LOWER: "↓", Direction.HIGHER: "↑", Direction.REFERENCE: "→"}
WORDS = {
    "arrows": "↓ lower is better, ↑ higher is better, → closer to the reference's own value is better",
    "intervals": "Brackets hold the 95 % interval of a bootstrap over clips; with fewer than about ten clips it is too "
    "narrow.",
    "published": "Numbers are ranked only among those that share definition, data set, split, attitude, space, scale, "
    "pooling and resolution; what a paper does not state keeps it from no table, and a note says so. Without a rank "
    "stand numbers that were copied, averaged over sets, contradict their neighbours, cannot be read or may have "
    "another definition; the note says which.",
}
SPECIAL = re.compile(r"([\\`*\[\]|<>~&]|\b_|_\b)")  # what means something inside a line; words keep their underscores
Links = Mapping[str, Mapping[str, str]]  # clip -> whose -> file, relative to the page


def leaderboard_html(report: Report, links: Links) -> str:
    """The page; ``links`` are the videos of clips that were rendered."""
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; media-src 'self' file:"
    page = _environment(autoescape=True).get_template("page.html")
    return page.render(
        policy=policy,
        script=script,
        report=report,
        links=links,
        data=clip_numbers(report),
        sections=list(_sections(report)),
        cards={split: list(_cards(report, split)) for split in report.splits},
        compared=list(_compared(report)),
        of_clips=[(one.id, one.name) for one in report.computed() if one.pooling is not Pooling.DATA_SET],
        axes=[*((name, name) for name in report.names), ("", "frames of the clip")],
        missing=len({metric for gap in report.missing() for metric in gap.metrics}),
    )


class _Markdown(str):
    """Text that is Markdown already."""


def _plain(value: Any) -> str:
    """Text of others as Markdown shows it letter by letter, on one line."""
    return value if isinstance(value, _Markdown) else SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def leaderboard_markdown(report: Report) -> str:
    """Our runs, by split and attitude, their differences, and the published beside them."""
    pages = _environment(finalize=_plain)
    pages.filters["interval"] = lambda score: _Markdown(interval_text(score))
    pages.filters["strong"] = lambda text, yes: _Markdown(f"**{text}**" if yes else text)
    found = [one for one in report.differences if one.key.attitude == ALL]
    differences: dict[str, dict[str, dict[tuple[str, str], Difference]]] = {}
    for one in found:
        differences.setdefault(one.key.split, {}).setdefault(one.key.metric, {})[one.first, one.second] = one
    pairs = list(dict.fromkeys((one.first, one.second) for one in found))
    text = pages.get_template("page.md").render(report=report, differences=differences, pairs=pairs)
    return text.rstrip() + "\n"


def _environment(**options: Any) -> Environment:
    """Templates of this folder, with what both know."""
    options |= {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    pages = Environment(loader=FileSystemLoader(FOLDER), **options)
    pages.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    pages.filters |= {"number": number_text, "interval": interval_text, "place": board_place}
    pages.tests["nan"] = math.isnan
    pages.globals |= {"words": WORDS, "arrows": ARROWS, "all": ALL}
    return pages


def _sections(report: Report) -> Iterator[tuple[str, str]]:
    for split in report.splits:
        clips, frames = report.clips(split)
        if clips:
            yield split, f"{split}: {clips} clips, {frames} frames"
    if report.differences:
        yield "differences", "Differences between runs"
    if report.rankings:
        yield "ranking", "Challenge ranking"
    yield "clips", "Clips"
    yield "published", "Beside the published scores"
    yield "definitions", "Definitions"


def _compared(report: Report) -> Iterator[tuple[Metric, list[Board]]]:
    """Metrics with the boards on which others stand."""
    shown = report.boards_beside_others()
    for id in dict.fromkeys(board.key.metric for board in report.boards):
        if found := [board for board in shown if board.key.metric == id]:
            yield report.metrics[id], found


@dataclass(frozen=True)
class Card:
    """One metric: every run's bar from 0 to its value, its interval on it, and the reference's own value."""

    metric: Definition
    scores: list[Score]
    goal: Score | None
    low: float  # where the card begins
    scale: float  # percent of its width a unit

    @property
    def headline(self) -> bool:
        return self.metric.id in HEADLINES

    def share(self, value: float) -> float:
        """Where a value lies, in percent of the width."""
        return (value - self.low) * self.scale

    def span(self, first: float, second: float) -> str:
        """The style of a part of a bar."""
        start, end = sorted((self.share(first), self.share(second)))
        return f"left:{start:.2f}%;width:{end - start:.2f}%"


def _cards(report: Report, split: str) -> Iterator[Card]:
    for metric in report.computed():
        scores = [score for name in report.names if (score := report.find(name, metric.id, split))]
        if scores:
            goal = report.find(REFERENCE_RUN, metric.id, split)
            shown = [*scores, goal] if goal else scores
            ends = [value for s in shown for value in (s.value, s.low, s.high) if math.isfinite(value)]
            low, high = min(0.0, *ends), max(0.0, *ends)
            yield Card(metric, scores, goal, low, 100 / (high - low) if high > low else 0.0)


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
