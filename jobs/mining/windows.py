"""Windows: a film in pieces that the engine takes for clips, so that a film of hours is never held or redone whole.

Windows tile a film; each is looked at with some seconds of its neighbours, so that what is said of its own frames does
not depend on where it ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pipeline.clock import Span, frames_in, seconds_of
from pipeline.dataset.store import Store
from pipeline.manifest.clips_csv import ClipRow, clip_id_for
from pipeline.manifest.load import Manifest, Source
from pipeline.media.reader import MediaError, SourceReader
from pipeline.stage import setting
from schemas.errors import UserError

TRAIN = "train"  # a window is no clip, yet a row of clips has a split


@dataclass(frozen=True)
class WindowSettings:
    """How films are cut into windows."""

    window_s: float = setting(120.0, "length of a window: the unit of work, and what a corrupt spot can cost")
    overlap_s: float = setting(6.0, "how far a window is looked at beyond either end")

    def __post_init__(self) -> None:
        if not (self.window_s >= 1 and 0 <= self.overlap_s <= self.window_s):
            found = f"window_s = {self.window_s:g}, overlap_s = {self.overlap_s:g}"
            raise UserError(f"[stages.windows]: found {found}; allowed: 1 s or more, and from 0 to as much")


@dataclass(frozen=True)
class Window:
    """Frames ``start`` to ``end``, without the last, of a film at 30 a second, and the clip that stands for them."""

    start: int
    end: int
    first: int  # frame of the film with which the clip begins: the overlap's
    row: ClipRow

    @property
    def source_id(self) -> str:
        return self.row.source_id


def windows_of(films: Manifest, settings: WindowSettings, store: Store) -> list[Window]:
    """The windows of all films, a film's in order. A film that cannot be read has one, whose outcome tells why.

    How long a film is, the store remembers by path, size and time of change in ``ledger/durations.json``.
    """
    path = store.ledger / "durations.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found: dict[str, list[Any]] = {}
    for source in films.sources.values():
        stamp = _stamp(source)
        before = known.get(source.source_id, [None, 0.0])
        found[source.source_id] = [stamp, before[1] if stamp and before[0] == stamp else _duration_s(source)]
    store.write_text(path, json.dumps(found, sort_keys=True, indent=1) + "\n")
    return [
        window for source in films.sources.values() for window in _of_film(source, found[source.source_id][1], settings)
    ]


def _stamp(source: Source) -> list[Any] | None:
    if not source.path.is_file():
        return None
    file = source.path.stat()
    return [str(source.path.resolve()), file.st_size, file.st_mtime_ns]


def _of_film(source: Source, duration_s: float, settings: WindowSettings) -> Iterable[Window]:
    frames = max(int(frames_in(Fraction(duration_s))), 1)
    step = int(frames_in(settings.window_s))
    count = max(round(frames / step), 1)
    edges = [*(k * step for k in range(count)), frames]
    beyond = int(frames_in(settings.overlap_s))
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        first, last = max(start - beyond, 0), min(end + beyond, frames)
        clip_id = clip_id_for(source.source_id, Span(seconds_of(start), seconds_of(end)))
        span = Span(seconds_of(first), seconds_of(last))
        row = ClipRow(clip_id, source.source_id, span, None, None, None, None, TRAIN, 0)
        yield Window(start, end, first, row)


def _duration_s(source: Source) -> float:
    """How long a film says it is; 0 where nobody can tell."""
    if not source.path.is_file():
        return 0.0
    try:
        with SourceReader(source.path) as reader:
            if seconds := reader.info().duration_s:
                return max(seconds, 0.0)
            times = reader.frame_times()  # a container without an index says nothing
            return float(times.time_s(-1))
    except MediaError:
        return 0.0
