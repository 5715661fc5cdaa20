"""The registry of stages is the folder listing: every file of ``stages/`` that holds a `Stage` is one.

A stage file outside the tree works too; it is read as text once, so that workers on other machines run the same code.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path

from pipeline.settings import read_text
from pipeline.stage import Stage
from schemas.errors import UserError

STAGES_FOLDER = Path(__file__).resolve().parent.parent / "stages"
MAX_STAGE_BYTES = 2**20


@dataclass(frozen=True)
class StageCode:
    """Where a stage's class comes from: a module of ``stages/``, or the text of a file outside the tree."""

    name: str
    sha256: str  # of its text and its packages'; recorded with the data, never part of a fingerprint
    source: str = ""  # only for a file outside the tree

    def load(self) -> type[Stage]:
        """Import the stage's class."""
        if not self.source:
            return _stage_class(self.name, importlib.import_module(f"stages.{self.name}"))
        module_name = f"outside_stages.{self.name}"
        module = types.ModuleType(module_name)
        sys.modules[module_name] = module  # dataclasses look their module up by name
        try:
            code = compile(self.source, f"{self.name}.py", "exec")
        except (SyntaxError, ValueError) as error:  # a null byte is a ValueError
            raise UserError(f"stage file {self.name}.py: expected Python: {error}") from None
        exec(code, module.__dict__)
        return _stage_class(self.name, module)


def find_stages(outside: list[Path] | None = None, folder: Path = STAGES_FOLDER) -> list[StageCode]:
    """All stages of the folder and those given by file, by name.

    `UserError` if a given file is missing, is no stage, or takes the name of another stage.
    """
    found = {}
    for path in sorted(folder.glob("[a-z]*.py")):
        found[path.stem] = StageCode(path.stem, _sha256(_with_packages(path)))
    for path in outside or []:
        if path.stem in found:
            raise UserError(f"--stage {path}: there is already a stage {path.stem!r}; rename the file")
        text = read_text(path, MAX_STAGE_BYTES)
        found[path.stem] = StageCode(path.stem, _sha256(text), text)
    return list(found.values())


def _with_packages(path: Path) -> str:
    """The text of a stage's file and of all files of the packages beside it that it imports from."""
    text = path.read_text(encoding="utf-8")
    packages = sorted(set(re.findall(r"^\s*(?:from|import) stages\.(\w+)", text, flags=re.MULTILINE)))
    files = [file for package in packages for file in sorted((path.parent / package).glob("*.py"))]
    return "".join([text, *(file.read_text(encoding="utf-8") for file in files)])


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _stage_class(name: str, module: types.ModuleType) -> type[Stage]:
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Stage) and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise UserError(f"stage file {name}.py must define exactly one subclass of Stage, found {len(classes)}")
    classes[0].name = name
    return classes[0]
