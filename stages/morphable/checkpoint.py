"""Checkpoints of published networks: files of ``torch.save`` that may hold tensors and nothing that runs.

Such a file is a ZIP archive with a CRC-32 of everything in it, which torch does not look at (those of before torch 1.6
have none): here it must be right. Ours end with a SHA-256 of the whole file, the archive's index too.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from schemas.errors import UserError

ZIP = b"PK\x03\x04"  # how an archive begins, for torch too
SEAL_BYTES = hashlib.sha256().digest_size  # of the archive's comment, which torch passes over
REMEDY = "get the file again, or see python -m jobs.weights"
Network = TypeVar("Network", bound=nn.Module)


def read_checkpoint(path: Path, *keys: str) -> dict[str, Any]:
    """What a checkpoint holds, or the network under the first of some keys that it has.

    Raises
    ------
    UserError : it cannot be read, is damaged, is no dict, or has none of the keys.
    """
    try:
        _require_intact(path)
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


def write_checkpoint(stored: dict[str, Any], path: Path) -> None:
    """Write a checkpoint of ours: any program's ``torch.load`` reads it, and `read_checkpoint` no damaged one."""
    torch.save(stored, path)
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)  # an archive ends with the length of its comment
        file.write(SEAL_BYTES.to_bytes(2, "little"))
        file.seek(0)
        file.write(hashlib.file_digest(file, "sha256").digest())


def _require_intact(path: Path) -> None:
    """Raise `zipfile.BadZipFile` where an archive is not what was written."""
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            return
        with zipfile.ZipFile(file) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"its part {damaged} is damaged")
            seal = archive.comment
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole, memoryview(whole) as content:
            if len(seal) == SEAL_BYTES and hashlib.sha256(content[:-SEAL_BYTES]).digest() != seal:
                raise zipfile.BadZipFile("its index is damaged")


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
