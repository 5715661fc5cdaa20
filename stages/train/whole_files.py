"""Files of a run: written whole, with a hash of what they say, and of states the one before is kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline.plan import digest
from pipeline.settings import read_text
from schemas.errors import UserError

SEAL = "digest"  # key of the hash of all else that a file of JSON says
State = TypeVar("State")


def write_whole(path: Path, write: Callable[[Path], Any], previous: Path | None = None) -> None:
    """Let ``write`` fill a file beside ``path`` and put it there in one step; what stood there becomes ``previous``."""
    scratch = path.with_name(f".{path.name}.tmp")
    write(scratch)
    with scratch.open("rb") as file:
        os.fsync(file.fileno())  # else a power cut may leave the name with nothing behind it
    if previous is not None and path.is_file():
        _keep(path, previous)
    scratch.replace(path)


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name, so that whoever reads it meanwhile finds one."""
    scratch = previous.with_name(f".{previous.name}.tmp")
    scratch.unlink(missing_ok=True)
    try:
        scratch.hardlink_to(path)
        scratch.replace(previous)
        scratch.unlink(missing_ok=True)  # a name that is renamed to another of the same file stays
    except OSError:  # a file system without second names
        path.replace(previous)


def write_sealed(path: Path, plain: dict[str, Any]) -> None:
    """Write JSON with a hash of itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**plain, SEAL: digest(plain)}, indent=1) + "\n"
    write_whole(path, lambda scratch: scratch.write_text(text, "utf-8"))


def read_sealed(path: Path, limit_bytes: int, unsealed: Collection[str]) -> dict[str, Any]:
    """What `write_sealed` was given, or a file of before there were hashes, which has keys of ``unsealed`` alone.

    Raises
    ------
    ValueError : it is no JSON object, or not what was written. UserError : it cannot be read at all.
    """
    plain = json.loads(read_text(path, limit_bytes))
    if not isinstance(plain, dict):
        raise ValueError(f"expected an object, found {type(plain).__name__}")
    seal = plain.pop(SEAL, None)
    if seal != digest(plain) and (seal is not None or plain.keys() - set(unsealed)):
        raise ValueError(f"{SEAL}: expected that of what it says, {digest(plain)}, found {seal!r:.40}: damaged")
    return plain


def take_up(states: Sequence[Path], restore: Callable[[Path], State], say: Callable[[str], None]) -> State | None:
    """What ``restore`` makes of the first state that it does not refuse; None where there is none at all.

    `UserError` of the last one where it refuses them all.
    """
    found = [path for path in states if path.is_file()]
    for number, path in enumerate(found, start=1):
        try:
            return restore(path)
        except UserError as error:
            if number == len(found):
                raise
            say(f"goes on from {found[number].name}: {error}")
    return None
