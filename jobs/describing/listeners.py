"""Tables of listeners, their presets, sizes and settings, read off their classes."""

from __future__ import annotations

from typing import Any

from pipeline.plan import Pipeline
from pipeline.registry import find_stages
from pipeline.settings import describe
from pipeline.tables import markdown_table
from schemas.clip import ATTITUDES
from schemas.coefficients import Layout

BLINK, ACOUSTIC_WIDTH = "listener_blink", 45


def listeners_markdown() -> str:
    """A table of all listeners and their presets, and one of the settings of each."""
    from stages.train.registry import find_listeners

    rows, settings = [], []
    for name, listener in find_listeners().items():
        for preset in listener.presets or ("",):
            rows.append(_listener_row(name, listener, preset))
        settings += [[f"`{name}`", f"`{key}`", f"`{default}`", text] for key, default, text in _own(listener)]
    columns = ["listener", "preset", "paper", "reads", "says", "parameters", "causal", "stochastic"]
    shared = [[f"`{key}`", f"`{default}`", text] for key, default, text in describe(_training_settings())]
    return "\n\n".join(
        [
            markdown_table(columns, rows),
            "Settings that all have (`--set key=value`), with the defaults of those that do not set their own:",
            markdown_table(["setting", "default", "meaning"], shared),
            "Settings that differ or that a listener has for itself:",
            markdown_table(["listener", "setting", "default", "meaning"], settings),
        ]
    )


def _training_settings() -> type:
    from stages.train.listener import TrainingSettings

    return TrainingSettings


def _own(listener: Any) -> list[tuple[str, str, str]]:
    """Settings of a listener that are not as every listener has them."""
    shared = describe(_training_settings())
    return [row for row in describe(listener.Settings) if row not in shared]


def _listener_row(name: str, listener: Any, preset: str) -> list[str]:
    from stages.train.listener import Sizes

    settings = listener.Settings(**listener.presets.get(preset, {}))
    order = listener.layout(settings)
    columns = Pipeline(find_stages(), {}).columns
    extra = {column: ([a for a in columns[column].axes if isinstance(a, int)] or [1])[-1] for column in listener.reads}
    model = listener(settings, Sizes(Layout(order), ACOUSTIC_WIDTH, len(ATTITUDES), extra))
    weights = sum(parameter.numel() for parameter in model.parameters())
    reads = ", ".join(["motion, audio", *(f"`{column}`" for column in listener.reads if column != BLINK)])
    says = f"`{order}`" + (" and blinks" if BLINK in listener.reads else "")  # blinks are read only to learn them
    flags = ["yes" if flag else "no" for flag in (listener.causal, listener.stochastic)]
    return [f"`{name}`", preset, listener.paper, reads, says, f"{weights:,}" if weights else "", *flags]
