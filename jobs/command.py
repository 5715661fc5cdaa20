"""One way out of every command: what a person can mend becomes one line and exit status 2; anything else is a bug."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

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
            if not (is_machine_trouble(error) or isinstance(error, PermissionError)):
                raise
            print(f"error: {error}; what is finished is kept: mend it and run the same command again", file=sys.stderr)
        return 2

    return run
