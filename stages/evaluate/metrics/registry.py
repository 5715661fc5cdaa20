"""The registry of metrics is the folder listing: every file here that holds `DEFINITIONS` takes part.

A new metric is one entry in a file's tuple, or a new file with one; it then stands in tables, documents and ``--help``.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from pathlib import Path

from stages.evaluate.metrics.definition import Definition

FOLDER = Path(__file__).resolve().parent
FIRST = (  # files whose metrics tables print first, in this order; the others follow by name
    *("feature_distance", "frechet", "variety", "synchrony", "reactions", "blinks"),
    *("image_quality", "sharpness", "identity", "lip_distance", "lip_sync"),
)


@lru_cache(maxsize=1)
def definitions() -> dict[str, Definition]:
    """Every definition by its id, in the order in which tables print them."""
    others = sorted({path.stem for path in FOLDER.glob("[a-z]*.py")} - set(FIRST))
    modules = [importlib.import_module(f"stages.evaluate.metrics.{name}") for name in (*FIRST, *others)]
    every = [definition for module in modules for definition in getattr(module, "DEFINITIONS", ())]
    found = {definition.id: definition for definition in every}
    assert len(found) == len(every), "two definitions share an id"
    return found


def find_definition(id: str) -> Definition:
    """The definition of that id; `KeyError` with all known ids."""
    if id not in definitions():
        raise KeyError(f"no metric {id!r}; known: {', '.join(definitions())}")
    return definitions()[id]
