"""How far a build is, read off the ledger: shown by the build itself, and by ``jobs.status`` from anywhere.

``ledger/started.json`` says what a run set out to do and who does it; the diaries of the parts say clip by clip what it
has done since. So the account is right to the last clip even where the driver was killed.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline.dataset.storage import Location, file_sizes
from pipeline.dataset.store import Store
from pipeline.ledger.diary import GIVEN_UP, read_diary
from pipeline.tables import aligned
from schemas.errors import UserError
from schemas.outcome import OK, REJECTED

FILE = "started.json"
BAR_EVERY_S = 0.5  # on a terminal
LINES_EVERY_S = (30.0, 300.0)  # in a log: often at first, where mistakes show, then every tenth of the time passed


@dataclass(frozen=True)
class RunStart:
    """What a run set out to do: for every stage the clips settled before, and those that it must compute."""

    run_id: str
    name: str
    settled: dict[str, int]
    waiting: dict[str, int]
    words: Sequence[str] = ()  # of the command line, without the place; report.json has them once more
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    started: float = field(default_factory=time.time)
    stopped: str = ""  # the error that ended it
    command: str = "jobs.build"  # what ran, and goes on after a kill
    result: str = "clips published"

    def write(self, store: Store) -> None:
        store.write_text(store.ledger / FILE, json.dumps(vars(self), indent=1) + "\n")

    @classmethod
    def read(cls, store: Store) -> RunStart | None:
        """The latest run of a data set; None if there was none."""
        found = read_ledger(store, store.ledger / FILE)
        return cls(**found) if found else None


def read_ledger(store: Store, path: Location) -> dict[str, Any]:
    """What a file of the ledger says in JSON; nothing where there is none.

    Raises
    ------
    UserError : somebody else has written it.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if not isinstance(found, dict):
            raise ValueError(f"expected names and values, found {type(found).__name__}")
    except (ValueError, RecursionError) as error:
        again = f"python -m jobs.build MANIFEST --out {store.root}"
        raise UserError(f"{path}: cannot be read: {error}; delete it, the next {again} writes it anew") from None
    return found


@dataclass(frozen=True)
class StageProgress:
    """A stage in mid-run. ``total`` counts the clips that it has to see, as far as earlier stages have let them by."""

    stage: str
    total: int
    before: int
    outcomes: Counter[str]
    elapsed_s: float

    @property
    def now(self) -> int:
        return self.outcomes.total()

    @property
    def done(self) -> int:
        return self.before + self.now

    @property
    def failed(self) -> int:
        return self.now - self.outcomes[OK] - self.outcomes[REJECTED]

    @property
    def clips_a_second(self) -> float:
        return self.now / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds to go at the pace so far; None before the first clip."""
        return (self.total - self.done) / self.clips_a_second if self.clips_a_second else None

    def cells(self) -> list[str]:
        left = "" if self.left_s is None else clock_time(self.left_s)
        counts = [self.done, self.total, self.outcomes[REJECTED], self.failed]
        return [self.stage, *map(str, counts), f"{self.clips_a_second:.2f}", left]


class RunCounts:
    """Follows the diaries of one run; a diary is read again only when it has grown."""

    def __init__(self, store: Store, start: RunStart) -> None:
        self._folder = store.ledger / "attempts"
        self.start = start
        self._seen: dict[str, tuple[int, Counter[tuple[str, str]]]] = {}

    def stages(self, elapsed_s: float) -> list[StageProgress]:
        """Where every stage stands now."""
        counts = self._count()
        found, lost = [], 0
        for stage, waiting in self.start.waiting.items():
            outcomes = Counter({outcome: count for (name, outcome), count in counts.items() if name == stage})
            before, now = self.start.settled[stage], outcomes.total()
            found.append(StageProgress(stage, before + max(waiting - lost, now), before, outcomes, elapsed_s))
            lost += outcomes.total() - outcomes[OK]
        return found

    def in_work(self) -> list[tuple[str, str]]:
        """(stage, clip) that were begun in this run and have not ended."""
        begun: dict[tuple[str, str], bool] = {}
        for path in sorted((path for path, _ in file_sizes(self._folder)), key=str):
            for line in self._lines(path):
                begun[line["stage"], line["clip"]] = line["event"] == "start"
        return [key for key, is_open in begun.items() if is_open]

    def _count(self) -> Counter[tuple[str, str]]:
        total: Counter[tuple[str, str]] = Counter()
        for path, size in file_sizes(self._folder):
            if self._seen.get(path.name, (-1,))[0] != size:
                self._seen[path.name] = (size, self._count_one(path))
            total.update(self._seen[path.name][1])
        return total

    def _count_one(self, path: Location) -> Counter[tuple[str, str]]:
        last = {
            (line["stage"], line["clip"]): line["outcome"]
            for line in self._lines(path)
            if line["event"] in ("end", GIVEN_UP) and line["clip"]
        }
        return Counter((stage, outcome) for (stage, _), outcome in last.items())

    def _lines(self, path: Location) -> Iterator[dict[str, Any]]:
        return (line for line in read_diary(path) if line["run"] == self.start.run_id)


HEADER = ["stage", "done", "of", "rejected", "failed", "clips/s", "left"]


def progress_table(stages: list[StageProgress]) -> str:
    """A line a stage; rejected, failed and the pace are of this run alone."""
    return aligned([HEADER, *(stage.cells() for stage in stages)])


def clock_time(seconds: float) -> str:
    """``1:02:03``"""
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"


@contextmanager
def shown(counts: RunCounts) -> Iterator[None]:
    """Show progress while the block runs: bars on a terminal, a table now and then in a log."""
    over = threading.Event()
    show = _show_bars if sys.stderr.isatty() else _print_tables
    thread = threading.Thread(target=show, args=(counts, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _print_tables(counts: RunCounts, over: threading.Event) -> None:
    started = time.monotonic()
    pause_s, longest_s = LINES_EVERY_S
    while not over.wait(min(max(pause_s, (time.monotonic() - started) / 10), longest_s)):
        with suppress(OSError, UserError):  # a storage that does not answer now is the workers' trouble
            elapsed_s = time.monotonic() - started
            print(f"after {clock_time(elapsed_s)}\n{progress_table(counts.stages(elapsed_s))}", flush=True)


def _show_bars(counts: RunCounts, over: threading.Event) -> None:
    from tqdm import tqdm

    started, is_over = time.monotonic(), False
    bars = {
        stage.stage: tqdm(total=stage.total - stage.before, desc=stage.stage, unit="clip", position=number)
        for number, stage in enumerate(counts.stages(0.0))
        if stage.total > stage.before
    }
    while not is_over:
        is_over = over.wait(BAR_EVERY_S)  # and once more at the end
        with suppress(OSError, UserError):
            for stage in counts.stages(time.monotonic() - started):
                if bar := bars.get(stage.stage):
                    bar.total = stage.total - stage.before
                    bar.set_postfix_str(f"{stage.outcomes[REJECTED]} rejected, {stage.failed} failed", refresh=False)
                    bar.update(stage.now - bar.n)
    for bar in bars.values():
        bar.close()
