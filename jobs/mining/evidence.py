"""What is said of every span: ``evidence.parquet``, a row a span, and the funnel, which adds them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.mining import reasons
from jobs.mining.spans import Span
from pipeline.clock import Span as Times
from pipeline.clock import seconds_of
from pipeline.manifest.clips_csv import clip_id_for
from pipeline.tables import aligned
from schemas.clip import SIDES

TURNS_SUFFIX = "-turns"  # of the id of a clip of turns, which may begin and end in the same seconds as one of its turns
MEASURES = {
    "voiced": "share of frames in which somebody is heard",
    "lead": "mean lead of the speaker's score over the listener's in these frames",
    "leading": "share of these frames in which the speaker's score is the higher",
    **{f"{side}_face_px": f"median side of the {side} face" for side in SIDES},
    **{f"{side}_yaw_deg": f"largest angle by which the {side} face is turned to the side" for side in SIDES},
    **{f"{side}_seen": f"share of frames in which the {side} face is found" for side in SIDES},
}
TURNS_MEANING = "of a clip of turns: start and end in its frames, and who speaks: 0 speaker, 1 listener"
SCHEMA = pa.schema(
    [
        pa.field("source_id", pa.string(), metadata={"meaning": "the film"}),
        pa.field("start_s", pa.float64(), metadata={"meaning": "start of the span in the film"}),
        pa.field("end_s", pa.float64(), metadata={"meaning": "end of the span in the film"}),
        pa.field("num_frames", pa.int32(), metadata={"meaning": "its length at 30 frames a second"}),
        pa.field("reason", pa.string(), metadata={"meaning": "clip, or why it is none"}),
        pa.field("detail", pa.string(), metadata={"meaning": "what was found, if there is more to say"}),
        pa.field("clip_id", pa.string(), metadata={"meaning": "of a clip"}),
        pa.field("shot", pa.string(), metadata={"meaning": "the shot of two people that it lies in"}),
        pa.field(
            "speaker_side", pa.string(), metadata={"meaning": "who speaks, in a clip of turns more than the other"}
        ),
        pa.field("left_id", pa.string(), metadata={"meaning": "the person on the left"}),
        pa.field("right_id", pa.string(), metadata={"meaning": "the person on the right"}),
        pa.field("turns", pa.list_(pa.list_(pa.int32(), 3)), metadata={"meaning": TURNS_MEANING}),
        *(pa.field(name, pa.float32(), metadata={"meaning": meaning}) for name, meaning in MEASURES.items()),
    ]
)


@dataclass(frozen=True)
class Row:
    """A span and who is in it."""

    span: Span
    people: tuple[str | None, str | None]  # left, right

    @property
    def is_clip(self) -> bool:
        return self.span.reason == reasons.CLIP

    @property
    def times(self) -> Times:
        return Times(seconds_of(self.span.start), seconds_of(self.span.end))

    @property
    def clip_id(self) -> str:
        return clip_id_for(self.span.source_id, self.times) + (TURNS_SUFFIX if self.span.turns else "")

    @property
    def roles(self) -> tuple[str | None, str | None]:
        """Speaker and listener."""
        assert self.span.side is not None
        return self.people[self.span.side], self.people[1 - self.span.side]

    def values(self) -> dict[str, Any]:
        """As the table has it."""
        span = self.span
        turns = [[t.start - span.start, t.end - span.start, int(t.person != span.side)] for t in span.turns]
        return {
            "source_id": span.source_id,
            "start_s": float(self.times.start_s),
            "end_s": float(self.times.end_s),
            "num_frames": span.end - span.start,
            "reason": span.reason,
            "detail": span.detail,
            "clip_id": self.clip_id if self.is_clip else None,
            "shot": span.meeting or None,
            "speaker_side": None if span.side is None else SIDES[span.side],
            "left_id": self.people[0],
            "right_id": self.people[1],
            "turns": turns or None,
            **{name: span.measures.get(name) for name in MEASURES},
        }


def write_evidence(path: Path, rows: Sequence[Row]) -> None:
    """Write the table of all spans, in order of films and times."""
    table = pa.Table.from_pylist([row.values() for row in rows], schema=SCHEMA)
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def funnel(rows: Iterable[Row]) -> dict[str, Any]:
    """How much of the films fell out for which reason, and what was left after each step.

    Clips of turns stand beside those of their turns and are counted apart, so that the seconds add up to the films'.
    """
    frames: Counter[str] = Counter()
    spans: Counter[str] = Counter()
    films, of_turns = set(), 0
    for row in rows:
        films.add(row.span.source_id)
        if row.span.turns:
            of_turns += 1
            continue
        frames[row.span.reason] += row.span.end - row.span.start
        spans[row.span.reason] += 1
    left = sum(frames.values())
    steps = []
    for step in reasons.STEPS:
        out = [name for name, (of_step, _) in reasons.REASONS.items() if of_step == step and spans[name]]
        told = [{"reason": name, "spans": spans[name], "seconds": _seconds(frames[name])} for name in out]
        if step != reasons.CLIPS:
            left -= sum(frames[name] for name in out)
        steps.append({"step": step, "seconds": _seconds(left), "left_out": told if step != reasons.CLIPS else []})
    return {
        "films": len(films),
        "seconds": _seconds(sum(frames.values())),
        "steps": steps,
        "clips": spans[reasons.CLIP],
        "clips_of_turns": of_turns,
    }


def funnel_table(found: dict[str, Any]) -> str:
    """The funnel for people: what is left after each step, and under it what fell out there."""
    lines = [["", "minutes", "spans", ""], [f"{found['films']} films", _minutes(found["seconds"]), "", ""]]
    for step in found["steps"]:
        for out in step["left_out"]:
            meaning = reasons.REASONS[out["reason"]][1]
            lines.append([f"  - {out['reason']}", _minutes(out["seconds"]), str(out["spans"]), meaning])
        count = str(found["clips"]) if step["step"] == reasons.CLIPS else ""
        lines.append([step["step"], _minutes(step["seconds"]), count, ""])
    if found["clips_of_turns"]:
        lines.append(["clips of turns", "", str(found["clips_of_turns"]), "beside those, of the same minutes"])
    return aligned(lines)


def _seconds(frames: int) -> float:
    return round(float(seconds_of(frames)), 3)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.2f}"
