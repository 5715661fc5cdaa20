"""The TOML file behind a manifest, read table by table: every mistake says file, line, key, found and allowed.

A manifest may come from anybody. Its text can name files and hosts, but never what looks like one and is another: no
control characters, no path that a link bends, no address that two readers understand differently.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.settings import parse_toml, read_text, shown
from pipeline.sources.takedown import WITHDRAWABLE
from schemas.clip import ID_MEANING, ID_PATTERN
from schemas.errors import INVISIBLE, UserError

YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{11}")
YOUTUBE_URL = "https://www.youtube.com/watch?v="
WEB_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d{1,5})?(/\S*)?")
SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_HOST = 253  # characters of a name in the DNS
MAX_TEXT = 4096  # characters; no path can be longer on Linux
MAX_MANIFEST_BYTES = 16 * 2**20  # people write it: anything larger is a mistake or an attack


class Document:
    """A TOML file and its text, which tells the lines of what is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = read_text(path, MAX_MANIFEST_BYTES)
        try:
            self.content = parse_toml(self.text)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def table(self, name: str, known: tuple[str, ...]) -> Table:
        """The one table of a name; "" is the top level."""
        values = self.content.get(name) if name else self.content
        if not isinstance(values, dict):
            raise UserError(f"{self.path}: expected a table [{name}] with {', '.join(known)}")
        return Table(self, name, 0, values).only(known)

    def tables(self, name: str, known: tuple[str, ...]) -> list[Table]:
        """All tables of a name; none is an error."""
        found = self.content.get(name)
        if not isinstance(found, list) or not found or not all(isinstance(values, dict) for values in found):
            raise UserError(f"{self.path}: no {name}; expected one [[{name}]] table a video with id, path and licence")
        return [Table(self, name, number, values).only(known) for number, values in enumerate(found)]

    def line_of(self, table: str, number: int, key: str) -> int:
        """The line on which a key of the number-th table of that name stands; 0 if it cannot be told."""
        current, count = "", -1
        for line, text in enumerate(self.text.splitlines(), start=1):
            if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", text):
                current = header[1]
                count += current == table
            elif current == table and max(count, 0) == number and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", text):
                return line
        return 0


@dataclass(frozen=True)
class Table:
    """One table of the file. Each method reads a key, or raises `UserError`."""

    document: Document
    name: str
    number: int
    values: Mapping[str, Any]

    def error(self, key: str, allowed: str) -> UserError:
        label = f"[[{self.name}]] number {self.number + 1}: " if self.name == "sources" else f"[{self.name}] "
        return UserError(f"{self._where(key)}{label}{key}: found {shown(self.values.get(key))}, allowed: {allowed}")

    def only(self, known: tuple[str, ...]) -> Table:
        """The table itself, if it holds no other keys than those."""
        for key in self.values:
            if key not in known:
                label = f"[{self.name}] " if self.name else ""
                allowed = ", ".join(known)
                raise UserError(f"{self._where(key)}{label}unknown key {shown(key)}, allowed: {allowed}")
        return self

    def _where(self, key: str) -> str:
        line = self.document.line_of(self.name, self.number, key)
        return f"{self.document.path}, line {line}: " if line else f"{self.document.path}: "

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(key, "text")
        if INVISIBLE.search(value) or len(value) > MAX_TEXT:
            raise self.error(key, f"text without control characters, of {MAX_TEXT} characters or fewer")
        return value

    def identity(self, key: str) -> str:
        value = self.text(key)
        if not ID_PATTERN.fullmatch(value):
            raise self.error(key, ID_MEANING)
        return value

    def sha256(self, key: str) -> str:
        """64 digits, or nothing where the key is not given."""
        value = self.values.get(key, "")
        if not isinstance(value, str) or (value and not SHA256.fullmatch(value)):
            raise self.error(key, "64 digits 0-9 a-f")
        return value

    def share(self, key: str) -> float:
        value = self.values.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self.error(key, "a share from 0 to 1")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def one_of(self, key: str, allowed: Collection[str]) -> str:
        if (value := self.text(key)) not in allowed:
            raise self.error(key, ", ".join(allowed))
        return value

    def names(self, key: str) -> tuple[str, ...] | None:
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self.error(key, "a list of names")
        return tuple(value)

    def withdrawn(self, key: str) -> tuple[str, ...]:
        ids = self.names(key) or ()
        if not all(WITHDRAWABLE.fullmatch(name) for name in ids):
            raise self.error(key, "a list of ids of clips, sources and people, of the characters A-Z a-z 0-9 _ -")
        return ids

    def file(self, key: str) -> Path:
        """An existing file. Where it is written as lying below the manifest's folder, it does, links followed."""
        path, root = self.text(key), self.document.path.parent
        if "://" in path:
            raise self.error(key, "a file, relative to the manifest")
        file = root / path
        try:
            is_there = file.is_file()
        except OSError as error:
            raise self.error(key, f"a file that can be read, relative to the manifest: {error.strerror}") from None
        if not is_there:
            raise self.error(key, f"an existing file, relative to the manifest; there is no {file}")
        if _is_written_below(path) and not file.resolve().is_relative_to(root.resolve()):
            raise self.error(key, f"a file that lies where its path says; a link leads to {file.resolve()}: write that")
        return file

    def folder(self, key: str) -> Path:
        """An existing folder, relative to the manifest."""
        folder = self.document.path.parent / self.text(key)
        try:
            is_there = folder.is_dir()
        except OSError:  # a name that is too long
            is_there = False
        if not is_there:
            raise self.error(key, f"an existing folder, relative to the manifest; there is no {folder}")
        return folder

    def url(self, key: str) -> str:
        value = self.text(key)
        if key == "youtube":
            if not YOUTUBE_ID.fullmatch(value):
                raise self.error(key, "the 11 characters of a YouTube id")
            return YOUTUBE_URL + value
        if not _is_web_address(value):
            raise self.error(key, "an address that begins with http:// or https:// and holds no password")
        return value


def _is_written_below(path: str) -> bool:
    written = os.path.normpath(path)
    return not os.path.isabs(written) and written.split(os.sep)[0] != os.pardir


def _is_web_address(value: str) -> bool:
    """Whether all who read an address find the same host in it; which hosts are asked, `public_network` decides."""
    try:
        host = urlsplit(value).hostname or ""
    except ValueError:  # brackets that hold no address
        return False
    return bool(WEB_ADDRESS.fullmatch(value)) and len(host) <= MAX_HOST
