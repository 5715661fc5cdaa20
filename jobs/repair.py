"""Repair a data set: ``python -m jobs.repair DIR``. Computes again what is not what was written, and nothing else.

Every file is compared with its checksum. What is damaged is taken away, and the command that built the data set, which
it remembers, is given again. Exit status: 0 it is as it was, 1 it is not yet, 2 it cannot be repaired like this.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jobs import build
from jobs.command import DATASET, add_place, command, option
from pipeline.dataset.check import find_disagreements
from pipeline.dataset.checksums import relative_to
from pipeline.dataset.damage import FOREIGN, Damage, clear_damage, find_damage
from pipeline.dataset.lock import locked
from pipeline.dataset.read import FILE as DESCRIPTION
from pipeline.dataset.read import read_description
from pipeline.dataset.storage import location
from pipeline.dataset.store import Store
from pipeline.ledger.progress import FILE, read_ledger
from pipeline.ledger.report import REPORT
from pipeline.sources.takedown import takedown_ids, withdraw
from schemas.errors import UserError


def _remembered(store: Store, damage: list[Damage]) -> list[str]:
    """The words of the command that built the data set, from the first of two files that is sound."""
    damaged = {one.name for one in damage}
    for path in (store.ledger / FILE, store.root / REPORT):
        if relative_to(path, store.root) not in damaged and (words := list(read_ledger(store, path).get("words", []))):
            return words
    raise UserError(
        f"{store.root}: does not say which jobs.build made it; run the command that made it again: for a prediction "
        "python -m jobs.predict, for a subset python -m jobs.subset, for a build python -m jobs.build with its manifest"
    )


def _disagreements(store: Store) -> list[str]:
    """What is as it was listed and does not fit the rest: an older file that somebody put back with its checksum."""
    if not (store.root / DESCRIPTION).is_file():
        return []
    found = list(find_disagreements(store.root, read_description(store.root)))
    for one in found:
        print(one)
    return found


def _withdrawn(store: Store, damage: list[Damage]) -> int:
    """Withdraw the clips of damaged films."""
    clips = sorted({one.clip_id for one in damage} - {""})
    withdraw(store, {*takedown_ids(store.root), *clips}, clips)
    store.seal()
    print(f"{len(clips)} clips withdrawn: {', '.join(clips)}" if clips else "no clip has lost a film")
    return 0


@command(
    DATASET,
    option("--manifest", type=Path, help="where the manifest lies now, if not where it was"),
    option("--adopt", action="store_true", help="compute nothing: list all files as they stand, as sound"),
    option("--withdraw", action="store_true", help="compute nothing: withdraw the clips whose films are damaged"),
    option("--workers", type=int, help="as of jobs.build"),
    add_place,
)
def main(options: argparse.Namespace) -> int:
    """Repair a data set."""
    store = Store(location(options.dataset), journal=True)
    if not (store.root / DESCRIPTION).is_file() and not store.column_files():
        raise UserError(f"{store.root} holds no data set: python -m jobs.build MANIFEST --out DIR")
    with locked(store.root) as ours:
        store = Store(ours, journal=True)
        if options.adopt:
            store.seal(adopt=True)
            print(f"{store.root}: every file is listed as it stands")
            return 0
        damage = list(find_damage(store.root))
        for one in damage:
            print(one)
        if options.withdraw:
            return _withdrawn(store, damage)
        if not [one for one in damage if one.kind != FOREIGN] and not _disagreements(store):
            print("nothing to repair")
            return 0
        words = _remembered(store, damage)
        cleared = clear_damage(store, damage)
    if options.manifest:
        words[0] = str(options.manifest)
    workers = [f"--workers={options.workers}"] if options.workers else []
    status = build.main([*words, "--out", options.dataset, f"--address={options.address}", *workers])
    if status == 2:
        lost = ", ".join(sorted({one.clip_id for one in cleared} - {""})) or "no clip"
        again = (
            f"run this again (--manifest FILE if it has moved), or python -m jobs.repair {options.dataset} --withdraw"
        )
        print(f"error: not repaired: {lost} lacks its films; mend what stands above and {again}", file=sys.stderr)
    return status
