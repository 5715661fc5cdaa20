"""Sources on disk: the hash of every source file, which is where fingerprints begin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from pipeline.dataset.store import Store
from pipeline.manifest.load import Source
from schemas.errors import UserError


def source_hashes(store: Store, sources: Iterable[Source]) -> dict[str, str]:
    """SHA-256 of every source file: source id -> hex digits.

    Remembered by path, size and time of change in ``ledger/sources.json``, so that a build with nothing to do reads
    no video. `UserError` if a file is not the one whose sha256 the manifest names.
    """
    path = store.ledger / "sources.json"
    known = store.read_json(path)
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        stamp = [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in source.files]
        before = known.get(source.source_id, {})
        sha256 = before["sha256"] if before.get("stamp") == stamp else _sha256(source)
        if source.sha256 and sha256 != source.sha256:
            raise UserError(
                f"source {source.source_id!r}: {source.path} has sha256 {sha256}, the manifest names {source.sha256}; "
                "it is another file, or damaged"
            )
        found[source.source_id] = {"stamp": stamp, "sha256": sha256}
    store.write_text(path, json.dumps(found, sort_keys=True, indent=1) + "\n")
    return {source_id: entry["sha256"] for source_id, entry in found.items()}


def _sha256(source: Source) -> str:
    """The hash of the source's file; of a pair, the hash of its files' hashes."""
    hashes = []
    for path in source.files:
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
