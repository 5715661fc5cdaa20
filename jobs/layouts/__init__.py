"""Layouts in which others hold such data: reading them in, and writing data sets in them.

The registry is the folder listing: every file of ``jobs/layouts/`` holds one `Layout`, and all that is particular to
it. ``python -m jobs.import_data`` and ``python -m jobs.export_data`` know no layout by name.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pipeline.clock import FPS
from pipeline.dataset.storage import Location
from schemas.errors import UserError

Row = Mapping[str, Any]
Options = Mapping[str, Mapping[str, Any]]  # of a command line: name -> the words of `argparse`

FOLDER = Path(__file__).resolve().parent


@dataclass
class Moved:
    """What came in or went out, and a sentence for everything that did not."""

    clips: list[str] = field(default_factory=list)  # ids
    problems: list[str] = field(default_factory=list)
    next: str = ""  # the command to run now


class Layout:
    """A layout of other people's; a subclass says what it is and defines `read`, `write` or both.

    One clip's fault never stops the others: it becomes one of `Moved.problems`, and no file of that clip is left. What
    is wrong with the whole folder or data set is a `UserError`.
    """

    name: ClassVar[str]  # that of its file
    reads: ClassVar[str] = ""  # what a folder holds that can come in; empty: nothing does
    writes: ClassVar[str] = ""  # what goes out; empty: nothing does
    loses: ClassVar[str] = "nothing"  # of a data set, what it cannot hold
    space: ClassVar[str] = (
        ""  # whose coefficients it means, a name of `jobs.layouts.motion.spaces`; empty: it holds none
    )
    fps: ClassVar[int] = FPS  # of its rows, its sound's frames and its videos; where 30, the clips' own clock
    read_options: ClassVar[Options] = {}
    write_options: ClassVar[Options] = {}
    to_folder: ClassVar[bool] = True  # whether `write` wants a folder

    def read(self, folder: Path, out: Path, **options: Any) -> Moved:
        """Write into ``out`` what a folder of this layout holds: a manifest to build, or a data set."""
        raise NotImplementedError

    def write(self, dataset: Location, out: Path, **options: Any) -> Moved:
        """Write a data set into the folder ``out``."""
        raise NotImplementedError


def find_layouts() -> dict[str, Layout]:
    """All layouts of the folder, by name."""
    return {path.stem: _layout(path.stem) for path in sorted(FOLDER.glob("[a-z]*.py"))}


def layouts_in() -> dict[str, Layout]:
    """Those that can be read."""
    return {name: layout for name, layout in find_layouts().items() if layout.reads}


def layouts_out() -> dict[str, Layout]:
    """Those that can be written."""
    return {name: layout for name, layout in find_layouts().items() if layout.writes}


def chosen(name: str, layouts: Mapping[str, Layout]) -> Layout:
    """The layout of a name; `UserError` that lists them for another name."""
    if name not in layouts:
        raise UserError(f"--layout {name}: known: {', '.join(layouts)}")
    return layouts[name]


def options_adder(options: Mapping[str, Options]) -> Callable[[argparse.ArgumentParser], None]:
    """Adds the options of all layouts, given by layout, to a parser; those that share one share its words."""

    def add(parser: argparse.ArgumentParser) -> None:
        for name, words in {name: words for own in options.values() for name, words in own.items()}.items():
            parser.add_argument(name, **words)

    return add


def options_of(layout: str, given: argparse.Namespace, options: Mapping[str, Options]) -> dict[str, Any]:
    """The options of a layout as given, by parameter; `UserError` if one of another layout was given."""
    found = {}
    for option in sorted({option for own in options.values() for option in own}):
        parameter = option.removeprefix("--").replace("-", "_")
        value = getattr(given, parameter)
        if option in options[layout]:
            found[parameter] = value
        elif value:
            owners = ", ".join(name for name, own in options.items() if option in own)
            raise UserError(f"{option}: found with --layout {layout}, allowed: only with {owners}; leave it out")
    return found


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder whose files come to their places below ``out`` when the block ends without an error; else none does."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".tmp-") as name:
        folder = Path(name)
        yield folder
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            target = out / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)


def write_each(rows: Iterable[Row], out: Path, write: Callable[[Path, Row], object]) -> Moved:
    """Write every clip into a folder of its own that is `staged`; a `UserError` is that clip's problem alone."""
    moved = Moved()
    for row in rows:
        try:
            with staged(out) as folder:
                write(folder, row)
            moved.clips.append(row["clip_id"])
        except UserError as error:
            moved.problems.append(f"{row['clip_id']}: {error}")
    return moved


def _layout(name: str) -> Layout:
    module = importlib.import_module(f"{__name__}.{name}")
    (kind,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Layout) and value.__module__ == module.__name__
    )
    kind.name = name
    layout: Layout = kind()
    return layout
