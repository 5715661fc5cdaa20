"""The contract of a stage: what it declares as values or as methods, the engine asks in one way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.stage import Stage, setting
from schemas.column import Column
from schemas.errors import UserError


class Plain(Stage):
    reads = ("source",)
    writes = (Column("plain", "float32"),)
    gpus = 0.5


class Chosen(Plain):
    @dataclass(frozen=True)
    class Settings:
        wide: bool = setting(False, "two columns")

    def writes(self) -> tuple[Column, ...]:
        return (*super().writes(), Column("second", "float32")) if self.settings.wide else super().writes()


def names(stage: Stage) -> list[str]:
    return [column.name for column in stage.writes()]


def test_values_and_methods_are_asked_alike_and_build_on_each_other() -> None:
    assert (Plain().reads(), names(Plain()), Plain().weights()) == (("source",), ["plain"], ())
    assert (Plain().cpus(), Plain().gpus()) == (1, 0.5)
    assert names(Chosen()) == ["plain"] and names(Chosen(Chosen.Settings(wide=True))) == ["plain", "second"]
    assert Chosen().reads() == ("source",) and Chosen().gpus() == 0.5


@pytest.mark.parametrize("value", ["source", ["source"], property(lambda self: ("source",))])
def test_a_declaration_of_another_kind_is_refused_where_the_class_is_made(value: Any) -> None:
    with pytest.raises(UserError, match="stage Odd: reads: expected tuple or method, found"):
        type("Odd", (Stage,), {"reads": value})
