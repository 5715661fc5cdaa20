"""What all commands share: their options, one way out (what a person can mend is one line and exit status 2), a list.

Imports nothing that must be installed first, since `python -m jobs` and `make setup` run on a bare Python.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import UserError, is_machine_trouble

Option = Callable[[argparse.ArgumentParser], object]  # adds itself to a parser
Run = Callable[[argparse.Namespace], int | None]


def option(*names: str, **settings: Any) -> Option:
    """An argument of a command, in the words of `argparse`."""
    return lambda parser: parser.add_argument(*names, **settings)


NO_RAY = "none"  # an address
MANIFEST = option("manifest", type=Path, help="the manifest, a TOML file")
DATASET = option("dataset", help="what jobs.build wrote: a folder, or s3://bucket/prefix")


def add_address(parser: argparse.ArgumentParser, default: str = "local", also: str = "") -> None:
    """Where Ray is, what `pipeline.run.connect` takes; ``also`` ends its help. Knows nothing of Ray."""
    default = "auto" if os.environ.get("RAY_ADDRESS") else default
    told = f"Ray cluster: {'local (default)' if default else 'local'}, auto, or ray://host:port{also}"
    parser.add_argument("--address", default=default, help=told)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Where parts are run: `add_address`, and `NO_RAY`; "" where nobody says, for what suits the amount of work."""
    default = f"default: {NO_RAY} for less than four minutes of work, else local"
    add_address(parser, "", f"; {NO_RAY}: worker processes of this machine, without Ray; {default}")


@dataclass(frozen=True)
class Command:
    """A command: called with the words of its command line, by default the program's, it returns the exit status."""

    run: Run
    options: Sequence[Option]
    epilog: Callable[[], str]

    def parser(self) -> argparse.ArgumentParser:
        """Reads the command line; ``--help`` opens with the docstring of ``main``."""
        parser = argparse.ArgumentParser(
            prog="python -m " + self.run.__globals__["__spec__"].name.removesuffix(".__main__"),
            description=inspect.getdoc(self.run),
            epilog=self.epilog(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for add in self.options:
            add(parser)
        return parser

    def __call__(self, words: Sequence[str] | None = None) -> int:
        words = sys.argv[1:] if words is None else words
        options = self.parser().parse_args(words)
        try:
            return self.run(options) or 0
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
        except OSError as error:
            if is_machine_trouble(error) or isinstance(error, PermissionError):
                message = f"{error}; what is finished is kept: mend it and run the same command again"
            elif _is_named(error, words):
                message = f"{error.filename}: {error.strerror}; name another place, --help says what is expected"
            else:
                raise
            print(f"error: {message}", file=sys.stderr)
        return 2


def command(*options: Option, epilog: Callable[[], str] = str) -> Callable[[Run], Command]:
    """Makes a command of ``main``, which takes its options and returns the exit status, None for 0.

    ``main`` stands last in its file: where that is the program, ``python -m jobs.<name>``, it runs at once.
    """

    def decorate(run: Run) -> Command:
        main = Command(run, options, epilog)
        if run.__module__ == "__main__":
            sys.exit(main())
        return main

    return decorate


def _is_named(error: OSError, words: Sequence[str]) -> bool:
    """Whether an error is about a path of the command line: itself, a folder above, or what a file stands above."""
    if not isinstance(error.filename, str):
        return False
    found = Path(error.filename).resolve()
    blocked = isinstance(error, NotADirectoryError)  # below a file
    named = [Path(word).resolve() for word in words]
    return any(path == found or found in path.parents or (blocked and path in found.parents) for path in named)


def described(folder: Path, names: Sequence[str]) -> list[list[str]]:
    """Name and first sentence of commands in a folder, read off their files, which are not imported."""
    rows = []
    for name in names:
        text = ast.get_docstring(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))) or ""
        sentence = " ".join(text.partition("\n\n")[0].replace("``", "").split())
        rows.append([name, sentence.partition(". ")[0].removesuffix(".")])
    return rows
