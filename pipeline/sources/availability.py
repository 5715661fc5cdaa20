"""What could be had of the sources with a url: the ledger beside their files, ``downloads/`` next to the manifest.

Videos vanish, and papers that rebuild a data set from links compare on different remains of it. So every source that
was asked for has an entry, with the class of what happened, the date and the host's own words.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

DOWNLOADS = "downloads"  # folder beside the manifest

OK, OVER_LIMIT, CHANGED, UNSUPPORTED, NOT_TRIED = "ok", "over_limit", "changed", "unsupported", "not_downloaded"
OUTCOMES = {
    OK: "here",
    "private": "only some people may see it",
    "removed": "its owner or its host took it down",
    "geo_blocked": "not shown in this country",
    "age_gated": "only for people who are logged in and old enough",
    "rate_limited": "the host asks to come back later",
    "bot_check": "the host takes us for a robot: wait, or give it a cookies file",
    "network": "no connection, a slow or a broken one, or an error of the server",
    UNSUPPORTED: "no video that can be read, or no way to get it",
    OVER_LIMIT: "larger or longer than the limits of [stages.download]",
    CHANGED: "another file than the one whose sha256 the manifest names",
    NOT_TRIED: "nobody asked for it yet: python -m jobs.download MANIFEST",
}
"""Every class of an entry, with its meaning."""


@dataclass(frozen=True)
class Entry:
    """What became of one source; what is said of its file stands where it is ok."""

    source_id: str
    url: str
    outcome: str  # a key of `OUTCOMES`
    date: str = ""  # of the last attempt, ISO 8601 in UTC
    message: str = ""  # the host's or the reader's own words where it is not ok
    file: str = ""
    bytes: int = 0
    sha256: str = ""
    format: str = ""

    @property
    def ok(self) -> bool:
        return self.outcome == OK


class Availability:
    """The folder of downloads of one manifest, with its ledger ``availability.json``.

    Several processes, on several machines that share the folder, may write at a time.
    """

    def __init__(self, manifest: Path) -> None:
        self.folder = manifest.parent / DOWNLOADS
        self.path = self.folder / "availability.json"

    def entries(self) -> dict[str, Entry]:
        """Source id -> what became of it."""
        if not self.path.is_file():
            return {}
        content: Mapping[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return {source_id: Entry(source_id=source_id, **values) for source_id, values in content.items()}

    def entry(self, source_id: str, url: str) -> Entry:
        """What became of one source; an entry for another url does not count."""
        found = self.entries().get(source_id)
        return found if found is not None and found.url == url else Entry(source_id, url, NOT_TRIED)

    @cached_property
    def _known(self) -> dict[str, Entry]:
        """The entries when this object was first asked for a file: a manifest may name many."""
        return self.entries()

    def file(self, source_id: str, url: str) -> Path:
        """Where the download of a source lies; a file that does not exist while there is none."""
        entry = self._known.get(source_id)
        known = entry is not None and entry.ok and entry.url == url
        return self.folder / (entry.file if entry is not None and known else f"{source_id}.{NOT_TRIED}")

    def record(self, entry: Entry) -> None:
        """Write one entry, beside what others have written in the meantime."""
        with self.locked(".ledger"):  # the id of no source
            entries = {**self.entries(), entry.source_id: entry}
            content = {source_id: asdict(entries[source_id]) for source_id in sorted(entries)}
            for values in content.values():
                del values["source_id"]
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            os.replace(temporary, self.path)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold a lock of this folder, among all processes that use it."""
        locks = self.folder / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
