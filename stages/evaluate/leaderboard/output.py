"""The folder of a leaderboard.

OUT/scores.json          scores, differences, rankings, what was not computed, definitions, settings
OUT/scores.parquet       a row a run, sample, clip and metric
OUT/leaderboard.md       the same for people
OUT/leaderboard.html     one page with charts; plays the clips of OUT/media/<clip_id>/ where they were rendered
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.dataset.store import Store
from schemas.score import clip_score_table
from stages.evaluate.leaderboard.pages import leaderboard_html, leaderboard_markdown
from stages.evaluate.leaderboard.report import Report


def write_report(report: Report, out: Path) -> None:
    """Write all files; those of an earlier evaluation are replaced."""
    store = Store(out)
    out.mkdir(parents=True, exist_ok=True)
    links = {clip_id: _link_media(clip_id, files, out) for clip_id, files in report.films.items()}
    with store.new_file(out / "scores.parquet") as temporary:
        pq.write_table(clip_score_table(report.clip_scores), temporary, compression="zstd")
    store.write_text(out / "leaderboard.md", leaderboard_markdown(report))
    store.write_text(out / "leaderboard.html", leaderboard_html(report, links))
    store.write_text(out / "scores.json", json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n")
    store.clear_scratch()


def _link_media(clip_id: str, files: Mapping[str, Path], out: Path) -> dict[str, str]:
    """Videos of a clip beside the page, linked where the disk allows and else copied: whose -> relative path."""
    folder = out / "media" / clip_id
    folder.mkdir(parents=True, exist_ok=True)
    links = {}
    for number, (name, path) in enumerate(files.items()):
        target = folder / f"{number}.mp4"  # names of runs are no file names
        target.unlink(missing_ok=True)
        try:
            os.link(path.resolve(), target)
        except OSError:
            shutil.copyfile(path, target)
        links[name] = target.relative_to(out).as_posix()
    return links
