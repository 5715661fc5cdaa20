"""The registry of listeners is the folder listing: every file here or in ``baselines/`` that defines one is one.

The file's name is the listener's; adding a listener is adding one file.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from schemas.errors import UserError
from stages.train.listener import Listener

FOLDER = Path(__file__).parent / "listeners"
FOLDERS = {"stages.train.listeners": FOLDER, "stages.train.listeners.baselines": FOLDER / "baselines"}


def find_listeners() -> dict[str, type[Listener]]:
    """All listeners by name: the learned ones, then the baselines.

    Raises
    ------
    UserError : a file defines more than one.
    """
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.glob("[a-z]*.py")):
            classes = _listeners_of(importlib.import_module(f"{package}.{path.stem}"))
            if len(classes) > 1:
                raise UserError(f"{path}: expected one subclass of Listener, found {len(classes)}; split it up")
            found.update((path.stem, listener) for listener in classes)
    return found


def find_listener(name: str) -> type[Listener]:
    """The listener of a name; `UserError` lists the known ones."""
    known = find_listeners()
    if name not in known:
        raise UserError(f"unknown listener {name!r}; known: {', '.join(known)}")
    return known[name]


def _listeners_of(module: ModuleType) -> list[type[Listener]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Listener) and value.__module__ == module.__name__
        if "paper" in vars(value)  # a class without one is a base of others
    ]
