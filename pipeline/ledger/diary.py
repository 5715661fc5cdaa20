"""The diaries of the parts: every attempt of every stage at a clip, and how often one took its worker down."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.dataset.storage import Location
from pipeline.dataset.store import Store, append_text
from schemas.outcome import CRASHED

GIVEN_UP, SET_FREE = "given_up", "set_free"  # events of a diary: the last word of a run, and of `jobs.retry`
PRINT_DIGITS = 8  # of a fingerprint in a diary: enough to tell an attempt with other settings or other code
DIARY_KEYS = {"event", "run", "stage", "clip", "print"}


@dataclass(frozen=True)
class Deaths:
    """Attempts of a stage at a clip that took the worker process down, by themselves or by a kill from outside."""

    now: int = 0  # in this run, and not because its host was lost
    ever: int = 0  # in all runs and whatever the cause, since the clip was last set free by ``jobs.retry``
    outcome: str = CRASHED  # what the last one was: crashed, timed out or out of memory


@dataclass(frozen=True)
class Attempts:
    """The diary of one part: a line before and a line after a stage works on a clip.

    The line before is on the disk when a worker process dies, so that a clip that kills its worker is found out. The
    watchdog adds a line of its own before it kills.
    """

    path: Location
    run_id: str
    host: str = ""  # where it is written, as Ray knows it

    def about(self, stage: str, clip_id: str, fingerprint: str) -> dict[str, Any]:
        """What every line says; a clip id of "" stands for the stage's setup."""
        return {"run": self.run_id, "stage": stage, "clip": clip_id, "print": fingerprint[:PRINT_DIGITS]}

    def give_up(self, about: Mapping[str, Any], outcome: str) -> None:
        """No further attempt: the clip has its row, and its deaths go on counting."""
        self.append([{**about, "event": GIVEN_UP, "outcome": outcome}])

    def start(self, about: Mapping[str, Any]) -> None:
        self.append([{**about, "event": "start", "host": self.host}])

    def end(self, about: Mapping[str, Any], outcome: str, seconds: float, frames: Sequence[int] = ()) -> None:
        """An attempt is over; ``frames`` are those that a reject is about."""
        more = {"frames": list(frames)} if frames else {}
        self.append([{**about, "event": "end", "outcome": outcome, "seconds": round(seconds, 4), **more}])

    def frames_of(self, stage: str, clip_id: str) -> list[int]:
        """The frames that a stage's last word on a clip is about."""
        ends = [line for line in read_diary(self.path) if line["event"] == "end"]
        found = [line.get("frames", []) for line in ends if (line["stage"], line["clip"]) == (stage, clip_id)]
        return found[-1] if found else []

    def set_free(self, stage: str, clip_ids: Sequence[str]) -> None:
        """Forget how often these clips took their worker down, with whatever settings."""
        self.append([{**self.about(stage, clip_id, ""), "event": SET_FREE} for clip_id in clip_ids])

    def deaths(self, lost_hosts: Callable[[], Collection[str]] = tuple) -> dict[tuple[str, str, str], Deaths]:
        """(stage, clip id, beginning of the fingerprint) -> attempts that were started and never ended.

        ``lost_hosts`` is asked where there are any: what a host took down with it is laid at no clip's door.
        """
        open_ones: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        for line in read_diary(self.path):
            attempts = open_ones.setdefault((line["stage"], line["clip"], line["print"]), [])
            if line["event"] == "start":
                attempts.append({"why": CRASHED, **line})
            elif attempts and line["event"] == "killed":
                attempts[-1]["why"] = line["why"]
            elif attempts and line["event"] == "end":
                attempts.pop()
            elif line["event"] == SET_FREE:
                for key in open_ones:
                    if key[:2] == (line["stage"], line["clip"]):
                        open_ones[key] = []
        lost = set(lost_hosts()) if any(open_ones.values()) else set()

        def counts(attempt: dict[str, Any]) -> bool:
            its_own = attempt["why"] != CRASHED or attempt.get("host") not in lost
            return its_own and attempt["run"] == self.run_id

        return {
            key: Deaths(sum(map(counts, attempts)), len(attempts), attempts[-1]["why"])
            for key, attempts in open_ones.items()
            if attempts
        }

    def append(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Write lines, in one go: a reader never sees them mixed with those of another process."""
        append_text(self.path, "".join(json.dumps(event) + "\n" for event in events))


def read_diary(path: Location) -> Iterator[dict[str, Any]]:
    """The lines of a part's diary; none if there is no file."""
    if not path.is_file():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:  # the last line of a worker that was killed while it wrote
            continue
        if isinstance(line, dict) and line.keys() >= DIARY_KEYS:
            yield line


def attempts_of(store: Store, part: str, run_id: str, host: str = "") -> Attempts:
    """The diary of a part."""
    return Attempts(store.ledger / "attempts" / f"{part}.jsonl", run_id, host)
