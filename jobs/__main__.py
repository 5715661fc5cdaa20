"""List the commands in the order in which one needs them: ``python -m jobs``."""

from __future__ import annotations

from pathlib import Path

from jobs.command import described
from pipeline.tables import aligned

COMMANDS = (
    *("setup", "make_demo", "import_data", "download", "mine", "weights", "annotate", "consolidate"),  # before a build
    *("build", "status", "retry", "check", "repair", "view", "preview", "subset", "export_data"),  # a data set
    *("train", "predict", "render", "reextract", "evaluate", "respond", "train_renderer"),  # listeners
    "describe",
)


def main() -> None:
    """Print the list."""
    print("python -m jobs.<name>, --help says more:\n")
    print(aligned(described(Path(__file__).parent, COMMANDS)))
    print("\nMeasurements and studies, which no build needs: python -m jobs.bench, python -m jobs.study")


if __name__ == "__main__":
    main()
