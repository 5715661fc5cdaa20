"""The documents beside the README say what the code says."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from jobs.describe import BEGIN, TOPICS, renew
from pipeline.sources.availability import OUTCOMES
from pipeline.weights import registry

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_the_tables_of_the_documents_are_those_of_the_code() -> None:
    documents = [path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")]
    assert all(any(BEGIN.format(topic=topic) in text for text in documents) for topic in TOPICS)
    assert all(renew(text) == text for text in documents), "renew them: python -m jobs.describe --write"


def test_every_class_of_availability_is_explained_in_its_own_words() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", (DOCS / "sources.md").read_text(), re.MULTILINE))
    plain = {name: meaning.partition(": python -m")[0] for name, meaning in OUTCOMES.items()}
    assert {name: meaning.replace("`", "") for name, meaning in rows.items()} == plain


def test_weights_that_the_documents_fetch_are_registered() -> None:
    text = "".join(path.read_text() for path in DOCS.glob("*.md"))
    named = {name for line in re.findall(r"jobs\.weights fetch ([\w ]+)", text) for name in line.split()}
    assert named and named <= set(registry())


def test_jobs_that_the_documents_run_exist() -> None:
    text = "".join(path.read_text() for path in DOCS.glob("*.md"))
    jobs = set(re.findall(r"python -m (jobs\.[\w.]*\w)", text))
    assert jobs and all(find_spec(job) for job in jobs)
