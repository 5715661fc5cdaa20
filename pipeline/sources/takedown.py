"""Takedown: clips that must not be shown any more, because a person, a source or a clip was withdrawn.

The list stands in the manifest (``[dataset] takedown``) and, for copies of a data set that nobody will build again, in
``takedown.txt`` beside its shards: ids of clips, sources or people, one a line, ``#`` for comments. Both are honoured
when a data set is built, the latter whenever it is read through `pipeline.dataset.read`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from pipeline.dataset.storage import Location, text_of
from pipeline.dataset.store import Store
from pipeline.settings import SHOWN
from schemas.errors import UserError

FILE = "takedown.txt"
MAX_BYTES = 2**28
WITHDRAWABLE = re.compile(r"[A-Za-z0-9_-]{1,128}")  # a clip's id may be longer than its source's, which it begins with
KEYS = ("clip_id", "source_id", "speaker_id", "listener_id")  # columns in which an id is looked for


def takedown_ids(root: Location) -> set[str]:
    """The ids of a data set's own list; empty if there is none.

    `UserError` for what cannot be read or can be no id: a clip must not stay because of a slip of the pen.
    """
    path = root / FILE
    if not (os.path.lexists(path) if isinstance(path, Path) else path.is_file()):
        return set()
    ids = set()
    for number, line in enumerate(text_of(path, MAX_BYTES).split("\n"), start=1):
        name = line.partition("#")[0].strip()
        if name and not WITHDRAWABLE.fullmatch(name):
            raise UserError(f"{path}, line {number}: found {name[:SHOWN]!r}, allowed: one id, of A-Z a-z 0-9 _ -")
        ids.add(name)
    return ids - {""}


def withdrawn(row: dict[str, Any], ids: Collection[str]) -> str:
    """The id for which a clip is withdrawn, empty if it is not. ``row`` holds the manifest's columns."""
    return next((row[key] for key in KEYS if row[key] in ids), "")


def copy_takedown(root: Location, store: Store) -> None:
    """Have a data set that was made from another one keep its list."""
    if (root / FILE).is_file():
        store.write_text(store.root / FILE, text_of(root / FILE, MAX_BYTES))


def withdraw(store: Store, ids: Collection[str], clip_ids: Iterable[str]) -> None:
    """Write the list beside the shards and delete every file and row of the clips."""
    gone = set(clip_ids)
    if ids:
        store.write_text(store.root / FILE, "\n".join(["# withdrawn: not to be shown any more", *sorted(ids)]) + "\n")
    if gone:
        store.forget(gone)
