"""All metrics: every module's definitions by id, in the order in which a table prints them."""

from __future__ import annotations

from functools import lru_cache

from stages.evaluate.metrics import (
    blinks,
    diversity,
    feature_distance,
    frechet,
    identity,
    image_quality,
    lip_distance,
    sharpness,
    synchrony_definitions,
    variety,
)
from stages.evaluate.metrics.definition import Definition

MODULES = (
    feature_distance,
    frechet,
    variety,
    synchrony_definitions,
    blinks,
    image_quality,
    sharpness,
    identity,
    lip_distance,
    diversity,
)


@lru_cache(maxsize=1)
def definitions() -> dict[str, Definition]:
    """Every definition by its id."""
    every = [definition for module in MODULES for definition in module.DEFINITIONS]
    found = {definition.id: definition for definition in every}
    assert len(found) == len(every), "two definitions share an id"
    return found


def find_definition(id: str) -> Definition:
    """The definition of that id; `KeyError` with all known ids."""
    if id not in definitions():
        raise KeyError(f"no metric {id!r}; known: {', '.join(definitions())}")
    return definitions()[id]
