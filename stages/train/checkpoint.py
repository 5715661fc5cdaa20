"""Checkpoints without pickle: tensors in safetensors files, everything else as JSON in their headers.

A file is written whole and renamed, so weights, optimizer and history in it always belong to one epoch. Its header has
the sha256 of all that is read from it and the identity of its run (`run_folder.Run.identity`); one of before that has
neither, and is taken only by a run of before that.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from schemas.errors import UserError
from stages.train.inputs import ANEW
from stages.train.whole_files import write_whole

NOTE, RUN, SEAL = "note", "run", "sha256"  # keys of a file's header: JSON, whose it is, hash


def save_weights(path: Path, model: nn.Module, note: dict[str, Any], run: str) -> None:
    """Write a model's weights; ``run`` is the identity of the run."""
    _save(path, _prefixed("model", model.state_dict()), note, run)


def load_weights(path: Path, model: nn.Module, run: str) -> dict[str, Any]:
    """Read weights into a model; returns the note that was saved with them.

    Raises
    ------
    UserError : the file is no checkpoint, damaged, or another model's or run's; so do all that read one.
    """
    return _load(path, model, run)[1]


def read_note(path: Path, run: str) -> dict[str, Any]:
    """The note of a checkpoint that is whole."""
    return _read(path, run)[1]


def save_training(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, note: dict[str, Any], run: str, previous: Path
) -> None:
    """Write all that a training goes on from; what stood there becomes ``previous``."""
    tensors = _prefixed("model", model.state_dict())
    for name, parameter in model.named_parameters():
        tensors |= _prefixed(f"optimizer.{name}", optimizer.state.get(parameter, {}))
    _save(path, tensors, note, run, previous)


def load_training(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: str) -> dict[str, Any]:
    """Read a training's state into its model and optimizer; returns the note."""
    tensors, note = _load(path, model, run)
    state = optimizer.state_dict()
    for index, (name, _) in enumerate(model.named_parameters()):
        if found := _of_prefix(f"optimizer.{name}", tensors):
            state["state"][index] = found
    optimizer.load_state_dict(state)
    return note


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor.detach().contiguous() for name, tensor in tensors.items()}


def _of_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def _save(path: Path, tensors: dict[str, Tensor], note: dict[str, Any], run: str, previous: Path | None = None) -> None:
    header = {NOTE: json.dumps(note), RUN: run}
    content = save(tensors, metadata={**header, SEAL: _seal(tensors, header)})  # save_file makes a file for its owner
    write_whole(path, lambda scratch: scratch.write_bytes(content), previous)


def _seal(tensors: dict[str, Tensor], header: dict[str, str]) -> str:
    """The sha256 of all that a checkpoint says, in whatever order it stands there."""
    found = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _read(path: Path, run: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A checkpoint's tensors and note, as they were written and of this run."""
    try:
        content = path.read_bytes()  # no map of the file: what an optimizer goes on from would change with it
        header: dict[str, str] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        tensors = load(content)
        note: dict[str, Any] = json.loads(header[NOTE])
        if header.keys() != ({NOTE, RUN, SEAL} if run else {NOTE}):
            raise ValueError(f"expected a header with {NOTE}, {RUN} and {SEAL}, found {', '.join(header)}")
        if run and header.pop(SEAL) != _seal(tensors, header):
            raise ValueError("damaged: its sha256 is not that of what it holds")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: no checkpoint of a listener: {error}; {ANEW}") from None
    if header.get(RUN, "") != run:
        raise UserError(f"{path}: another run's: its settings or data are not those of run.json beside it; {ANEW}")
    return tensors, note


def _load(path: Path, model: nn.Module, run: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `_read` gives; the weights are put into the model, if they are all of those that it has."""
    tensors, note = _read(path, run)
    weights = _of_prefix("model", tensors)
    wanted, found = ({name: tuple(t.shape) for name, t in some.items()} for some in (model.state_dict(), weights))
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            sizes = f"expected {wanted.get(name, 'no such weight')}, found {found.get(name, 'none')}"
            raise UserError(f"{path}: another listener's weights: {name}: {sizes}; {ANEW}")
    model.load_state_dict(weights)
    return tensors, note
