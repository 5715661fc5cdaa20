"""A subset: some clips of a data set as a data set of its own, with their columns, media and a card that says so.

Heavy columns beside the shards come along, and the list of what was withdrawn. What a build remembers of how it went
stays behind: the ledger, and the clips that are missing.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.clock import Span, seconds_of
from pipeline.dataset.card import write_card
from pipeline.dataset.read import columns_of, media_file, read_description, read_plain, read_shard
from pipeline.dataset.storage import Location, local_file
from pipeline.dataset.store import Store
from pipeline.dataset.where import Where
from pipeline.dataset.write import write_shard
from pipeline.ledger.survey import restore_parts
from pipeline.manifest.clips_csv import ClipRow
from pipeline.plan import digest
from pipeline.settings import shown
from pipeline.sources.takedown import WITHDRAWABLE, copy_takedown, takedown_ids, withdrawn
from schemas.clip import CLIP_COLUMNS
from schemas.dataset import BUILT, SUBSET, Chosen, Description, Shard, shard_name
from schemas.errors import UserError

NAMES = [column.name for column in CLIP_COLUMNS]


@dataclass(frozen=True)
class _Choice:
    """Of one shard, which of its rows."""

    shard: Shard
    mask: np.ndarray  # bool (clip,)
    rows: Sequence[Mapping[str, Any]]  # the manifest's columns of those


def write_subset(root: Location, condition: str, out: Path, *, link: bool = False) -> Description:
    """Write the clips for which a condition holds (`pipeline.dataset.where`) as a data set; returns its description.

    ``out`` appears in one step when all is there. With ``link`` media are further names of the same files where the
    disk allows that, else copies.

    Raises
    ------
    UserError : the condition is none, or true for no clip; ``out`` holds something; the data set is damaged.
    """
    description = read_description(root)
    where = Where(condition, columns_of(root, description.packed))
    choices, clips = _choose(root, description, where)
    media = [name for name in description.packed if description.column(name).media]
    with _appearing(out) as folder:
        store = Store(folder)
        shards = []
        for choice, name in zip(choices, _names(choices), strict=True):
            table = read_shard(root, choice.shard).filter(pa.array(choice.mask))
            fingerprint = digest([choice.shard.fingerprint, where.text, [row["clip_id"] for row in choice.rows]])
            shards.append(write_shard(store, name, [table], fingerprint))
            for column in media:
                _take_files(store, root, table[column].drop_null().to_pylist(), link)
        rows = [row for choice in choices for row in choice.rows]
        _take_columns(store, root, [row["clip_id"] for row in rows])
        copy_takedown(root, store)
        before = description.chosen
        asked = f"({before.where}) and ({where.text})" if before else where.text
        sources = {row["source_id"] for row in rows}
        found = replace(
            description,
            name=out.name,
            kind=SUBSET if description.kind == BUILT else description.kind,
            shards=tuple(shards),
            wanted=len(rows),
            missing=(),
            sources={name: source for name, source in description.sources.items() if name in sources},
            chosen=Chosen(asked, before.of if before else description.name, before.clips if before else clips),
        )
        write_card(store, found, [_clip_row(row) for row in rows])
        store.seal()
        store.clear_scratch()
    return found


def _choose(root: Location, description: Description, where: Where) -> tuple[list[_Choice], int]:
    """The chosen clips of every shard that has some, and how many clips there were to choose from."""
    gone, clips = takedown_ids(root), 0
    choices, values = [], {name: set[str]() for name in where.texts}
    for shard in description.shards:
        table = read_shard(root, shard, list(dict.fromkeys([*NAMES, *where.reads])))
        rows = table.select(NAMES).to_pylist()
        if strange := [row["clip_id"] for row in rows if not WITHDRAWABLE.fullmatch(row["clip_id"] or "")]:
            raise UserError(f"{root}: {shard.file}: found clip {shown(strange[0])}, allowed: an id")
        kept = np.array([not withdrawn(row, gone) for row in rows], bool)
        clips += int(kept.sum())
        mask = kept & where.chosen(table)
        if mask.any():
            choices.append(_Choice(shard, mask, [rows[i] for i in np.flatnonzero(mask)]))
        for name, found in values.items():
            found.update(value for value in table[name].unique().to_pylist() if value)
    if not choices:
        there = "".join(f"; {name} is {', '.join(sorted(found)[:10])}" for name, found in values.items() if found)
        wanted = f"expected a condition that holds for some of {clips} clips, found one that holds for none"
        raise UserError(f"{root}: --where: {wanted}{there}")
    return choices, clips


def _names(choices: Sequence[_Choice]) -> Iterator[str]:
    splits = [choice.shard.split for choice in choices]
    return (shard_name(split, splits[:i].count(split), splits.count(split)) for i, split in enumerate(splits))


def _take_files(store: Store, root: Location, names: Iterable[str], link: bool) -> None:
    for name in names:
        with local_file(media_file(root, name)) as file, store.new_file(store.root / name) as temporary:
            if not (link and _linked(file, temporary)):
                shutil.copyfile(file, temporary)


def _linked(file: Path, temporary: Path) -> bool:
    try:
        os.link(file.resolve(), temporary)
    except OSError:  # another disk, or one without links
        return False
    return True


def _take_columns(store: Store, root: Location, clip_ids: Sequence[str]) -> None:
    """What stands beside the shards, file by file, and the table that says in which file a clip is."""
    ids = pa.array(clip_ids)
    for path in Store(root).column_files():
        table = read_plain(path)
        table = table.filter(pc.is_in(table["clip_id"], ids))
        if table.num_rows:
            store.write_rows(store.column_file(path.parent.name, path.stem), table)
    if store.column_files():
        restore_parts(store)


def _clip_row(row: Mapping[str, Any]) -> ClipRow:
    start_s = Fraction(row["start_s"])
    known = {name: row[name] for name in NAMES if name not in ("start_s", "end_s", "num_frames")}
    return ClipRow(**known, span=Span(start_s, start_s + seconds_of(row["num_frames"])), line=0)


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its name when the block ends without an error; else it goes."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: there is something already; name another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}-{uuid.uuid4().hex}")
    folder.mkdir()
    try:
        yield folder
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
