"""The tables of the metrics."""

from __future__ import annotations

from pathlib import Path

from jobs.describe import metrics_markdown
from stages.evaluate.metrics.registry import definitions

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def test_every_metric_stands_in_both_tables() -> None:
    rows = [line for line in metrics_markdown().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == 2 * list(definitions())
    assert len({row.replace("\\|", "").count("|") for row in rows[: len(definitions())]}) == 1


def test_own_metrics_that_the_document_names_are_not_published() -> None:
    for name in ("identity_cosine_3dmm", "lmd_lips_facemesh", "diversity_fitted_angle"):
        assert name in DOCUMENT.read_text() and not definitions()[name].published_as
