"""Download the sources of a manifest that have a url: ``python -m jobs.download MANIFEST``.

Sources that were asked for before are left alone; ``--retry rate_limited,network`` asks again for those of some
classes. The ledger is ``downloads/availability.json`` beside the manifest. Exit status: 0 the share of sources that are
here reaches the manifest's ``min_yield``, 1 it does not, 2 the manifest or a setting is wrong.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

from jobs.command import MANIFEST, command, option
from pipeline.manifest.load import load_sources
from pipeline.settings import describe, merge, parse_overrides, resolve
from pipeline.sources.availability import OK, OUTCOMES, Entry
from pipeline.sources.download import Downloads, DownloadSettings
from pipeline.tables import aligned
from schemas.errors import UserError


def _summary(entries: Sequence[Entry]) -> str:
    if not entries:
        return "no source of this manifest has a url"
    count = Counter(entry.outcome for entry in entries)
    rows = [[outcome, str(count[outcome]), meaning] for outcome, meaning in OUTCOMES.items() if count[outcome]]
    return f"{count[OK]} of {len(entries)} sources with a url are here\n" + aligned(rows)


def _settings_help() -> str:
    rows = [f"  download.{key} = {default}\n      {meaning}" for key, default, meaning in describe(DownloadSettings)]
    return "\n".join(["settings:", *rows])


@command(
    MANIFEST,
    option("--retry", default="", metavar="CLASSES", help="ask again for these alone: rate_limited,network"),
    option("--set", action="append", default=[], metavar="download.KEY=VALUE", help="change a setting"),
    epilog=_settings_help,
)
def main(options: argparse.Namespace) -> int:
    """Download the sources of a manifest."""
    retry = [name for name in options.retry.split(",") if name]
    allowed = [name for name in OUTCOMES if name != OK]
    if unknown := set(retry).difference(allowed):
        raise UserError(f"--retry {','.join(sorted(unknown))}: allowed: {', '.join(allowed)}")
    manifest = load_sources(options.manifest)
    settings = merge(manifest.settings, parse_overrides(options.set))
    downloads = Downloads(manifest, resolve("download", DownloadSettings, settings.get("download", {})))
    for entry in downloads.run(downloads.wanted(retry)):
        print(f"{entry.source_id}: {entry.outcome}: {entry.format or entry.message}", flush=True)
    entries = downloads.entries()
    print(_summary(entries))
    here = sum(source.path.is_file() for source in manifest.sources.values() if not source.url)
    share = (here + sum(entry.ok for entry in entries)) / len(manifest.sources)
    return 0 if share >= manifest.min_yield else 1
