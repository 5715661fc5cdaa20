"""The survey: what stands in the store beside what is wanted, and the table of all outcomes, which it ends as.

Made before a build to plan it, after it to report.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.dataset.storage import arrow_source
from pipeline.dataset.store import Store
from pipeline.plan import ClipTask, Part, Pipeline
from schemas.outcome import REJECTED, Outcome

MAX_PARTS_AT_ONCE = 64  # enough parts to keep many workers busy ...
MAX_CLIPS_A_PART = 32  # ... few enough clips that a part is soon done and few enough files for a large data set
LEDGER_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("clip_id", "part", "stage", "fingerprint", "outcome", "reason", "detail")]
)


@dataclass
class Survey:
    """Every clip's way through the stages. ``waiting`` counts clips that an earlier stage may still reject, too."""

    parts: Sequence[Part]  # all of the build
    absent: Mapping[str, tuple[str, Outcome]]  # clips that no stage ever sees: id -> (what keeps it out, outcome)
    todo: list[Part] = field(default_factory=list)  # in which something is to be computed
    waiting: Counter[str] = field(default_factory=Counter)  # stage -> number of clips that it has to compute
    settled: Counter[str] = field(default_factory=Counter)  # stage -> number of clips with a row that is up to date
    published: dict[str, str] = field(default_factory=dict)  # clip id -> part, of clips that passed every stage
    missing: dict[str, tuple[str, Outcome]] = field(default_factory=dict)  # id -> (stage that stopped it, outcome)
    counts: Counter[tuple[str, str, str]] = field(
        default_factory=Counter
    )  # rows a (stage, outcome, reason of a reject)
    rows: list[tuple[str, str, str, Outcome]] = field(default_factory=list)  # the ledger: (clip id, part, stage, row)

    def ledger(self) -> list[dict[str, str]]:
        """The rows as the ledger's table has them."""
        said = ("fingerprint", "outcome", "reason", "detail")
        return [
            {"clip_id": clip_id, "part": part, "stage": stage, **{name: getattr(row, name) for name in said}}
            for clip_id, part, stage, row in sorted(self.rows, key=lambda entry: (entry[0], entry[1]))
        ]


def survey(
    store: Store, pipeline: Pipeline, parts: Sequence[Part], absent: Mapping[str, tuple[str, Outcome]]
) -> Survey:
    """Read the outcomes of all parts and follow every clip through the stages."""
    found = Survey(parts, absent)
    for part in parts:
        stored = {stage.name: store.read_outcomes(stage.name, part.name) for stage in pipeline.stages}
        unfinished = False
        for task in part.clips:
            unfinished |= _follow(found, pipeline, part, task, stored)
        if unfinished:
            found.todo.append(part)
    found.missing.update(absent)
    found.rows += [(clip_id, "", stage, row) for clip_id, (stage, row) in absent.items()]
    return found


def _follow(
    found: Survey, pipeline: Pipeline, part: Part, task: ClipTask, stored: dict[str, dict[str, Outcome]]
) -> bool:
    """Follow one clip; True if a stage has still to compute it."""
    clip_id, prints = task.row.clip_id, pipeline.fingerprints(task)
    waits = False
    for stage, rows in stored.items():
        row = rows.get(clip_id)
        if row is None or row.fingerprint != prints[stage]:
            waits = True
            found.waiting[stage] += 1
            continue
        found.settled[stage] += 1
        found.counts[stage, row.outcome, row.reason if row.outcome == REJECTED else ""] += 1
        found.rows.append((clip_id, part.name, stage, row))
        if not row.ok:
            if not waits:
                found.missing[clip_id] = (stage, row)
            return waits
    if not waits:
        found.published[clip_id] = part.name
    return waits


def assign_parts(store: Store, tasks: Sequence[ClipTask]) -> list[Part]:
    """The parts of a build. A clip keeps its part for ever; new clips form new parts, in order of their ids.

    The table ``ledger/parts.json`` remembers who is where, so that a clip more in the manifest moves no other.
    """
    path = store.ledger / "parts.json"
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    new = sorted(task.row.clip_id for task in tasks if task.row.clip_id not in known)
    if new:
        size = min(MAX_CLIPS_A_PART, -(-len(new) // MAX_PARTS_AT_ONCE))
        first = 1 + max((int(part.rpartition("-")[2]) for part in known.values()), default=-1)
        known |= {clip_id: f"part-{first + i // size:05d}" for i, clip_id in enumerate(new)}
        store.write_text(path, json.dumps(known, sort_keys=True, indent=0) + "\n")
    members: dict[str, list[ClipTask]] = {}
    for task in sorted(tasks, key=lambda task: task.row.clip_id):
        members.setdefault(known[task.row.clip_id], []).append(task)
    return [Part(name, tuple(clips)) for name, clips in sorted(members.items())]


def write_ledger(store: Store, rows: Sequence[Mapping[str, str]]) -> None:
    """The table of all outcomes, ``ledger/clips.parquet``: a row for every clip and stage that it reached."""
    with store.new_file(store.ledger / "clips.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=LEDGER_SCHEMA), temporary)


def read_ledger(store: Store) -> list[dict[str, str]]:
    """The rows of the table of all outcomes."""
    table = pq.read_table(arrow_source(store.ledger / "clips.parquet"), partitioning=None)
    return list(table.to_pylist())
