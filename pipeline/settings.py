"""Settings: dataclass default -> ``[stages.<name>]`` in the manifest -> ``--set stage.key=value``, and nothing else."""

from __future__ import annotations

import dataclasses
import stat
import sys
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from schemas.errors import UserError

MAX_NESTING = 100  # tables in tables, lists in lists: people need three
LARGEST_WHOLE = 2**63 - 1  # what Parquet and JSON readers hold
SHOWN = 80  # characters of a wrong value that a message quotes


def shown(value: Any) -> str:
    """A wrong value as a message quotes it: short, and safe to print whatever it is."""
    try:
        return repr(value)[:SHOWN]
    except (RecursionError, ValueError):  # nested without end, or a whole number of thousands of digits
        return f"a {type(value).__name__} too large to show"


def read_text(path: Path, limit_bytes: int) -> str:
    """A text file that a person wrote; `UserError` if it is missing, too large, no file or no UTF-8."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would never end, nor would a device
            where = "; name the file in this folder" if stat.S_ISDIR(found.st_mode) else ""
            raise UserError(f"{path}: expected a regular file{where}")
        if found.st_size > limit_bytes:
            raise UserError(f"{path}: expected at most {limit_bytes} bytes, found {found.st_size}")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8, expected text: {error}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read, name another file: {error}") from None


def parse_toml(text: str) -> dict[str, Any]:
    """TOML from somebody else: `UserError` for what is not TOML, and for what no person writes."""
    try:
        content = tomllib.loads(text)
        if not _is_nested(content, MAX_NESTING):
            return content
    except ValueError as error:  # names line and column, or is about a whole number of thousands of digits
        raise UserError(f"not valid TOML: {error}") from None
    except RecursionError:
        pass
    raise UserError(f"not valid TOML: nested more than {MAX_NESTING} deep")


def _is_nested(content: dict[str, Any], depth: int) -> bool:
    """Whether there are tables or lists in each other deeper than that."""
    level: list[Any] = [content]
    for _ in range(depth):
        inner = (child for value in level for child in (value.values() if isinstance(value, dict) else value))
        level = [child for child in inner if isinstance(child, dict | list)]
    return bool(level)


def parse_overrides(assignments: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``["blink.threshold=0.2"]`` as ``{"blink": {"threshold": 0.2}}``. Values are TOML; a bare word is a string."""
    overrides: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        stage, dot, key = target.strip().partition(".")
        if not (equals and dot and stage and key):
            raise UserError(f"--set {assignment!r}: expected stage.key=value, e.g. --set blink.threshold=0.2")
        overrides.setdefault(stage, {})[key] = _parse_value(text.strip())
    return overrides


def _parse_value(text: str) -> Any:
    try:
        content = parse_toml(f"value = {text}")
    except UserError:
        return text
    return content["value"] if list(content) == ["value"] else text


def merge(manifest: Mapping[str, Mapping[str, Any]], overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Tables of the manifest with those of the command line laid over them, key by key."""
    return {name: {**manifest.get(name, {}), **overrides.get(name, {})} for name in {**manifest, **overrides}}


def resolve(name: str, settings_type: type, given: Mapping[str, Any]) -> Any:
    """A ``Settings`` object of a stage from its defaults and what is given.

    `UserError` for a key that it does not have (lists those it has) and for a value of another type or not allowed.
    """
    fields = {field.name: field for field in dataclasses.fields(settings_type)}
    hints = typing.get_type_hints(settings_type)
    values = {}
    for key, value in given.items():
        if key not in fields:
            known = ", ".join(fields) or "none"
            raise UserError(f"[stages.{name}]: unknown setting {shown(key)}; settings of {name!r}: {known}")
        values[key] = _fit(f"[stages.{name}] {key}", value, hints[key])
        choices = fields[key].metadata.get("choices", ())
        if choices and value not in choices:
            allowed = ", ".join(repr(choice) for choice in choices)
            raise UserError(f"[stages.{name}] {key}: found {shown(value)}, allowed: {allowed}")
        least = fields[key].metadata.get("least", 0)
        if isinstance(values[key], int | float) and values[key] < least <= (fields[key].default or 0):
            raise UserError(f"[stages.{name}] {key}: found {shown(value)}, allowed: {least:g} or more")
    return settings_type(**values)


def _fit(where: str, value: Any, wanted: Any) -> Any:
    """The value in the wanted type: whole numbers may stand for floats and lists for tuples, nothing else changes."""
    if typing.get_origin(wanted) in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(wanted) if option is not type(None)]
        return _fit(where, value, options[0])
    kind = typing.get_origin(wanted) or wanted
    if kind is tuple and isinstance(value, list):
        return tuple(_fit(where, element, typing.get_args(wanted)[0]) for element in value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(where, value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{where}: expected {kind.__name__}, found {shown(value)} ({type(value).__name__})")
    if kind is int and abs(value) > LARGEST_WHOLE:
        raise UserError(f"{where}: found {shown(value)}, allowed: {-LARGEST_WHOLE} to {LARGEST_WHOLE}")
    return value


def _finite(where: str, value: float) -> float:
    if not abs(value) <= sys.float_info.max:  # inf, nan, or a whole number beyond all floats
        raise UserError(f"{where}: found {shown(value)}, allowed: a finite number")
    return float(value)


def as_plain(settings: Any) -> dict[str, Any]:
    """Settings as JSON-ready values, for fingerprints and ``dataset.json``."""
    return dataclasses.asdict(settings)


def describe(settings_type: type) -> list[tuple[str, str, str]]:
    """(key, default, meaning) of every setting, for ``--help`` and the docs."""
    rows = []
    for field in dataclasses.fields(settings_type):
        choices = ", ".join(map(str, field.metadata.get("choices", ())))
        meaning = field.metadata.get("meaning", "") + (f" (one of {choices})" if choices else "")
        rows.append((field.name, repr(field.default), meaning))
    return rows
