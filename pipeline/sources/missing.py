"""What is not there before any stage runs: sources that could not be downloaded, and clips that were withdrawn."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.dataset.store import Store
from pipeline.manifest.load import Manifest
from pipeline.sources.availability import OK, OUTCOMES, Availability, Entry
from pipeline.sources.takedown import takedown_ids, withdraw, withdrawn
from schemas.dataset import SourceEntry
from schemas.outcome import REJECTED, Outcome

DOWNLOAD, TAKEDOWN = "download", "takedown"  # stand in the ledger where a stage's name stands for other clips

Absent = Mapping[str, tuple[str, Outcome]]


def absent_clips(manifest: Manifest, store: Store) -> Absent:
    """Clips that no stage will see: clip id -> (`DOWNLOAD` or `TAKEDOWN`, outcome with the reason)."""
    ids = {*manifest.takedown, *takedown_ids(store.root)}
    availability = Availability(manifest.path)
    found = {}
    for clip in manifest.clips:
        source = manifest.sources[clip.source_id]
        if ids and (name := withdrawn(clip.columns(), ids)):
            found[clip.clip_id] = (TAKEDOWN, Outcome(clip.clip_id, "", REJECTED, "withdrawn", f"{name} is withdrawn"))
        elif source.url and not source.path.is_file():
            entry = availability.entry(source.source_id, source.url)
            detail = f"{source.url}: {entry.message or OUTCOMES[entry.outcome]}"
            found[clip.clip_id] = (DOWNLOAD, Outcome(clip.clip_id, "", REJECTED, entry.outcome, detail))
    return found


def withdraw_clips(manifest: Manifest, store: Store, absent: Absent) -> None:
    """Delete what a data set holds of withdrawn clips, and leave the list beside it."""
    ids = {*manifest.takedown, *takedown_ids(store.root)}
    withdraw(store, ids, [clip_id for clip_id, (why, _) in absent.items() if why == TAKEDOWN])


def describe_sources(manifest: Manifest) -> dict[str, SourceEntry]:
    """Where every source comes from and, for those with a url, whether it could be had."""
    availability = Availability(manifest.path)
    described = {}
    for source in sorted(manifest.sources.values(), key=lambda source: source.source_id):
        entry = availability.entry(source.source_id, source.url) if source.url else Entry(source.source_id, "", OK)
        described[source.source_id] = SourceEntry(
            file=source.path.name if entry.ok else "",
            licence=source.licence,
            sha256=source.sha256 or entry.sha256,
            url=source.url,
            availability=entry.outcome,
            date=entry.date,
            message=entry.message,
            video=source.video,
        )
    return described
