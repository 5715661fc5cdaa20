"""The registry of listeners is the listing of ``listeners/``: every class there that names its paper is one.

Its name is its ``name`` or, where a file holds but one, the file's; adding a listener is adding one file.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from schemas.errors import UserError
from stages.train.listener import Listener

FOLDER = Path(__file__).parent / "listeners"


def find_listeners() -> dict[str, type[Listener]]:
    """All listeners by name: those that learn, then those that remember.

    Raises
    ------
    UserError : two have one name.
    """
    found: dict[str, type[Listener]] = {}
    for path in sorted(FOLDER.glob("[a-z]*.py")):
        module = importlib.import_module(f"stages.train.listeners.{path.stem}")
        for listener in vars(module).values():
            own = isinstance(listener, type) and listener.__module__ == module.__name__
            if own and issubclass(listener, Listener) and "paper" in vars(listener):  # else a base of others
                name = vars(listener).get("name", path.stem)
                if name in found:
                    raise UserError(f"{path}: a second listener {name!r}; give each of a file's a `name` of its own")
                found[name] = listener
    return dict(sorted(found.items(), key=lambda named: (not named[1].learned, named[0])))


def find_listener(name: str) -> type[Listener]:
    """The listener of a name; `UserError` lists the known ones."""
    known = find_listeners()
    if name not in known:
        raise UserError(f"unknown listener {name!r}; known: {', '.join(known)}; python -m jobs.train --help")
    return known[name]
