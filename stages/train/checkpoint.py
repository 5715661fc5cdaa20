"""Checkpoints without pickle: tensors in safetensors files, everything else as JSON in their headers.

A file is written whole and renamed, so weights, optimizer and history in it always belong to one epoch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from schemas.errors import UserError
from stages.train.inputs import ANEW
from stages.train.run_folder import write_whole

NOTE = "note"  # key of the JSON in a file's header


def save_weights(path: Path, model: nn.Module, note: dict[str, Any]) -> None:
    """Write a model's weights."""
    _save(path, _prefixed("model", model.state_dict()), note)


def load_weights(path: Path, model: nn.Module) -> dict[str, Any]:
    """Read weights into a model; returns the note that was saved with them.

    Raises
    ------
    UserError : the file is no checkpoint, or another model's; so do all that read one.
    """
    return _load(path, model)[1]


def save_training(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, note: dict[str, Any]) -> None:
    """Write all that a training goes on from."""
    tensors = _prefixed("model", model.state_dict())
    for name, parameter in model.named_parameters():
        tensors |= _prefixed(f"optimizer.{name}", optimizer.state.get(parameter, {}))
    _save(path, tensors, note)


def load_training(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Read a training's state into its model and optimizer; returns the note."""
    tensors, note = _load(path, model)
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


def _save(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    content = save(tensors, metadata={NOTE: json.dumps(note)})  # save_file would make a file for its owner alone
    write_whole(path, lambda scratch: scratch.write_bytes(content))


def _load(path: Path, model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A checkpoint's tensors and note; its weights are put into the model, if they are all of those that it has."""
    try:
        with safe_open(path, "pt") as file:
            note: dict[str, Any] = json.loads(file.metadata()[NOTE])
        tensors = load_file(path)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: no checkpoint of a listener: {error}; {ANEW}") from None
    weights = _of_prefix("model", tensors)
    wanted, found = ({name: tuple(t.shape) for name, t in some.items()} for some in (model.state_dict(), weights))
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            sizes = f"expected {wanted.get(name, 'no such weight')}, found {found.get(name, 'none')}"
            raise UserError(f"{path}: another listener's weights: {name}: {sizes}; {ANEW}")
    model.load_state_dict(weights)
    return tensors, note
