"""What a run of the benchmark measured: kept as JSON, and compared with an earlier run.

A machine is not the same from hour to hour, and another one is another. So every time stands beside decoding the film
with all cores in the same run, shortly before: what takes as long as decoding four frames does so on most machines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.settings import read_text
from pipeline.tables import aligned
from schemas.errors import UserError

SLOWER = 1.25  # times the earlier ratio; less is noise where others use the machine
MAX_BYTES = 2**24


@dataclass(frozen=True)
class Section:
    """Times of one part of the benchmark, and what decoding a frame of the film took beside them."""

    ms: Mapping[str, float]  # of what was measured, milliseconds: of a frame, unless it says of what
    decoding_ms: float
    film: str  # which was decoded
    told: str = ""  # what was printed of it besides

    def __post_init__(self) -> None:
        for ms in (self.decoding_ms, *self.ms.values()):
            if not (isinstance(ms, int | float) and ms > 0 and math.isfinite(ms)):
                raise ValueError(f"expected milliseconds, found {ms!r}")

    def ratio(self, name: str) -> float:
        """How many frames are decoded in that time."""
        return self.ms[name] / self.decoding_ms

    def table(self) -> str:
        """What was measured, and every time beside decoding."""
        rows = [[name, f"{ms:.2f}", f"{self.ratio(name):.2f}"] for name, ms in self.ms.items()]
        head = f"decoding a frame with all cores: {self.decoding_ms:.2f} ms"
        return f"{self.told}\n\n{head}\n{aligned([['time', 'ms', 'x decoding'], *rows])}".lstrip()


@dataclass(frozen=True)
class Results:
    """One run of the benchmark."""

    date: str
    machine: str
    cores: int
    sections: Mapping[str, Section]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        """The results in a file; `UserError` if it holds none."""
        text = read_text(path, MAX_BYTES)
        try:
            content: dict[str, Any] = json.loads(text)
            sections = {name: Section(**section) for name, section in content.pop("sections").items()}
            return cls(**content, sections=sections)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            told = "expected what a run of python -m jobs.bench wrote with --out"
            raise UserError(f"{path}: no results: {type(error).__name__}: {error}; {told}") from None


@dataclass(frozen=True)
class Change:
    """A time that both runs have, as a ratio to decoding in each."""

    section: str
    name: str
    before: float
    after: float

    @property
    def factor(self) -> float:
        return self.after / self.before

    @property
    def is_slower(self) -> bool:
        return self.factor > SLOWER

    def cells(self) -> list[str]:
        ratios = [f"{number:.2f}" for number in (self.before, self.after, self.factor)]
        return [self.section, self.name, *ratios]


def require_alike(before: Results, after: Results) -> None:
    """`UserError` where two runs cannot be compared, as far as the second has come."""
    pairs = {"number of cores": (before.cores, after.cores)}
    for name, section in after.sections.items():
        if earlier := before.sections.get(name):
            pairs[f"film ({name})"] = (earlier.film, section.film)
    for what, (old, new) in pairs.items():
        if old != new:
            raise UserError(f"--against: results of another {what}: {old}, here {new}; measure both with the same")


def changes(before: Results, after: Results) -> Iterator[Change]:
    """Times of one run beside those of another; `UserError` where they cannot be compared."""
    require_alike(before, after)
    for name, section in after.sections.items():
        if earlier := before.sections.get(name):
            for time in section.ms:
                if time in earlier.ms:
                    yield Change(name, time, earlier.ratio(time), section.ratio(time))


def changes_table(found: list[Change]) -> str:
    """What became slower, the worst first."""
    slower = sorted((one for one in found if one.is_slower), key=lambda one: -one.factor)
    if not slower:
        return f"none of {len(found)} times became slower (more than {SLOWER} times as many frames decoded meanwhile)"
    head = ["slower", "time", "x decoding before", "now", "factor"]
    return aligned([head, *(one.cells() for one in slower)])
