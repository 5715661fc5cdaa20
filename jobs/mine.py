"""Find the clips of films: ``python -m jobs.mine FILMS.toml --out MINED`` writes a manifest for jobs.build.

A manifest of films without clips goes in. Where exactly two people are to be seen and one speaks while the other
listens, a clip is proposed; for every other second of the films ``MINED/evidence.parquet`` says why not. It is a build
whose clips are windows of films: what is finished is kept, a second run does what is missing. Exit status: 0 there
are clips, 1 there are none, 2 manifest, settings or weights are wrong or the disk is full.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from jobs.build import survey_and_run
from jobs.command import add_place, command, option
from jobs.mining.evidence import funnel_table
from jobs.mining.mining import EVIDENCE, MANIFEST, PICTURES, STAGES, Mining, PeopleSettings, check_out
from jobs.mining.spans import SpanSettings
from jobs.mining.windows import WindowSettings
from pipeline.build import BuildOptions
from pipeline.dataset.lock import locked
from pipeline.manifest.load import load_films
from pipeline.registry import find_stages
from pipeline.settings import as_plain, describe, parse_overrides


def _settings_help() -> str:
    kinds = {"windows": WindowSettings, "spans": SpanSettings, "people": PeopleSettings}
    kinds |= {code.name: code.load().Settings for code in find_stages() if code.name in STAGES}
    rows = [
        (f"{name}.{key} = {default}", text) for name, kind in kinds.items() for key, default, text in describe(kind)
    ]
    return "\n".join(["settings:", *(f"  {head}\n      {meaning}" for head, meaning in rows)])


@command(
    option("films", type=Path, help="a manifest of films, without clips"),
    option("--out", required=True, metavar="MINED", help="folder for the manifest of the clips and all evidence"),
    option("--pictures", action="store_true", help="draw the spans of every film"),
    option("--plan", action="store_true", help="say what would be done and stop"),
    option("--set", action="append", default=[], metavar="STAGE.KEY=VALUE", help="change a setting"),
    option("--redo", action="append", default=[], metavar="STAGE", help="compute a stage and its readers anew"),
    option("--workers", type=int, help="copies of each group of stages (default: as many as fit)"),
    add_place,
    option("--wait-s", type=float, default=0.0, help="how long a cluster may take to add the first nodes"),
    epilog=_settings_help,
)
def main(options: argparse.Namespace) -> int:
    """Find the clips of films."""
    out, films = check_out(options.out), load_films(options.films)
    words = (str(options.films.resolve()), *(f"--set={word}" for word in options.set))
    choices = BuildOptions(parse_overrides(options.set), tuple(options.redo), words)
    with locked(out):
        mining = Mining(films, out, find_stages(), choices, pictures=options.pictures)
        for name, settings in mining.resolved().items():
            print(f"[stages.{name}] {json.dumps(as_plain(settings))}")
        report = survey_and_run(mining, options, "windows")
    if report is None:
        return 0
    print("\n".join([report.table(), *report.missing_lines(), "", funnel_table(mining.funnel)]))
    glance = f"; at a glance: {out / PICTURES}" if options.pictures else ""
    print(f"\nwhy, span by span: {out / EVIDENCE}{glance}")
    clips = mining.funnel["clips"] + mining.funnel["clips_of_turns"]
    if clips:
        print(f"next: python -m jobs.build {out / MANIFEST} --out DATA")
    return 0 if clips else 1
