"""Damage: what lies in a data set beside what was written, and how much of it can be computed again.

Found by size alone (``quick``: seconds for 100,000 clips) or by reading every byte. Damage that a build can undo is
undone by taking the damaged file out of its way: a build computes what is not there, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.dataset.checksums import (
    LIST,
    LISTS,
    NO_FILE,
    NO_FOOTER,
    Checksum,
    Told,
    affected,
    has_footer,
    has_notes,
    is_sound,
    rows_of,
    sound_list,
    told,
    write_list,
)
from pipeline.dataset.storage import Location
from pipeline.dataset.store import DIARIES, Store, append_text
from pipeline.ledger.survey import PARTS, restore_parts
from schemas.errors import UserError

MISSING, EMPTY, SHORT, LONG, ALTERED = "missing", "empty", "cut off", "longer", "altered"
EXCHANGED, FOREIGN, REPLACED = "exchanged", "foreign", "no file"
DOUBLE = "a list of checksums; its double holds"
COMPARED = 1024  # damaged files, whose content is looked for in the list at once


@dataclass(frozen=True)
class Damage:
    """One file that is not what was written."""

    name: str  # relative to the data set
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.kind}: {self.detail}"

    @property
    def clip_id(self) -> str:
        """The clip of a media file; empty for other files."""
        return self.name.split("/")[1] if self.name.startswith("media/") else ""


def find_damage(root: Location, *, quick: bool = False, opened: str = "") -> Iterator[Damage]:
    """Files that are not what was written, in order of their names; `UserError` if both lists are damaged.

    With ``quick``, files whose names begin with ``opened`` are not looked into: whoever asks opens them anyway.
    """
    known = sound_list(root)
    if known is None and not has_notes(root):
        adopt = f"from before there were lists; python -m jobs.repair {root} --adopt lists what stands there now"
        yield Damage(LIST, MISSING, adopt)
        return
    if known is not None and not quick:
        yield from _of_lists(root, known)
    found = _differing(root, known, quick, opened)
    while some := list(islice(found, COMPARED)):
        contents = {content for _, content in some if content}
        owners = {content: name for name, content in rows_of(known) if content in contents} if contents else {}
        for damage, content in some:
            if content in owners:
                damage = replace(damage, kind=EXCHANGED, detail=f"it holds what {owners[content]} must hold")
            yield damage


def _of_lists(root: Location, known: Location) -> Iterator[Damage]:
    """A list that is not what was written, where its double is."""
    sound = {name: is_sound(root / name) for name in LISTS}
    twins = [Checksum.of(root / name) for name in LISTS] if all(sound.values()) else []
    for number, (name, state) in enumerate(sound.items()):
        if not state:
            yield Damage(name, MISSING if state is None else ALTERED, DOUBLE)
        elif twins and twins[0] != twins[1] and twins[number] != _written_again(known):  # flipped where no row stands
            yield Damage(name, ALTERED, DOUBLE)


def _written_again(known: Location) -> Checksum:
    with TemporaryDirectory() as folder:
        write_list(rows_of(known), Path(folder, LIST))
        return Checksum.of(Path(folder, LIST))


def _differing(
    root: Location, known: Location | None, quick: bool, opened: str
) -> Iterator[tuple[Damage, Checksum | None]]:
    """Files that are not what was written, and what is in them instead, where it was read."""
    for one in told(root, known, {}):
        if not one.checksums and one.name.startswith(DIARIES):
            pass  # of a build that has not ended, which lists them
        elif not one.checksums:
            yield Damage(one.name, FOREIGN, "nothing of ours has written it; move it elsewhere"), None
        elif one.size == NO_FILE:
            yield Damage(one.name, REPLACED, f"expected {one.checksums[-1].bytes} bytes, found a link or a pipe"), None
        elif one.size is None:
            if one.listed or one.name.startswith("media/"):  # whose notes come after them
                yield Damage(one.name, MISSING, f"expected {one.checksums[-1].bytes} bytes"), None
        elif one.name.startswith(DIARIES) and one.size > one.checksums[-1].bytes:
            pass  # it grows while a build runs
        elif quick:
            if damage := _at_a_glance(root, one, one.size, opened):
                yield damage, None
        elif (found := Checksum.of(root / one.name)) not in one.checksums:
            yield _altered(root, one, found), found


def _at_a_glance(root: Location, one: Told, size: int, opened: str) -> Damage | None:
    if size not in {checksum.bytes for checksum in one.checksums}:
        return _of_size(one.name, size, one.checksums[-1].bytes)
    is_closed = one.name.endswith(".parquet") and not (opened and one.name.startswith(opened))
    return Damage(one.name, ALTERED, NO_FOOTER) if is_closed and not has_footer(root / one.name) else None


def _altered(root: Location, one: Told, found: Checksum) -> Damage:
    wanted = one.checksums
    if found.bytes not in {checksum.bytes for checksum in wanted}:
        return _of_size(one.name, found.bytes, wanted[-1].bytes)
    where = affected(root / one.name) if one.name.endswith(".parquet") else ""
    detail = f"expected sha256 {wanted[-1].sha256[:12]}, found {found.sha256[:12]}{where}"
    return Damage(one.name, ALTERED, detail)


def _of_size(name: str, size: int, expected: int) -> Damage:
    kind = EMPTY if size == 0 else SHORT if size < expected else LONG
    return Damage(name, kind, f"expected {expected} bytes, found {size}")


def clear_damage(store: Store, found: Iterable[Damage]) -> list[Damage]:
    """Take damaged files out of the way of the next build, which computes them again; returns those that were cleared.

    A column file goes whole. Of a film or a sound goes the row that names it, so that its clip alone is computed. A
    diary stays, with an empty line more, for it can only grow: its broken lines are skipped by whoever reads it, and
    the next list takes it as it is. What is foreign stays too, and is a `UserError` where
    a file of ours must stand: before anything is cleared.
    """
    found = list(found)
    damaged = [d for d in found if d.kind == REPLACED or (d.kind != FOREIGN and not d.name.startswith(DIARIES))]
    _refuse_what_is_in_the_way(store.root, damaged)
    media = {d.name for d in damaged if d.clip_id}
    for damage in damaged:
        (store.root / damage.name).unlink(missing_ok=True)
    for diary in (store.root / d.name for d in found if d.kind == ALTERED and d.name.startswith(DIARIES)):
        append_text(diary, "\n")
    if any(store.root / d.name == store.ledger / PARTS for d in damaged):
        restore_parts(store)  # before rows go that tell of it
    if media:
        for path in store.column_files():
            drop_rows_naming(store, path, media)
    return damaged


def _refuse_what_is_in_the_way(root: Location, damaged: Iterable[Damage]) -> None:
    """A folder where a file must stand; a file or a link where the folder of one must."""
    if not isinstance(root, Path):
        return
    for path in (root / damage.name for damage in damaged):
        above = [folder for folder in path.parents if folder != root and folder.is_relative_to(root)]
        blocking = [folder for folder in above if folder.is_symlink() or (folder.exists() and not folder.is_dir())]
        if path.is_dir() and not path.is_symlink():
            blocking.append(path)
        if blocking:
            again = f"move it elsewhere, then python -m jobs.repair {root}"
            raise UserError(f"{blocking[-1]}: stands where {path.relative_to(root)} must stand; {again}")


def drop_rows_naming(store: Store, path: Location, media: set[str]) -> None:
    """Delete from a file of columns the rows in which a column names one of these files."""
    rows = store.named_media(path.parent.name, path.stem)
    if clips := {clip_id for clip_id, named in rows.items() if media & named}:
        store.drop_rows(path, clips)
