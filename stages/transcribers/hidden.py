"""Installed modules that another module's import must not find."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Hide a module from the imports inside unless it is loaded already."""
    is_new = module not in sys.modules
    if is_new:
        sys.modules[module] = None  # type: ignore[assignment]  # Python's own sign for "there is none"
    try:
        yield
    finally:
        if is_new:
            del sys.modules[module]
