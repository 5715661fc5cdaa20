"""The folder of a run: what was trained, on what, with which settings, and the weights. JSON and safetensors only.

RUN/run.json                listener, preset, settings, inputs, data, z-scores, held-out listeners
RUN/checkpoint.safetensors  the weights of the best epoch
RUN/last.safetensors        weights, optimizer and history after the last whole epoch, to resume from
RUN/log.txt, curves.csv, curves.png, tensorboard/
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.settings import resolve
from schemas.errors import UserError
from stages.train.inputs import ACOUSTIC_WIDTH, ColumnShape, Inputs, Origin
from stages.train.listener import Listener, Sizes, TrainingSettings
from stages.train.registry import find_listener
from stages.train.zscores import Scale, Scores

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Run:
    """What ``run.json`` says.

    Attributes
    ----------
    data : folder of each data set -> fingerprints of its shards.
    vocabulary : the attitudes that the model knows.
    held_out : ids of the training clips that validate.
    """

    listener: str
    preset: str
    settings: Mapping[str, Any]
    inputs: Inputs
    data: Mapping[str, list[str]]
    vocabulary: tuple[str, ...]
    held_out: tuple[str, ...]
    scores: Scores

    @property
    def roots(self) -> list[Path]:
        return [Path(root) for root in self.data]

    @property
    def sizes(self) -> Sizes:
        """The widths for which the listener is made."""
        extra = {name: (self.inputs.shapes[name].fixed or (1,))[-1] for name in self.inputs.extra}
        return Sizes(self.inputs.layout, ACOUSTIC_WIDTH, len(self.vocabulary), extra)

    def resolved(self) -> TrainingSettings:
        """The settings as the listener's own class."""
        settings: TrainingSettings = resolve(self.listener, find_listener(self.listener).Settings, self.settings)
        return settings

    def build(self) -> Listener:
        """The listener with fresh weights."""
        return find_listener(self.listener)(self.resolved(), self.sizes)


class RunFolder:
    """Names of a run's files, and ``run.json``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.description = root / "run.json"
        self.checkpoint = root / "checkpoint.safetensors"
        self.last = root / "last.safetensors"
        self.log = root / "log.txt"
        self.frames = root / "frames"  # the corpus while a training runs

    def write(self, run: Run) -> None:
        """Write ``run.json``."""
        self.root.mkdir(parents=True, exist_ok=True)
        plain = {"format_version": FORMAT_VERSION, **dataclasses.asdict(run)}
        write_whole(self.description, lambda path: path.write_text(json.dumps(plain, indent=1) + "\n", "utf-8"))

    def read(self) -> Run:
        """The run of this folder; `UserError` if there is none."""
        if not self.description.is_file():
            raise UserError(f"{self.description}: missing; this folder holds no run: python -m jobs.train")
        plain = json.loads(self.description.read_text(encoding="utf-8"))
        if plain.pop("format_version") != FORMAT_VERSION:
            raise UserError(f"{self.description}: written by another version of the project; train again")
        shapes = {name: ColumnShape(s["dtype"], tuple(s["axes"])) for name, s in plain["inputs"].pop("shapes").items()}
        scores = {name: Scale(tuple(s["mean"]), tuple(s["std"])) for name, s in plain.pop("scores").items()}
        inputs = plain.pop("inputs")
        makers = {stage: Origin(tuple(o["columns"]), o["made"]) for stage, o in inputs["makers"].items()}
        inputs |= {"extra": tuple(inputs["extra"]), "attitudes": tuple(inputs["attitudes"]), "shapes": shapes}
        inputs |= {"makers": makers}
        lists = {name: tuple(plain.pop(name)) for name in ("vocabulary", "held_out")}
        plain.pop("sizes", None)  # which runs used to repeat beside their inputs
        return Run(**plain, **lists, inputs=Inputs(**inputs), scores=Scores(**scores))


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a file beside ``path`` and put it there in one step."""
    scratch = path.with_name(f".{path.name}.tmp")
    write(scratch)
    scratch.replace(path)
