"""The documents beside the README say what the code says."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name

from jobs.describe import BEGIN, TOPICS, metrics_markdown, renew
from pipeline.sources.availability import OUTCOMES
from pipeline.weights import registry
from stages.evaluate.metrics.registry import definitions

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = (*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")))
PATH = re.compile(r"`((?:schemas|pipeline|stages|manifests|jobs|tests|docs)/[\w./]*\w(?:\.\w+)?/?)(?:::\w+)?`")


def test_the_tables_of_the_documents_are_those_of_the_code() -> None:
    documents = [path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")]
    assert all(any(BEGIN.format(topic=topic) in text for text in documents) for topic in TOPICS)
    assert all(renew(text) == text for text in documents), "renew them: python -m jobs.describe --write"


def test_every_metric_stands_in_both_tables() -> None:
    rows = [line for line in metrics_markdown().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == 2 * list(definitions())
    assert len({row.replace("\\|", "").count("|") for row in rows[: len(definitions())]}) == 1


def test_own_metrics_that_the_document_names_are_not_published() -> None:
    for name in ("identity_cosine_3dmm", "lmd_lips_facemesh", "diversity_fitted_angle"):
        assert name in (DOCS / "metrics.md").read_text() and not definitions()[name].published_as


def test_every_class_of_availability_is_explained_in_its_own_words() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", (DOCS / "sources.md").read_text(), re.MULTILINE))
    plain = {name: meaning.partition(": python -m")[0] for name, meaning in OUTCOMES.items()}
    assert {name: meaning.replace("`", "") for name, meaning in rows.items()} == plain


def test_weights_that_the_documents_fetch_are_registered_and_jobs_that_they_run_exist() -> None:
    text = "".join(path.read_text() for path in DOCS.rglob("*.md"))
    named = {name for line in re.findall(r"jobs\.weights fetch ([\w ]+)", text) for name in line.split()}
    assert named and named <= set(registry())
    jobs = set(re.findall(r"python -m (jobs\.[\w.]*\w)", text))
    assert jobs and all(find_spec(job) for job in jobs)


def test_every_page_is_linked_from_the_readme_and_every_link_leads_to_a_file() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"(docs/{path.name})" in readme for path in DOCS.glob("*.md"))
    papers = (DOCS / "papers.md").read_text(encoding="utf-8")
    assert all(f"(papers/{path.name})" in papers for path in (DOCS / "papers").glob("*.md"))


def test_files_folders_and_names_of_the_code_that_the_pages_use_exist() -> None:
    for page in PAGES:
        for path in PATH.findall(page.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), f"{page.name}: {path}"
        for name in re.findall(r"`((?:schemas|pipeline|stages)\.[\w.]*\w)", page.read_text(encoding="utf-8")):
            assert resolve_name(name) is not None, f"{page.name}: {name}"
