"""Measuring speech: the error count against known cases, and the tables in the docs against a new measurement."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.study.measure_speech import measure, plain_words, recordings, renew, table, word_errors
from pipeline.weights import WeightsError, resolve_all
from stages.asr import Asr

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "speech.md"


@pytest.mark.parametrize(
    ("reference", "heard", "errors"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "a x c", 1),
        ("a b c", "a c", 1),
        ("a b c", "a b b c", 1),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("the cat sat on the mat", "cat sat in a mat", 3),
    ],
)
def test_errors_are_the_least_number_of_edits(reference: str, heard: str, errors: int) -> None:
    assert word_errors(reference.split(), heard.split()) == errors


def test_words_are_compared_without_case_and_signs() -> None:
    assert plain_words("Ask not, Mister Smith's country!") == ("ask", "not", "mr", "smith's", "country")


def test_the_table_of_one_recogniser_is_renewed_and_nothing_else() -> None:
    text = "a <!-- begin: x -->old<!-- end --> b <!-- begin: y -->kept<!-- end -->"
    assert renew(text, "x", "new") == "a <!-- begin: x -->\n\nnew\n\n<!-- end --> b <!-- begin: y -->kept<!-- end -->"


@pytest.mark.shared
def test_the_docs_hold_the_word_error_rate_that_is_measured(shared: Path) -> None:
    stage = Asr()
    try:
        resolve_all(stage.weights())
    except WeightsError as error:
        pytest.skip(f"the package with the weights is gone: {error}")
    stage.setup("cpu")
    scores = measure(stage, shared / "media/c_speech")
    assert [score.recording.name for score in scores] == [r.name for r in recordings(shared / "media/c_speech")]
    print(table(scores))
    (documented,) = re.findall(r"ctranslate2 tiny.en -->.*?word error rate ([\d.]+)%", DOCUMENT.read_text(), re.DOTALL)
    measured = sum(score.errors for score in scores) / sum(len(score.recording.words) for score in scores)
    # Another processor rounds otherwise and may hear a word or two otherwise.
    assert 100 * measured == pytest.approx(float(documented), abs=4), "python -m jobs.study.measure_speech --write"
