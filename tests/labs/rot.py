"""What can happen to the files of a data set at rest, in a folder and in object storage, and all that it holds."""

from __future__ import annotations

import random
from collections.abc import Callable

from pipeline.dataset.checksums import LIST, OF_PEOPLE
from pipeline.dataset.storage import Location, ObjectPath

OF_RUNS = ("report.json", "started.json", LIST)  # what every run says of itself
WRITTEN = "ledger/written/"  # notes of a build that has not ended: nothing vouches for them


def flip(path: Location, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut(path: Location, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(1, len(content))])


def empty(path: Location, chance: random.Random) -> None:
    path.write_bytes(b"")


def lose(path: Location, chance: random.Random) -> None:
    path.unlink()


def lengthen(path: Location, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + chance.randbytes(100))


def zero(path: Location, chance: random.Random) -> None:
    path.write_bytes(bytes(len(path.read_bytes())))


WAYS: tuple[Callable[[Location, random.Random], None], ...] = (flip, flip, flip, cut, empty, lose, lengthen, zero)


def damage(root: Location, chance: random.Random, count: int) -> dict[str, str]:
    """Damage so many files of a data set at once, never both lists of checksums; name -> what was done to it."""
    known, done = files(root), dict[str, str]()
    for name in chance.sample(sorted(known), min(count, len(known))):
        way, path, before = chance.choice(WAYS), known[name], known[name].read_bytes()
        if len(before) < 2 or path.name == LIST and any(other.endswith(LIST) for other in done):
            continue
        way(path, chance)
        if not path.is_file() or path.read_bytes() != before:
            done[name] = way.__name__
    return done


def files(root: Location) -> dict[str, Location]:
    """Name -> file of all that lies in a data set but the lock, diaries, notes of a build at work, what people edit."""
    if isinstance(root, ObjectPath):
        found: dict[str, Location] = {path.key.removeprefix(f"{root.key}/"): path for path in root.glob("**")}
    else:
        found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    not_these = (".lock", ".tmp/", "ledger/attempts/", WRITTEN, *OF_PEOPLE)
    return {name: path for name, path in found.items() if not name.startswith(not_these)}


def contents(root: Location) -> dict[str, bytes]:
    """What the data decide, run by run the same."""
    return {name: path.read_bytes() for name, path in files(root).items() if path.name not in OF_RUNS}
