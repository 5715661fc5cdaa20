"""The survey: what stands in the store beside what is wanted, and the table of all outcomes, which it ends as.

Made before a build to plan it, after it to report.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from pipeline.dataset.checksums import VERIFIED
from pipeline.dataset.storage import Location, arrow_source
from pipeline.dataset.store import Store
from pipeline.ledger.diary import read_diary
from pipeline.plan import ClipTask, Part, Pipeline
from schemas.outcome import REJECTED, Outcome

PARTS = "parts.json"
MAX_PARTS_AT_ONCE = 64  # enough parts to keep many workers busy ...
MAX_CLIPS_A_PART = 32  # ... few enough clips that a part is soon done and few enough files for a large data set
PACKED_ROWS, PACKED_A_GROUP = 2**16, 16  # rows of the ledger that are packed together, and such packs a row group
Entry = tuple[str, str, str, Outcome]  # of the ledger: clip id, part, stage, row
LEDGER_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("clip_id", "part", "stage", "fingerprint", "outcome", "reason", "detail")]
)


class Ledger:
    """The rows of a ledger in its order, packed: of a million clips and four stages they take 100 MB."""

    def __init__(self) -> None:
        self._packed: list[pa.Buffer] = []
        self._last: list[Entry] = []

    def add(self, entry: Entry) -> None:
        self._last.append(entry)
        if len(self._last) == PACKED_ROWS:
            self._pack()

    def clear(self) -> None:
        """Forget all rows."""
        self._packed.clear()
        self._last.clear()

    def __iter__(self) -> Iterator[pa.Table]:
        """The rows as the ledger's table has them, some at a time; one table at least."""
        if self._last or not self._packed:
            self._pack()
        return (pa.ipc.open_stream(packed).read_all() for packed in self._packed)

    def _pack(self) -> None:
        cells = [(id, part, stage, r.fingerprint, r.outcome, r.reason, r.detail) for id, part, stage, r in self._last]
        columns = zip(*cells, strict=True) if cells else [()] * len(LEDGER_SCHEMA)
        table = pa.table([pa.array(column, pa.string()) for column in columns], schema=LEDGER_SCHEMA)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, LEDGER_SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
        self._packed.append(sink.getvalue())
        self._last.clear()


@dataclass
class Survey:
    """Every clip's way through the stages. ``waiting`` counts clips that an earlier stage may still reject, too."""

    parts: Sequence[Part]  # all of the build
    absent: Mapping[str, tuple[str, Outcome]]  # clips that no stage ever sees: id -> (what keeps it out, outcome)
    todo: list[Part] = field(default_factory=list)  # in which something is to be computed
    waiting: Counter[str] = field(default_factory=Counter)  # stage -> number of clips that it has to compute
    frames: int = 0  # of the clips that stages have to compute, counted once for every stage
    settled: Counter[str] = field(default_factory=Counter)  # stage -> number of clips with a row that is up to date
    published: dict[str, str] = field(default_factory=dict)  # clip id -> part, of clips that passed every stage
    missing: dict[str, tuple[str, Outcome]] = field(default_factory=dict)  # id -> (stage that stopped it, outcome)
    counts: Counter[tuple[str, str, str]] = field(
        default_factory=Counter
    )  # rows a (stage, outcome, reason of a reject)
    told: list[tuple[str, str, Outcome]] = field(default_factory=list)  # (clip id, stage, row) of warnings
    ledger: Ledger = field(default_factory=Ledger)


def survey(
    store: Store, pipeline: Pipeline, parts: Sequence[Part], absent: Mapping[str, tuple[str, Outcome]]
) -> Survey:
    """Read the outcomes of all parts and follow every clip through the stages.

    Clips come in order of their ids, one part of every build at a time, and their rows leave memory packed.
    """
    found = Survey(parts, absent)
    ways: list[Iterator[Entry]] = [_follow_all(found, store, pipeline, run) for run in _rising(parts)]
    ways.append((clip_id, "", stage, row) for clip_id, (stage, row) in sorted(absent.items()))
    for entry in heapq.merge(*ways, key=itemgetter(0)):
        found.ledger.add(entry)
    found.todo.sort(key=lambda part: part.name)
    found.missing.update(absent)
    return found


