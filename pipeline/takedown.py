"""Takedown: clips that must not be shown any more, because a person, a source or a clip was withdrawn.

The list stands in the manifest (``[dataset] takedown``) and, for copies of a data set that nobody will build again, in
``takedown.txt`` beside its shards: ids of clips, sources or people, one a line, ``#`` for comments. Both are honoured
when a data set is built, the latter whenever it is read through `pipeline.shards`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from pipeline.object_storage import Location
from pipeline.store import Store

FILE = "takedown.txt"
KEYS = ("clip_id", "source_id", "speaker_id", "listener_id")  # columns in which an id is looked for


def takedown_ids(root: Location) -> set[str]:
    """The ids of a data set's own list; empty if there is none."""
    path = root / FILE
    if not path.is_file():
        return set()
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line}


def withdrawn(row: dict[str, Any], ids: Collection[str]) -> str:
    """The id for which a clip is withdrawn, empty if it is not. ``row`` holds the manifest's columns."""
    return next((row[key] for key in KEYS if row[key] in ids), "")


def withdraw(store: Store, ids: Collection[str], clip_ids: Iterable[str]) -> None:
    """Write the list beside the shards and delete every file and row of the clips."""
    gone = set(clip_ids)
    if ids:
        store.write_text(store.root / FILE, "\n".join(["# withdrawn: not to be shown any more", *sorted(ids)]) + "\n")
    if gone:
        store.forget(gone)
