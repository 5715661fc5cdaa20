"""Checkpoints of published networks: files of ``torch.save`` that may hold tensors and nothing that runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from schemas.errors import UserError

REMEDY = "get the file again, or see python -m jobs.weights"
Network = TypeVar("Network", bound=nn.Module)


def read_checkpoint(path: Path, *keys: str) -> dict[str, Any]:
    """What a checkpoint holds, or the network under the first of some keys that it has.

    Raises
    ------
    UserError : it cannot be read, is no dict, or has none of the keys.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, zipfile and torch: garbage is answered in many ways
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path}: expected a checkpoint of torch, found {type(error).__name__}: {reason}; {REMEDY}"
        ) from None
    found = stored if isinstance(stored, Mapping) else {}
    wanted = next((found[key] for key in keys if key in found), None) if keys else stored
    if not isinstance(wanted, Mapping):
        names = ", ".join(map(str, found))[:200] or type(stored).__name__
        raise UserError(f"{path}: expected a dict with {' or '.join(keys) or 'tensors'}, found {names}; {REMEDY}")
    return dict(wanted)


def filled(network: Network, state: Mapping[str, Any], path: Path) -> Network:
    """The network with the weights that the file ``path`` holds; `UserError` where they are another's."""
    try:
        network.load_state_dict(dict(state))
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{path}: expected the weights of {type(network).__name__}, found others: {reason}; {REMEDY}"
        ) from None
    return network
