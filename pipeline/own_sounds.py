"""What a stage finds in the sound of both people it finds in each person's own too, where people have one.

So no stage of sound knows of it: where some stage writes ``speaker_audio`` and ``listener_audio``, one that reads
nothing but ``audio`` (or what such stages write) is asked three times, and ``words`` gets ``speaker_words`` and
``listener_words`` beside it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from pipeline.clip import Clip
from pipeline.stage import Stage, Warned
from schemas.clip import CLIP_COLUMNS
from schemas.column import ROLES, Column, both

MIX = "audio"
_MANIFEST = {column.name for column in CLIP_COLUMNS}


def own_column(column: Column, role: str) -> Column:
    """The column that holds of one person's sound what a column holds of both's."""
    meaning = f"as {column.name}, of the {role}'s own sound"
    return replace(column, name=f"{role}_{column.name}", meaning=meaning)


def with_own_sounds(stages: Sequence[Stage]) -> list[Stage]:
    """The stages, in their order, those of sound also asked about each person's where there is such a sound."""
    written = {column.name for stage in stages for column in stage.writes()}
    heard: set[str] = {MIX} if written.issuperset(both("{role}_" + MIX)) else set()
    found = []
    for stage in stages:
        own = [column.name for column in stage.writes()]
        if _is_of_sound(stage, heard) and written.isdisjoint(both(*("{role}_" + name for name in own))):
            heard.update(own)
            stage = _of_each(stage, heard)
        found.append(stage)
    return found


def _is_of_sound(stage: Stage, heard: Container[str]) -> bool:
    reads = [name for name in stage.reads() if name not in _MANIFEST]
    return bool(reads) and all(name in heard for name in reads)


def _of_each(stage: Stage, heard: Container[str]) -> Stage:
    """The stage with the columns of each person's own sound beside those of both's, none where there is no such."""
    reads = [name for name in stage.reads() if name in heard]
    mixed = stage.writes()

    class OfEach(type(stage)):  # type: ignore[misc]  # mypy knows no class that is made of another's instance
        process_part = Stage.process_part

        def reads(self) -> tuple[str, ...]:
            return (*super().reads(), *both(*("{role}_" + name for name in (MIX, *reads))))

        def writes(self) -> tuple[Column, ...]:
            return (*mixed, *(own_column(column, role) for role in ROLES for column in mixed))

        def process(self, clip: Clip) -> dict[str, Any]:
            said = super().process(clip)
            columns = dict(said)
            for role in ROLES:
                own: dict[str, Any] = dict.fromkeys(said)
                if clip[f"{role}_{MIX}"] is not None:
                    own = super().process(clip.hearing(role, reads))
                    if isinstance(own, Warned) and not isinstance(said, Warned):
                        said = Warned(said, own.reason, f"the {role}'s own sound: {own.detail}")
                columns |= {f"{role}_{name}": value for name, value in own.items()}
            return Warned(columns, said.reason, said.detail) if isinstance(said, Warned) else columns

    made = copy(stage)
    made.__class__ = OfEach
    return made
