"""How labels came about, where people voted on them: the report of `jobs.consolidate` beside the table of clips.

A build carries the report along and has it on the dataset card. The report knows the hash of the table that was
written with it, so that a table that somebody edited later does not pass for what people voted.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from pipeline.dataset.storage import text_of
from pipeline.dataset.store import Store
from pipeline.manifest.clips_csv import MAX_CSV_BYTES
from pipeline.manifest.load import Manifest
from pipeline.tables import markdown_table
from schemas.agreement import FILE, Agreement, BoundaryAgreement, Interval
from schemas.errors import UserError

MAX_REPORT_BYTES = 2**24


@dataclass(frozen=True)
class Labels:
    """The report, and whether the table of clips is still the one that was written with it."""

    text: str  # as it is carried along
    agreement: Agreement
    as_voted: bool


def read_labels(manifest: Manifest) -> Labels | None:
    """The report that lies beside the manifest's table of clips; None where there is none.

    `UserError` for a file of its name that is no report.
    """
    path = manifest.clips_file.parent / FILE
    if not path.is_file():
        return None
    text = text_of(path, MAX_REPORT_BYTES)
    try:
        agreement = Agreement.of_json(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: no report of agreement: {type(error).__name__}: {error}; remove it, or write it again: "
            "python -m jobs.consolidate MANIFEST --out FOLDER"
        ) from None
    table = text_of(manifest.clips_file, MAX_CSV_BYTES)
    return Labels(text, agreement, hashlib.sha256(table.encode()).hexdigest() == agreement.clips_sha256)


def carry_labels(store: Store, labels: Labels | None) -> None:
    """Have a data set hold the report, or none that it held before."""
    copy = store.root / FILE
    if labels is not None:
        store.write_text(copy, labels.text)
    elif copy.is_file():
        copy.unlink()


def labels_blocks(labels: Labels | None) -> list[str]:
    """The card's part on labels; nothing where nobody voted."""
    if labels is None:
        return []
    found = labels.agreement
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in found.outcomes.items() if number)
    blocks = [
        "## Labels",
        f"{found.annotators} annotators judged the clips without seeing labels or each other's votes, "
        f"{found.fewest_votes} votes or more a clip, {found.votes} in all. More than half decides; a tie is "
        f"adjudicated (rule `{found.tie_rule}`), as {found.adjudicated} clips were. Of the clips judged: {outcomes}.",
        questions_table(found),
        "Alpha is Krippendorff's (in brackets 95 % of drawings of sources), AC1 Gwet's. "
        + boundaries_text(found.boundaries),
    ]
    if not labels.as_voted:
        blocks.append("The table of clips was edited after the votes were counted.")
    return blocks


def questions_table(found: Agreement) -> str:
    """Agreement, a row a question."""
    head = ["question", "clips", "alpha", "alpha, ordinal", "AC1", "unanimous", "same when asked twice"]
    rows = [
        [q.name, str(q.clips), _with_range(q.alpha), _with_range(q.ordinal) if q.ordered else "", shown(q.ac1)]
        + [shown(q.unanimous), f"{q.repeated_same} of {q.repeated}" if q.repeated else "not asked"]
        for q in found.questions
    ]
    return markdown_table(head, rows)


def boundaries_text(found: BoundaryAgreement | None) -> str:
    """Agreement on times, in a sentence."""
    if found is None:
        return "No two people gave times of the same clip."
    return (
        f"Times, {found.pairs} pairs of answers: first frames {found.first_frame:.1f} apart in the mean, last frames "
        f"{found.last_frame:.1f}, at most {found.largest}; overlap (intersection over union) {found.overlap:.3f}."
    )


def shown(value: float | None) -> str:
    """A number for people; one that is not defined says so."""
    return "undefined" if value is None else f"{value:.3f}"


def _with_range(found: Interval | None) -> str:
    if found is None:
        return shown(None)
    if found.low is None or found.high is None:
        return shown(found.value)
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
