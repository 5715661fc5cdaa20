"""Where Ray is: the option ``--address`` of the commands that use it. Knows nothing of Ray, as they may run without."""

from __future__ import annotations

import argparse
import os


def add_address(parser: argparse.ArgumentParser, also: str = "") -> None:
    """Add ``--address``, what `pipeline.run.connect` takes; ``also`` ends its help."""
    parser.add_argument(
        "--address",
        default="auto" if os.environ.get("RAY_ADDRESS") else "local",
        help=f"Ray cluster: local (default), auto, or ray://host:port{also}",
    )
