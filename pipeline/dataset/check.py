"""Checks of a built data set, from its files alone: frame clock, schemas, files, fingerprints, ledger, leaks.

Every check yields findings: sentences that say what, where, expected and found. No findings, no faults.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.clock import HOP_SAMPLES
from pipeline.dataset.checksums import LIST
from pipeline.dataset.damage import find_damage
from pipeline.dataset.leaks import PERSON, find_leaks
from pipeline.dataset.read import FILE, read_description, read_shard
from pipeline.dataset.storage import Location, lies_in, local_file
from pipeline.dataset.store import Store
from pipeline.ledger.survey import ledger_table
from pipeline.sources.takedown import takedown_ids
from schemas.column import PORTRAIT
from schemas.dataset import BUILT, FILMED, SHARD_NAME, Description
from schemas.errors import UserError
from schemas.outcome import OK, OUTCOMES, Outcome

BATCH_ROWS = 2**16  # of the ledger, that are Python's at a time


def check_dataset(root: Location, *, quick: bool = False) -> Iterator[str]:
    """All findings on the data set under ``root``; a prediction or a random set has no ledger to be checked.

    With ``quick`` sizes alone are compared with the lists of checksums, and no shard is read. `UserError` if there is
    no data set, or its description cannot be read although it is what was written.
    """
    damage = list(find_damage(root, quick=quick))
    yield from map(str, damage)
    if quick and [d.name for d in damage] != [LIST]:
        return
    try:
        description = read_description(root)
    except UserError:
        if any(d.name == FILE for d in damage):
            return
        raise
    if quick:
        return
    yield from find_disagreements(root, description)
    try:
        takedown_ids(root)
    except UserError as error:
        yield str(error)
    if description.kind in FILMED:
        yield from _check_leaks(root, description)
    yield from _check_leftovers(root)


def find_disagreements(root: Location, description: Description) -> Iterator[str]:
    """Findings on what files say of each other, whatever their checksums: a build that is given again mends them."""
    yield from _check_shards(root, description)
    if description.kind == BUILT:
        yield from _check_ledger(root, description)


def _check_shards(root: Location, description: Description) -> Iterator[str]:
    listed = {shard.file for shard in description.shards}
    present = {path.name for path in (root / "shards").glob("*") if SHARD_NAME.fullmatch(path.name)}
    for name in sorted(present - listed):
        yield f"shards/{name}: not listed in dataset.json"
    seen: set[str] = set()
    for shard in description.shards:
        path = root / "shards" / shard.file
        if not path.is_file():
            yield f"shards/{shard.file}: missing"
            continue
        try:
            table = read_shard(root, shard, compared=True)
        except UserError as error:
            yield f"shards/{shard.file}: cannot be read: {error}"
            continue
        yield from _check_table(root, shard.file, table, description)
        ids = table["clip_id"].to_pylist()
        if len(ids) != shard.clips or ids != sorted(ids) or seen & set(ids):
            yield f"shards/{shard.file}: expected {shard.clips} clips by clip_id, none in two shards; found {ids}"
        seen |= set(ids)
        if others := sorted(set(map(str, table["split"].to_pylist())) - {shard.split}):
            yield f"shards/{shard.file}: holds clips of {', '.join(others)}"


def _check_table(root: Location, name: str, table: pa.Table, description: Description) -> Iterator[str]:
    """Schema, frame clock and media of one shard."""
    columns = [entry for entry in description.columns if entry.name in description.packed]
    found = {field.name: str(field.type) for field in table.schema}
    wanted = {entry.name: entry.type for entry in columns}
    if found != wanted:
        differing = sorted(set(found.items()) ^ set(wanted.items()))
        yield f"shards/{name}: columns differ from dataset.json: {differing}"
        return
    looked_into = [entry for entry in columns if entry.per_frame or entry.media]
    for row, (clip_id, num_frames) in enumerate(
        zip(table["clip_id"].to_pylist(), table["num_frames"].to_pylist(), strict=True)
    ):
        for entry in looked_into:
            value = table[entry.name][row]
            where = f"shards/{name}, clip {clip_id}, column {entry.name}"
            if not value.is_valid:
                continue
            if entry.per_frame and len(value) != num_frames:
                yield f"{where}: expected {num_frames} rows, one a frame, found {len(value)}"
            if entry.media:
                portrait = entry.name.startswith(f"{PORTRAIT}_")
                yield from _check_media(root, where, str(value), 1 if portrait else num_frames)


def _check_media(root: Location, where: str, relative: str, num_frames: int) -> Iterator[str]:
    path = root / relative
    if not lies_in(path, root):
        yield f"{where}: {relative} lies outside the data set"
    elif not path.is_file():
        yield f"{where}: file {relative} is missing"
    else:
        try:
            with local_file(path) as file:
                unit, expected, found = _media_length(file, num_frames)
        except Exception as error:  # any fault of a media library is a finding about the file
            yield f"{where}: {relative} cannot be read: {type(error).__name__}: {error}"
            return
        if found != expected:
            yield f"{where}: {relative}: expected {expected} {unit}, found {found}"


def _media_length(path: Path, num_frames: int) -> tuple[str, int, int]:
    """(unit, expected, found) for a file that must be as long as its clip."""
    if path.suffix == ".wav":
        with wave.open(str(path)) as sound:
            return "samples", num_frames * HOP_SAMPLES, sound.getnframes()
    if path.suffix == ".mp4":
        from pipeline.media.encode import count_frames

        return "frames", num_frames, count_frames(path)
    return "files", 1, 1


def _check_ledger(root: Location, description: Description) -> Iterator[str]:
    """Every clip accounted for once, and every fingerprint of the ledger in its column file."""
    store = Store(root)
    try:
        rows = ledger_table(store).select(["clip_id", "part", "stage", "outcome", "fingerprint"])
    except (pa.ArrowException, OSError, KeyError) as error:
        yield f"ledger/clips.parquet: cannot be read: {error}"
        return
    stages = list(description.stages)
    ways: dict[str, list[str]] = {}
    known = {outcome: outcome for outcome in OUTCOMES}  # one text for all rows
    for batch in rows.select(["clip_id", "stage", "outcome"]).to_batches(max_chunksize=BATCH_ROWS):
        for clip_id, stage, outcome in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            ways.setdefault(clip_id, []).append(known.get(outcome, outcome))
            if outcome not in known:
                yield f"ledger: clip {clip_id}, stage {stage}: unknown outcome {outcome!r}"
    if len(ways) != description.wanted:
        yield f"ledger: expected {description.wanted} clips, found {len(ways)}"
    stopped = {clip_id for clip_id, outcomes in ways.items() if outcomes[-1] != OK}
    for clip_id, outcomes in ways.items():
        complete = len(outcomes) == len(stages) and set(outcomes) == {OK}
        if not complete and clip_id not in stopped:
            yield f"ledger: clip {clip_id}: {len(outcomes)} of {len(stages)} stages and no reason; build again"
    missing = {entry.clip_id for entry in description.missing}
    for clip_id in sorted(stopped ^ missing):
        yield f"clip {clip_id}: the ledger and the list of missing clips in dataset.json disagree"
    yield from _check_fingerprints(store, rows.select(["clip_id", "part", "stage", "fingerprint"]))


def _check_fingerprints(store: Store, ledger: pa.Table) -> Iterator[str]:
    """Rows of the ledger beside the column files, a part at a time."""
    parts = ledger["part"].fill_null("").combine_chunks().dictionary_encode()
    order = np.argsort(parts.indices.to_numpy(), kind="stable")
    ends = np.cumsum(np.bincount(parts.indices.to_numpy(), minlength=len(parts.dictionary)))
    for part, of_part in zip(parts.dictionary.to_pylist(), np.split(order, ends[:-1]), strict=False):
        if not part:
            continue
        stored: dict[str, dict[str, Outcome]] = {}
        runs = np.split(of_part, np.flatnonzero(np.diff(of_part) != 1) + 1)  # a `take` a part would read every row
        rows = pa.concat_tables([ledger.slice(int(run[0]), len(run)) for run in runs])
        for row in rows.to_pylist():
            stage = row["stage"]
            if stage not in stored:
                try:
                    stored[stage] = store.read_outcomes(stage, part)
                except UserError as error:
                    yield f"columns/{stage}/{part}.parquet: cannot be read: {error}"
                    break  # of a part: what is damaged is computed again first
            found = stored[stage].get(row["clip_id"])
            if found is None or found.fingerprint != row["fingerprint"]:
                yield f"columns/{stage}/{part}.parquet: clip {row['clip_id']} lacks fingerprint {row['fingerprint']}"


def _check_leaks(root: Location, description: Description) -> Iterator[str]:
    """People and films that ids hide; of one person under two ids only what ood must not share with another split."""
    try:
        for leak in find_leaks(root, description):
            if leak.kind != PERSON or leak.crosses:
                yield str(leak)
    except UserError:  # what cannot be read has been found above
        return


def _check_leftovers(root: Location) -> Iterator[str]:
    if not isinstance(root, Path):
        return  # nothing is written there before it is whole
    for path in sorted((root / ".tmp").glob("**/*")) if (root / ".tmp").is_dir() else []:
        yield f"{path.relative_to(root)}: left by a build that was killed; the next build removes it"
