"""The presets ``paper``: what takes the deviations back, all of it and nothing else."""

from __future__ import annotations

import pytest

from pipeline.settings import as_plain, resolve
from stages.train.listener import Listener, published
from stages.train.registry import find_listeners

TOLD = {name: kind for name, kind in find_listeners().items() if "deviations" in vars(kind)}


@pytest.mark.parametrize("name", TOLD)
def test_a_preset_paper_is_what_takes_the_deviations_back(name: str) -> None:
    kind = TOLD[name]
    assert kind.presets["paper"] == published(kind.deviations)
    default, paper = as_plain(kind.Settings()), as_plain(resolve(name, kind.Settings, kind.presets["paper"]))
    for deviation in kind.deviations:
        assert deviation.where and deviation.paper and deviation.ours
        for key, value in deviation.settings.items():
            assert paper[key] == value != default[key], f"{name}: {key} = {value!r} is no deviation"


def test_what_all_listeners_deviate_in_is_told_once() -> None:
    assert len(Listener.deviations) and all(Listener.deviations != kind.deviations for kind in TOLD.values())
