"""The ledger's files: which part a clip belongs to, every attempt of every stage, and the table of all outcomes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.object_storage import Location, arrow_source
from pipeline.plan import ClipTask, Part
from pipeline.store import Store, append_text

MAX_PARTS_AT_ONCE = 64  # enough parts to keep many workers busy ...
MAX_CLIPS_A_PART = 32  # ... few enough clips that a part is soon done and few enough files for a large data set


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


@dataclass(frozen=True)
class Attempts:
    """The diary of one part: a line before and a line after a stage works on a clip.

    The line before is on the disk when a worker process dies, so that a clip that kills its worker is found out.
    """

    path: Location
    run_id: str

    def start(self, stage: str, clip_id: str) -> None:
        self._append({"event": "start", "stage": stage, "clip": clip_id})

    def end(self, stage: str, clip_id: str, outcome: str, seconds: float) -> None:
        self._append(
            {"event": "end", "stage": stage, "clip": clip_id, "outcome": outcome, "seconds": round(seconds, 4)}
        )

    def unfinished(self) -> Counter[tuple[str, str]]:
        """How often a (stage, clip) of this run was started and never ended."""
        count: Counter[tuple[str, str]] = Counter()
        for line in self._lines():
            if line.get("run") == self.run_id:
                count[line["stage"], line["clip"]] += 1 if line["event"] == "start" else -1
        return count

    def _append(self, event: dict[str, Any]) -> None:
        append_text(self.path, json.dumps({"run": self.run_id, **event}) + "\n")

    def _lines(self) -> Iterable[dict[str, Any]]:
        if not self.path.is_file():
            return
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(text)
            except json.JSONDecodeError:  # the last line of a worker that was killed while it wrote
                continue


def attempts_of(store: Store, part: str, run_id: str) -> Attempts:
    """The diary of a part."""
    return Attempts(store.ledger / "attempts" / f"{part}.jsonl", run_id)


LEDGER_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("clip_id", "part", "stage", "fingerprint", "outcome", "reason", "detail")]
)


def write_ledger(store: Store, rows: Sequence[Mapping[str, str]]) -> None:
    """The table of all outcomes, ``ledger/clips.parquet``: a row for every clip and stage that it reached."""
    with store.new_file(store.ledger / "clips.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=LEDGER_SCHEMA), temporary)


def read_ledger(store: Store) -> list[dict[str, str]]:
    """The rows of the table of all outcomes."""
    rows: list[dict[str, str]] = pq.read_table(
        arrow_source(store.ledger / "clips.parquet"), partitioning=None
    ).to_pylist()
    return rows
