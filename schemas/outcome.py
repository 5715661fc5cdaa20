"""The ledger: what happened to every clip in every stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

OK, REJECTED, FAILED, CRASHED = "ok", "rejected", "failed", "crashed"
TIMED_OUT, OUT_OF_MEMORY = "timed_out", "out_of_memory"
OUTCOMES = {
    OK: "the stage computed its columns; a reason is one of its warnings, or why the clip was asked alone",
    REJECTED: "the clip cannot be used; the reason is one of the stage's own",
    FAILED: "the stage raised an error, which is a bug in the stage or its model",
    CRASHED: "the worker process died on this clip as often as it was tried",
    TIMED_OUT: "the stage took longer than its limit as often as it was tried",
    OUT_OF_MEMORY: "the stage wanted more memory than its limit, or than there was",
}

OUTCOME_FIELDS = (
    pa.field("clip_id", pa.string()),
    pa.field("fingerprint", pa.string()),
    pa.field("outcome", pa.string()),
    pa.field("reason", pa.string()),
    pa.field("detail", pa.string()),
)
"""The leading columns of every column file, so that data and outcome become visible in one rename."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one stage said of one clip. ``values`` holds its columns when ``outcome`` is ok and they were loaded."""

    clip_id: str
    fingerprint: str
    outcome: str = OK
    reason: str = ""
    detail: str = ""
    values: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def ok(self) -> bool:
        return self.outcome == OK

    def last_line(self) -> str:
        """The last line of the detail, which of a traceback is the error itself."""
        return (self.detail.strip().splitlines() or [""])[-1]
