"""A stage's answer for one clip, and the row of the ledger that it becomes.

A stage may return columns, reject, raise anything, return rubbish or end its process. Whatever it does costs this clip
alone; only troubles of the machine (a full or read-only disk) stop the build, because they are no clip's fault.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.clip import Clip
from pipeline.ledger.diary import Deaths
from pipeline.ledger.limits import Limits
from pipeline.stage import Reject, Stage, Warned
from schemas.column import Column, ColumnError, portrait_of
from schemas.errors import is_machine_trouble, words_of
from schemas.outcome import CRASHED, FAILED, OK, OUT_OF_MEMORY, REJECTED, TIMED_OUT, Outcome

MAX_REASON, MAX_DETAIL = 200, 2000  # characters


class Died(Exception):
    """Stands for the answer of a stage that took its process down."""

    def __init__(self, deaths: Deaths, limits: Limits, num_frames: int) -> None:
        self.outcome = deaths.outcome
        times = f"{deaths.now} times" if deaths.now >= limits.attempts else f"{deaths.ever} times in all runs"
        super().__init__(
            {
                CRASHED: f"the worker process died {times} on this clip",
                TIMED_OUT: f"no end after {limits.seconds(num_frames):g} s, {times} (limits.stage_s, limits.frame_s)",
                OUT_OF_MEMORY: f"more than {limits.memory_gb:g} GB, {times} (limits.memory_gb)",
            }[deaths.outcome]
        )


@dataclass(frozen=True)
class Answer:
    """What a stage said of one clip: columns or an exception; ``batch`` is why it had to be asked about it alone."""

    said: Any
    batch: BaseException | None = None


def ask(stage: Stage, clips: Sequence[Clip]) -> list[Answer]:
    """A stage's answers, one a clip; an exception is an answer too. `OSError` if the machine is in trouble, not a clip.

    Where clips fail together they are asked one by one, so that none pays for another, and each row says so.
    """
    try:
        said: list[Any] = list(stage.process_part(list(clips)))
        if len(said) != len(clips):
            raise ValueError(f"process_part must return one answer a clip: expected {len(clips)}, found {len(said)}")
    except (Exception, SystemExit) as error:
        if len(clips) > 1:
            return [Answer(answer.said, error) for clip in clips for answer in ask(stage, [clip])]
        said = [error]
    for one in said:
        if is_machine_trouble(one):
            raise one
    return [Answer(one) for one in said]


def as_outcome(stage: Stage, columns: Sequence[Column], clip: Clip, answer: Answer, fingerprint: str) -> Outcome:
    """A stage's answer as a row of its columns, checked, or the reason why there are none."""
    said = answer.said
    if isinstance(said, Reject):
        if said.reason in stage.rejects:
            return Outcome(clip.clip_id, fingerprint, REJECTED, said.reason, _utf8(said.detail))
        said = ValueError(f"stage {stage.name!r} rejected with {said.reason!r}, which its `rejects` does not list")
    if isinstance(said, Warned) and said.reason not in stage.warnings:
        said = ValueError(f"stage {stage.name!r} warned of {said.reason!r}, which its `warnings` does not list")
    if not isinstance(said, BaseException):
        try:
            values = _checked(stage, columns, clip, said)
        except ColumnError as error:
            said = error
        else:
            why = ("", "") if answer.batch is None else _told(answer.batch)
            if isinstance(said, Warned):
                why = said.reason, _utf8(said.detail)
            return Outcome(clip.clip_id, fingerprint, OK, *why, values)
    if isinstance(said, Died):
        return Outcome(clip.clip_id, fingerprint, said.outcome, str(said))
    out_of_memory = isinstance(said, MemoryError) or type(said).__name__ == "OutOfMemoryError"  # torch's, of a GPU
    return Outcome(clip.clip_id, fingerprint, OUT_OF_MEMORY if out_of_memory else FAILED, *_told(said))


def _told(error: BaseException) -> tuple[str, str]:
    """Reason and detail of an error: its words, and its traceback where it was raised."""
    detail = "" if error.__traceback__ is None else "".join(traceback.format_exception(error))
    return _utf8(f"{type(error).__name__}: {words_of(error)}")[:MAX_REASON], _utf8(detail)[-MAX_DETAIL:]


def _utf8(text: str) -> str:
    """Text that a file can hold: messages may quote undecodable names."""
    return text.encode(errors="backslashreplace").decode()


def _checked(stage: Stage, columns: Sequence[Column], clip: Clip, answer: Any) -> dict[str, Any]:
    """The columns of one clip in their declared types; every declared column and no other.

    What a stage found in the listener's picture goes to the columns of the portrait.
    """
    declared = {column.name for column in stage.writes()}
    if not isinstance(answer, dict) or set(answer) != declared:
        found = sorted(map(str, answer)) if isinstance(answer, dict) else type(answer).__name__
        raise ColumnError(f"stage {stage.name!r} must return the columns {sorted(declared)}, found {found}")
    moved = {column.name: portrait.name for column in stage.writes() if (portrait := portrait_of(column))}
    named = {moved.get(name, name) if clip.has_portrait else name: value for name, value in answer.items()}
    return {column.name: _check_value(column, clip, named.get(column.name)) for column in columns}


def _check_value(column: Column, clip: Clip, value: Any) -> Any:
    try:
        if column.media:
            if not (value is None or Path(value).is_file()):
                raise ColumnError(f"column {column.name!r}: no file {value}; write it to clip.output(...) first")
            return value
        checked = column.check(value, clip.num_frames)
        if not column.is_numeric:
            column.to_arrow([checked])  # text and structs are only understood by Arrow
        return checked
    except ColumnError:
        raise
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ColumnError(f"column {column.name!r}: {error}") from error
