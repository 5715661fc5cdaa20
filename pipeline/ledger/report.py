"""What a build says when it ends: the run table, the clips that are missing, ``report.json``."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from pipeline.clock import seconds_of
from pipeline.dataset.store import Store
from pipeline.ledger.survey import Survey
from pipeline.manifest.load import Manifest
from pipeline.part import Done
from pipeline.plan import Pipeline
from pipeline.tables import aligned
from schemas.outcome import OK, REJECTED

REPORT = "report.json"
WARNED_CLIPS = 5  # named a warning


class RunReport:
    """What one build did, stage by stage, and where the data set stands now."""

    def __init__(self, manifest: Manifest, pipeline: Pipeline, before: Survey) -> None:
        self.manifest = manifest
        self.pipeline = pipeline
        self.after = before
        self.computed: Counter[str] = Counter()  # stage -> clips
        self._seconds: dict[str, float] = defaultdict(float)
        self._frames: Counter[str] = Counter()
        self.shards = 0
        self.shards_written = 0
        self.started = time.monotonic()

    def add(self, done: Sequence[Done]) -> None:
        """Take in the work on one part."""
        for entry in done:
            self.computed[entry.stage] += 1
            self._seconds[entry.stage] += entry.seconds
            self._frames[entry.stage] += entry.num_frames

    @property
    def yield_share(self) -> float:
        """Published clips per clip of the manifest."""
        return len(self.after.published) / len(self.manifest.clips)

    @property
    def enough(self) -> bool:
        """Whether the yield reaches the manifest's ``min_yield``."""
        return self.yield_share >= self.manifest.min_yield

    def rows(self) -> list[dict[str, Any]]:
        """A row a stage: state of its clips, and cost of those computed now."""
        return [self._row(stage.name) for stage in self.pipeline.stages]

    def _row(self, stage: str) -> dict[str, Any]:
        outcomes: Counter[str] = Counter()
        reasons: dict[str, int] = {}
        for (name, outcome, reason), count in sorted(self.after.counts.items()):
            if name == stage:
                outcomes[outcome] += count
                reasons |= {reason: count} if outcome == REJECTED else {}
        seconds, frames = self._seconds[stage], self._frames[stage]
        return {
            "stage": stage,
            "ok": outcomes[OK],
            "rejected": outcomes[REJECTED],
            "reasons": reasons,
            "failed": outcomes.total() - outcomes[OK] - outcomes[REJECTED],
            "failures": {name: count for name, count in outcomes.items() if name not in (OK, REJECTED)},
            "computed": self.computed[stage],
            "seconds": round(seconds, 2),
            "frames_per_s": round(frames / seconds, 1) if seconds else None,
            "times_real_time": round(float(seconds_of(frames)) / seconds, 2) if seconds else None,
        }

    def table(self) -> str:
        """The run table that a build ends with."""
        return run_table(self.rows())

    def missing_lines(self) -> list[str]:
        """One line for every clip that is not in the data set: where it stopped and why."""
        lines = []
        for clip_id, (stage, row) in sorted(self.after.missing.items()):
            detail = row.last_line()
            lines.append(f"  {clip_id}: {row.outcome} by {stage}: {row.reason}" + (f" ({detail})" if detail else ""))
        return lines

    def summary(self) -> str:
        """The last lines of a build."""
        published, wanted = len(self.after.published), len(self.manifest.clips)
        shards = f"{self.shards} shards ({self.shards_written} written)" if self.shards else "no shards"
        lines = [f"{published} of {wanted} clips published in {shards}, {time.monotonic() - self.started:.1f} s"]
        lines += [*self._failed_batches(), *self._warnings()]
        if not self.enough:
            short = f"yield {self.yield_share:.2f} is under the manifest's min_yield {self.manifest.min_yield:.2f}"
            lines.append(f"{short}: see the clips above, or lower min_yield")
        return "\n".join(lines)

    def _failed_batches(self) -> list[str]:
        """A line for every way in which batches of a stage failed whose clips it could then compute alone."""
        known = self._known_warnings()
        told = Counter((stage, row.reason) for _, stage, row in self.after.told)
        alone = {key: count for key, count in told.items() if key not in known}
        return [
            f"warning: {stage} computed {count} clips one by one, which is slow, because their batches failed: "
            f"{reason} (traceback: column `detail` of ledger/clips.parquet)"
            for (stage, reason), count in alone.items()
        ]

    def _warnings(self) -> list[str]:
        """A line for every warning of a stage, with the first clips that it is about."""
        about: dict[tuple[str, str], list[str]] = {}
        known = self._known_warnings()
        for clip_id, stage, row in self.after.told:
            if (stage, row.reason) in known:
                about.setdefault((stage, row.reason), []).append(f"{clip_id} ({row.detail})")
        return [
            f"warning: {stage}: {reason} in {len(clips)} clips: {'; '.join(sorted(clips)[:WARNED_CLIPS])}"
            + (" ... (all: ledger/clips.parquet)" if len(clips) > WARNED_CLIPS else "")
            for (stage, reason), clips in sorted(about.items())
        ]

    def _known_warnings(self) -> set[tuple[str, str]]:
        return {(stage.name, reason) for stage in self.pipeline.stages for reason in stage.warnings}

    def write(self, store: Store, run_id: str, words: Sequence[str]) -> None:
        """``report.json``: the same for programs."""
        content = {
            "run_id": run_id,
            "words": list(words),
            "seconds": round(time.monotonic() - self.started, 2),
            "published": len(self.after.published),
            "wanted": len(self.manifest.clips),
            "min_yield": self.manifest.min_yield,
            "stages": self.rows(),
            "shards": self.shards,
            "shards_written": self.shards_written,
        }
        store.write_text(store.root / REPORT, json.dumps(content, indent=1) + "\n")


def run_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of `RunReport.rows`, as ``report.json`` has them too, for people."""
    table = [["stage", "ok", "rejected", "failed", "computed", "seconds", "frames/s", "x real time"]]
    for row in rows:
        counts = [str(row[key]) for key in ("ok", "rejected", "failed")]
        computed = [str(row["computed"]), f"{row['seconds']:.1f}"] if row["computed"] else ["up to date", ""]
        pace = [(row["frames_per_s"], ".0f"), (row["times_real_time"], ".1f")]
        table.append([row["stage"], *counts, *computed, *(f"{speed:{form}}" if speed else "" for speed, form in pace)])
    return aligned(table)


def plan_table(pipeline: Pipeline, found: Survey) -> str:
    """What a build would do: ``--plan``."""
    rows = [["stage", "version", "up to date", "to do", "cpus", "gpus", "writes"]]
    for stage in pipeline.stages:
        counts = (stage.version, found.settled[stage.name], found.waiting[stage.name])
        wishes = (f"{stage.cpus():g}", f"{pipeline.gpu.share_of(stage):g}")
        names = ", ".join(column.name for column in pipeline.written[stage.name])
        rows.append([stage.name, *map(str, counts), *wishes, names])
    return aligned(rows)
