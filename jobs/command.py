"""One way out of every command, what a person can mend as one line and exit status 2; and the list of them all."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.attempt import is_machine_trouble
from schemas.errors import UserError

Main = Callable[[Sequence[str] | None], int]


def command(main: Main) -> Callable[..., int]:
    """Decorates a command's ``main``, which takes the words of its command line and returns the exit status."""

    @functools.wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        try:
            return main(arguments)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
        except OSError as error:
            if is_machine_trouble(error) or isinstance(error, PermissionError):
                message = f"{error}; what is finished is kept: mend it and run the same command again"
            elif _is_named(error, sys.argv[1:] if arguments is None else arguments):
                message = f"{error.filename}: {error.strerror}; name another place, --help says what is expected"
            else:
                raise
            print(f"error: {message}", file=sys.stderr)
        return 2

    return run


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
