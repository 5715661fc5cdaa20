"""What the tests of the trainer share: a data set, listeners of a few weights, draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.train.listener import Batch, Sizes
from tests.labs.listeners import SIZES
from tests.labs.trainer import listener, small_set

SMALL: dict[str, dict[str, Any]] = {
    "vico_lstm": {"dropout": 0.0},
    "pchg": {"width": 24, "hidden": 16, "layers": 2, "dropout": 0.0},
    "hsp": {"audio_width": 4, "width": 16, "hidden": 12, "dropout": 0.0},
    "elp": {"heads": 8, "codes": 4, "width": 12, "audio_width": 4, "audio_outputs": 8, "channels": 4, "dropout": 0.0},
    "mfr": {"width": 16, "heads": 2, "layers": 1, "dropout": 0.0, "steps": 50, "sampling_steps": 8},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Two threads on two busy cores wait for each other: a step of mfr takes ten times as long with them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of random numbers."""
    return small_set(tmp_path_factory.mktemp("trainer") / "set")


def small(name: str, preset: str = "", sizes: Sizes = SIZES, **settings: Any) -> Any:
    """A listener with fresh weights, in evaluation mode; elp's decoder does not start at zero, as after training."""
    model = listener(name, sizes, preset, **{**SMALL.get("elp" if name == "dls_random" else name, {}), **settings})
    if name in ("elp", "dls_random"):
        torch.nn.init.normal_(model.motion.second.weight, std=0.1)
    return model


def reaches(model: Any, batch: Batch, **changed: Any) -> bool:
    """Whether something of the batch, replaced, changes what a listener says, with the same draws."""
    other = replace(batch, extra={**batch.extra, **changed.pop("extra", {})}, **changed)
    with torch.no_grad():
        one, two = (model.predict(b, draws()) for b in (batch, other))
    blinks = (one.blink, two.blink)
    same_blink = None in blinks or torch.equal(*blinks)
    return not (torch.equal(one.motion, two.motion) and same_blink)


def weights(model: Any) -> set[str]:
    """First names of a listener's parameters."""
    return {name.split(".")[0] for name, _ in model.named_parameters()}


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
