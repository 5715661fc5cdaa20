"""What became of every clip, by stage: the funnel, and the clips that were turned down with their reasons.

From the ledger of a build that has ended, or from the stages' column files of one that has not. Columns of Arrow
throughout: a ledger of 100,000 clips has a million rows, of which only those of clips that fell out become Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.viewer.opened import Opened, is_withdrawn, stamp_of
from pipeline.dataset.read import read_plain
from pipeline.dataset.storage import Location
from pipeline.ledger.diary import attempts_of
from pipeline.ledger.progress import RunStart
from pipeline.ledger.survey import LEDGER_SCHEMA
from pipeline.sources.takedown import KEYS, takedown_ids
from schemas.errors import UserError
from schemas.outcome import OK, REJECTED

NAMES = ("clip_id", "stage", "outcome", "reason", "detail")
LEDGER = "clips.parquet"


@dataclass(frozen=True)
class Step:
    """What a stage said of the clips that reached it."""

    stage: str
    ok: int
    stopped: tuple[tuple[str, str, int], ...]  # (outcome, reason, clips), most first

    def to_json(self) -> dict[str, Any]:
        """Plain values; a reason of a failure is an error's words, so those stand together."""
        stopped = [{"outcome": outcome, "reason": reason, "clips": clips} for outcome, reason, clips in self.stopped]
        return {"stage": self.stage, "ok": self.ok, "stopped": stopped}


class Outcomes:
    """The outcomes of one data set. Column files are read again only where they have changed."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self._files: dict[Location, tuple[Any, pa.Table]] = {}
        self._ledger: tuple[Any, pa.Table] = (None, LEDGER_SCHEMA.empty_table())

    def table(self) -> pa.Table:
        """A row for every clip and stage that it reached, `NAMES`."""
        path = self.opened.store.ledger / LEDGER
        if path.is_file() and not self.opened.is_building:
            stamp = stamp_of(path)
            if self._ledger[0] != stamp:
                self._ledger = (stamp, read_plain(path, NAMES))
            return self._ledger[1]
        return pa.concat_tables([LEDGER_SCHEMA.empty_table().select(NAMES), *self._of_files()])

    def _of_files(self) -> list[pa.Table]:
        tables = []
        for path in self.opened.store.column_files():
            stamp = stamp_of(path)
            if self._files.get(path, (None,))[0] != stamp:
                try:
                    found = read_plain(path, [name for name in NAMES if name != "stage"])
                except UserError:  # it went while a build replaced it
                    continue
                stage = pa.array([path.parent.name] * found.num_rows, pa.string())
                self._files[path] = (stamp, found.append_column("stage", stage).select(NAMES))
            tables.append(self._files[path][1])
        return tables

    def funnel(self) -> list[Step]:
        """The stages in order, with the clips that each let by and stopped."""
        table = self.table()
        counts = table.group_by(["stage", "outcome", "reason"]).aggregate([([], "count_all")]).to_pylist()
        steps = []
        for stage in self._order({row["stage"] for row in counts}):
            rows = [row for row in counts if row["stage"] == stage]
            ok = sum(row["count_all"] for row in rows if row["outcome"] == OK)
            stopped = [(row["outcome"], row["reason"], row["count_all"]) for row in rows if row["outcome"] != OK]
            steps.append(Step(stage, ok, tuple(sorted(stopped, key=lambda one: (-one[2], one[1])))))
        return steps

    def _order(self, stages: set[str]) -> list[str]:
        """Stages in the order of the pipeline; what never reached one stands first, a stage unknown to it last."""
        start = RunStart.read(self.opened.store)
        order = list(start.waiting) if start else list(self.opened.description.stages)
        early = sorted(stages - {*order, *self.opened.description.stages})
        return [*early, *(stage for stage in order if stage in stages)]

    def rejects(self) -> dict[str, list[Any]]:
        """``/api/rejects``: the clips that are not in the data set, without those that were withdrawn."""
        table = self.table()
        out = table.filter(pc.not_equal(table["outcome"], OK))
        gone, said = takedown_ids(self.opened.root), self.opened.missing
        if gone:
            rows = [
                dict.fromkeys(KEYS) | {"clip_id": one, "source_id": said.get(one)} for one in out["clip_id"].to_pylist()
            ]
            kept = [not is_withdrawn(row, gone) for row in rows]
            out = out.filter(pa.array(kept, pa.bool_()))
        names = {"clip_id": "clip_id", "stage": "stage", "kind": "outcome", "reason": "reason", "detail": "detail"}
        columns = {key: out[name].to_pylist() for key, name in names.items()}
        return {**columns, "source": [said.get(clip_id, "") for clip_id in columns["clip_id"]]}

    def frames_of(self, clip_id: str) -> list[int]:
        """The frames that the diary of its part names where a stage turned a clip down."""
        stopped = [row["stage"] for row in self.of_clip(clip_id) if row["outcome"] == REJECTED]
        if not stopped or clip_id not in self.opened.parts:
            return []
        return attempts_of(self.opened.store, self.opened.parts[clip_id], "").frames_of(stopped[0], clip_id)

    def of_clip(self, clip_id: str) -> list[dict[str, str]]:
        """What the stages said of one clip, a row a stage."""
        table = self.table()
        rows = table.filter(pc.equal(table["clip_id"], clip_id)).to_pylist()
        return [{key: row[key] for key in NAMES[1:]} for row in rows]