def _rising(parts: Sequence[Part]) -> list[list[Part]]:
    """Parts in as few rows as builds have made them: in each the ids of the clips rise from part to part."""
    runs: list[list[Part]] = []
    for part in parts:
        if not runs or part.clips[0].row.clip_id < runs[-1][-1].clips[-1].row.clip_id:
            runs.append([])
        runs[-1].append(part)
    return runs


def _follow_all(found: Survey, store: Store, pipeline: Pipeline, parts: Sequence[Part]) -> Iterator[Entry]:
    for part in parts:
        stored = {stage.name: store.read_outcomes(stage.name, part.name) for stage in pipeline.stages}
        unfinished = False
        for task in part.clips:
            unfinished |= yield from _follow(found, pipeline, part, task, stored)
        if unfinished:
            found.todo.append(part)


def _follow(
    found: Survey, pipeline: Pipeline, part: Part, task: ClipTask, stored: dict[str, dict[str, Outcome]]
) -> Generator[Entry, None, bool]:
    """Follow one clip; returns True if a stage has still to compute it."""
    clip_id, prints = task.row.clip_id, pipeline.fingerprints(task)
    waits = False
    for stage, rows in stored.items():
        row = rows.get(clip_id)
        if row is None or row.fingerprint != prints[stage]:
            waits = True
            found.waiting[stage] += 1
            found.frames += task.row.num_frames
            continue
        found.settled[stage] += 1
        found.counts[stage, row.outcome, row.reason if row.outcome == REJECTED else ""] += 1
        if row.ok and row.reason:
            found.told.append((clip_id, stage, row))
        yield clip_id, part.name, stage, row
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
    path = store.ledger / PARTS
    known: dict[str, str] = store.read_json(path)
    new = sorted(task.row.clip_id for task in tasks if task.row.clip_id not in known)
    if new:
        size = min(MAX_CLIPS_A_PART, -(-len(new) // MAX_PARTS_AT_ONCE))
        first = 1 + max((int(part.rpartition("-")[2]) for part in known.values()), default=-1)
        known |= {clip_id: f"part-{first + i // size:05d}" for i, clip_id in enumerate(new)}
        _write_parts(store, known)
    members: dict[str, list[ClipTask]] = {}
    for task in sorted(tasks, key=lambda task: task.row.clip_id):
        members.setdefault(known[task.row.clip_id], []).append(task)
    return [Part(name, tuple(clips)) for name, clips in sorted(members.items())]


def restore_parts(store: Store) -> None:
    """Write ``ledger/parts.json`` as the table of all outcomes, the diaries and the files of columns tell it."""
    rows = read_ledger(store) if (store.ledger / "clips.parquet").is_file() else []
    known = {row["clip_id"]: row["part"] for row in rows if row["part"]}
    diaries: list[Location] = [*(store.ledger / "attempts").glob("*.jsonl")]
    for path in diaries:
        known |= {line["clip"]: path.stem for line in read_diary(path) if line["clip"]}
    for path in store.column_files():
        known |= dict.fromkeys(store.read_outcomes(path.parent.name, path.stem), path.stem)
    _write_parts(store, known)


def _write_parts(store: Store, known: Mapping[str, str]) -> None:
    store.write_text(store.ledger / PARTS, json.dumps(known, sort_keys=True, indent=0) + "\n")


def write_ledger(store: Store, tables: Iterable[pa.Table]) -> None:
    """The table of all outcomes, ``ledger/clips.parquet``: a row for every clip and stage that it reached."""
    rest = iter(tables)
    with (
        store.new_file(store.ledger / "clips.parquet") as temporary,
        pq.ParquetWriter(temporary, LEDGER_SCHEMA, write_page_checksum=True) as writer,
    ):
        while group := list(islice(rest, PACKED_A_GROUP)):
            table = pa.concat_tables(group).combine_chunks()
            del group  # a copy of 100 MB
            writer.write_table(table)


def read_ledger(store: Store) -> list[dict[str, str]]:
    """The rows of the table of all outcomes."""
    return list(ledger_table(store).to_pylist())


def ledger_table(store: Store) -> pa.Table:
    """The same as Arrow, which of a million clips and four stages takes 400 MB, where rows would take 4 GB."""
    return pq.read_table(arrow_source(store.ledger / "clips.parquet"), partitioning=None, **VERIFIED)
