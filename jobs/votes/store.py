"""The votes of one person: a file of JSON lines that only grows, ``<name>.votes/<annotator>.jsonl``.

The first line holds the hash of the question. Then a line a vote, or a line that takes one back; of several votes on
one clip the last one counts. A line is written under a lock and flushed to the disk before anybody is told that it
is there. A process that dies in the middle leaves a torn last line, which was confirmed to nobody: readers pass over
it, the next writer removes it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.votes.question import QUESTION, Answer, NoAnswerError
from pipeline.settings import read_text
from schemas.clip import ID_PATTERN
from schemas.errors import UserError

FIRST, REPEAT, ADJUDICATION = "first", "repeat", "adjudication"
ROUNDS = (FIRST, REPEAT, ADJUDICATION)
MAX_BYTES = 2**30


@dataclass(frozen=True)
class Vote:
    """One line of a file: an answer, or (``undo``) the number of the line that it takes back."""

    number: int
    utc: str  # ISO 8601
    uuid: str  # made by whoever votes: the same vote sent twice is one line
    clip_id: str
    round: str
    fingerprint: str = ""  # of what was shown
    answer: Answer | None = None
    undo: int | None = None

    def to_line(self) -> bytes:
        head = {"number": self.number, "utc": self.utc, "uuid": self.uuid, "clip_id": self.clip_id, "round": self.round}
        said = {"undo": self.undo} if self.answer is None else {"fingerprint": self.fingerprint} | self.answer.to_json()
        return json.dumps(head | said).encode() + b"\n"

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Vote:
        """A line's vote; ValueError, KeyError or TypeError for what is none."""
        head = {name: values[name] for name in ("number", "utc", "uuid", "clip_id", "round")}
        if values["round"] not in ROUNDS:
            raise ValueError(f"round {values['round']!r}")
        if "undo" in values:
            return cls(**head, undo=values["undo"])
        return cls(**head, fingerprint=values["fingerprint"], answer=Answer.of_json(values))


class NewerVoteError(Exception):
    """Since the clip was opened, the same person has voted on it elsewhere."""


Standing = dict[tuple[str, str], Vote]
"""What counts: (clip id, round) -> the last vote that was not taken back."""


class VoteFile:
    """One annotator's file. Any number of processes may write to it."""

    def __init__(self, folder: Path, annotator: str) -> None:
        if not ID_PATTERN.fullmatch(annotator):
            raise UserError(f"annotator {annotator[:80]!r}: expected 1 to 64 of the characters A-Z a-z 0-9 _ -")
        self.path = folder / f"{annotator}.jsonl"
        self.annotator = annotator

    def votes(self) -> list[Vote]:
        """All confirmed lines, in order; `UserError` for a file that is none of ours, or answers another question."""
        if not self.path.is_file():
            return []
        return self._parse(read_text(self.path, MAX_BYTES))

    def standing(self) -> Standing:
        return standing(self.votes())

    def vote(
        self, uuid: str, clip_id: str, round: str, fingerprint: str, answer: Answer, seen: int | None = None
    ) -> Vote:
        """Append a vote; it is on the disk when this returns. One with a known ``uuid`` is not written again.

        ``seen`` is the number of the clip's last vote that the person knows of, 0 for none.

        Raises
        ------
        NewerVoteError : another one counts by now.
        OSError : it could not be written, and nothing of it is left.
        """
        with self._locked() as descriptor:
            votes = self._settled(descriptor)
            if known := [vote for vote in votes if vote.uuid == uuid]:
                return known[0]
            if seen is not None and seen != getattr(standing(votes).get((clip_id, round)), "number", 0):
                raise NewerVoteError
            vote = Vote(len(votes) + 1, _now(), uuid, clip_id, round, fingerprint, answer)
            self._append(descriptor, vote.to_line())
        return vote

    def undo(self, uuid: str, among: Collection[tuple[str, str]] | None = None) -> Vote | None:
        """Take back the last vote that counts, by another line; returns that line, None where there is no vote.

        ``among`` limits it to some (clip id, round): those that the person can see.
        """
        with self._locked() as descriptor:
            votes = self._settled(descriptor)
            if known := [vote for vote in votes if vote.uuid == uuid]:
                return known[0]
            left = [vote for vote in _not_undone(votes) if among is None or (vote.clip_id, vote.round) in among]
            if not left:
                return None
            last = left[-1]
            line = Vote(len(votes) + 1, _now(), uuid, last.clip_id, last.round, undo=last.number)
            self._append(descriptor, line.to_line())
        return line

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _settled(self, descriptor: int) -> list[Vote]:
        """The confirmed lines; a torn one is removed, and a file without lines gets its first."""
        text = read_text(self.path, MAX_BYTES) if os.fstat(descriptor).st_size else ""
        end = text.rfind("\n") + 1
        if end < len(text):
            os.ftruncate(descriptor, len(text[:end].encode()))
        if not end:
            self._append(descriptor, json.dumps({"question": QUESTION}).encode() + b"\n")
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # else the file's name could be lost with its votes
            finally:
                os.close(folder)
        return self._parse(text[:end])

    def _append(self, descriptor: int, line: bytes) -> None:
        before = os.fstat(descriptor).st_size
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise

    def _parse(self, text: str) -> list[Vote]:
        lines = text.split("\n")[:-1]  # what follows the last newline is torn
        if not lines:
            return []
        votes: list[Vote] = []
        number = 1
        try:
            if json.loads(lines[0])["question"] != QUESTION:
                raise UserError(
                    f"{self.path}: its votes answer another question than this version of the tool asks; move the "
                    "folder away, or name another one: --votes DIR"
                )
            for number, line in enumerate(lines[1:], start=2):
                votes.append(Vote.of_json(json.loads(line)))
                if votes[-1].number != number - 1:
                    raise ValueError(f"found number {votes[-1].number}, expected {number - 1}")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, NoAnswerError) as error:
            raise UserError(
                f"{self.path}, line {number}: expected a vote, found {type(error).__name__}: {error}; these files are "
                "not edited: bring back a copy, or move the file away"
            ) from None
        return votes


def standing(votes: list[Vote]) -> Standing:
    """What counts of all lines of a file."""
    return {(vote.clip_id, vote.round): vote for vote in _not_undone(votes)}


def _not_undone(votes: list[Vote]) -> list[Vote]:
    undone = {vote.undo for vote in votes if vote.undo is not None}
    return [vote for vote in votes if vote.answer is not None and vote.number not in undone]


def vote_files(folder: Path) -> list[VoteFile]:
    """The files of all annotators, by name; none where there is no folder."""
    return [VoteFile(folder, path.stem) for path in sorted(folder.glob("*.jsonl"))]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
