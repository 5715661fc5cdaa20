"""Describe stages, listeners and metrics from their code: ``python -m jobs.describe``; ``--write`` renews docs/.

A document has its tables between two markers; the tests compare them with the code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.command import command
from jobs.describing.listeners import listeners_markdown
from jobs.describing.metrics import metrics_markdown
from jobs.describing.stages import stages_markdown

DOCS = Path(__file__).resolve().parent.parent / "docs"
TOPICS = {"stages": stages_markdown, "listeners": listeners_markdown, "metrics": metrics_markdown}
BEGIN, END = "<!-- begin: python -m jobs.describe {topic} -->", "<!-- end -->"


def renew(text: str) -> str:
    """A document with the parts between markers made anew."""
    for topic, tables in TOPICS.items():
        begin = BEGIN.format(topic=topic)
        if begin in text:
            head, _, rest = text.partition(begin)
            text = f"{head}{begin}\n\n{tables()}\n\n{END}{rest.partition(END)[2]}"
    return text


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m jobs.describe", description="Describe the project's parts.")
    parser.add_argument("topics", nargs="*", help=f"{', '.join(TOPICS)}; default: all")
    parser.add_argument("--write", action="store_true", help="renew the tables in docs/ instead of printing them")
    options = parser.parse_args(arguments)
    if unknown := set(options.topics) - set(TOPICS):
        parser.error(f"nothing to describe under {', '.join(sorted(unknown))}; there are {', '.join(TOPICS)}")
    if not options.write:
        print("\n\n".join(TOPICS[topic]() for topic in options.topics or TOPICS))
        return 0
    for document in sorted(DOCS.glob("*.md")):
        document.write_text(renew(document.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
