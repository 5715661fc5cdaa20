"""List the studies: ``python -m jobs.study``."""

from __future__ import annotations

from pathlib import Path

from jobs.command import described
from pipeline.tables import aligned

FOLDER = Path(__file__).parent
STUDIES = tuple(path.stem for path in sorted(FOLDER.glob("[!_]*.py")))


def main() -> None:
    """Print the list."""
    print("python -m jobs.study.<name>, --help says more:\n")
    print(aligned(described(FOLDER, STUDIES)))


if __name__ == "__main__":
    main()
