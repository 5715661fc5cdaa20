"""Settings: dataclass default -> ``[stages.<name>]`` in the manifest -> ``--set stage.key=value``, and nothing else."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


class ManifestError(ValueError):
    """The manifest, its clips or a setting is wrong; the message says where, what was found and what is allowed."""


def read_text(path: Path, limit_bytes: int) -> str:
    """A text file that a person wrote; `ManifestError` if it is missing, too large or no UTF-8."""
    try:
        if path.stat().st_size > limit_bytes:
            raise ManifestError(f"{path}: larger than {limit_bytes} bytes")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text: {error}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, ManifestError):
            raise
        raise ManifestError(f"{path}: cannot be read: {error}") from None


def parse_overrides(assignments: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``["blink.threshold=0.2"]`` as ``{"blink": {"threshold": 0.2}}``. Values are TOML; a bare word is a string."""
    overrides: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        stage, dot, key = target.strip().partition(".")
        if not (equals and dot and stage and key):
            raise ManifestError(f"--set {assignment!r}: expected stage.key=value, e.g. --set blink.threshold=0.2")
        overrides.setdefault(stage, {})[key] = _parse_value(text.strip())
    return overrides


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text


def merge(manifest: Mapping[str, Mapping[str, Any]], overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Tables of the manifest with those of the command line laid over them, key by key."""
    return {name: {**manifest.get(name, {}), **overrides.get(name, {})} for name in {**manifest, **overrides}}


def resolve(name: str, settings_type: type, given: Mapping[str, Any]) -> Any:
    """A ``Settings`` object of a stage from its defaults and what is given.

    Raises
    ------
    ManifestError : a key that the stage does not have (lists those it has), a value of another type, or one that is
        not among the allowed choices.
    """
    fields = {field.name: field for field in dataclasses.fields(settings_type)}
    hints = typing.get_type_hints(settings_type)
    values = {}
    for key, value in given.items():
        if key not in fields:
            known = ", ".join(fields) or "none"
            raise ManifestError(f"[stages.{name}]: unknown setting {key!r}; settings of {name!r}: {known}")
        values[key] = _fit(f"[stages.{name}] {key}", value, hints[key])
        choices = fields[key].metadata.get("choices", ())
        if choices and value not in choices:
            allowed = ", ".join(repr(choice) for choice in choices)
            raise ManifestError(f"[stages.{name}] {key}: found {value!r}, allowed: {allowed}")
    return settings_type(**values)


def _fit(where: str, value: Any, wanted: Any) -> Any:
    """The value in the wanted type: whole numbers may stand for floats and lists for tuples, nothing else changes."""
    if typing.get_origin(wanted) in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(wanted) if option is not type(None)]
        return _fit(where, value, options[0])
    kind = typing.get_origin(wanted) or wanted
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ManifestError(f"{where}: expected {kind.__name__}, found {value!r} ({type(value).__name__})")
    return value


def as_plain(settings: Any) -> dict[str, Any]:
    """Settings as JSON-ready values, for fingerprints and ``dataset.json``."""
    return dataclasses.asdict(settings)


def describe(settings_type: type) -> list[tuple[str, str, str]]:
    """(key, default, meaning) of every setting, for ``--help`` and the docs."""
    rows = []
    for field in dataclasses.fields(settings_type):
        choices = field.metadata.get("choices", ())
        meaning = field.metadata.get("meaning", "")
        if choices:
            meaning += f" (one of {', '.join(map(str, choices))})"
        rows.append((field.name, repr(field.default), meaning))
    return rows
