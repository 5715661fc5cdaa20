"""List, fetch and check the weights of all models: ``python -m jobs.weights list|fetch|check [NAME ...]``.

The cache is ``~/.cache/vico-pipeline/weights``, or the folder that the environment variable VICO_CACHE names. A machine
without a network takes a copy of that folder. Exit status: 0 all is well, 1 something is missing or damaged, 2
there is no entry of that name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs.command import command
from pipeline.tables import aligned
from pipeline.weights import Weights, WeightsError, cache_root, fetch, find_weights, registry

MIB = 2**20
ABSENT = ("to fetch", "by hand")  # states of an entry whose files are not there


def _actions(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every entry of the registry and whether it is there")
    commands.add_parser("fetch", help="download entries into the cache").add_argument("name", nargs="+")
    commands.add_parser("check", help="compare what is there with the registry").add_argument("name", nargs="*")


def _table() -> str:
    rows = [["name", "state", "MiB", "licence", "source"]]
    for weights in registry().values():
        size = f"{weights.bytes / MIB:.0f}" if weights.bytes else ""
        rows.append([weights.name, _state(weights), size, weights.licence, weights.source])
    return aligned(rows)


def _state(weights: Weights) -> str:
    try:
        weights.paths()
    except WeightsError:
        missing = not all((weights.root() / file).is_file() for file in weights.files)
        return ABSENT[not weights.urls] if missing else "damaged"
    return "in cache" if weights.root() == weights.cache else "in package"


def _each(command: str, names: Sequence[str]) -> int:
    """Fetch or check some entries; without names, check those that are there."""
    status = 0
    chosen = {name: find_weights(name) for name in names}
    for name, weights in (chosen or {k: v for k, v in registry().items() if _state(v) not in ABSENT}).items():
        try:
            paths = fetch(weights, _progress) if command == "fetch" else weights.paths()
            print(f"{name}: {len(paths)} files in {weights.root()}, sha256 {weights.sha256[:12]}")
        except WeightsError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = 1
    return status


def _progress(file: str, done: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{file}: {done / MIB:.0f} MiB", end="", file=sys.stderr)


@command(_actions)
def main(options: argparse.Namespace) -> int:
    """List, fetch and check weights."""
    if options.command == "list":
        print(f"cache: {cache_root()}\n\n{_table()}")
        return 0
    return _each(options.command, options.name)
