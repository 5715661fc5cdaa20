"""Spans: windows of a film joined, cut where somebody else begins to speak, each with its reason.

A pure function of what the stages wrote; it holds one shot of a film at a time. The spans of a film tile it: every
frame stands in one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import radians
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.mining import reasons
from jobs.mining.windows import Window
from pipeline.clock import frames_in, runs
from pipeline.stage import setting
from schemas.clip import SIDES
from schemas.errors import UserError
from stages.faces.boxes import areas, iou
from stages.faces.sights import Sight
from stages.speakers import turns

SAME_FACE_IOU = 0.5  # of a face in one and the same frame, as two windows have found it
ONE_WAY, TURNS, BOTH = "one_way", "turns", "both"
PER_FRAME = ("sight", "shot", "voice", "speaking", "seen", "yaw", "box")  # `pair_...` of the stage `encounters`


@dataclass(frozen=True)
class SpanSettings(turns.Settings):
    """What becomes a clip."""

    clips: str = setting(
        ONE_WAY, "clips of one turn, clips of turns that alternate, or both", choices=(ONE_WAY, TURNS, BOTH)
    )
    min_s: float = setting(2.0, "shortest clip")
    max_s: float = setting(90.0, "longest clip; a longer turn is split at its pauses")
    margin_s: float = setting(0.1, "kept before and after a turn, where nobody else speaks")
    max_missing_s: float = setting(0.5, "longest time for which a face may be missing or turned away inside a clip")
    max_yaw_deg: float = setting(60.0, "a face turned to the side by more is turned away")
    max_between_s: float = setting(2.0, "longest silence between two turns of one clip of turns")

    def __post_init__(self) -> None:
        if not (0 < self.min_s <= self.max_s and self.max_s >= 1):  # of a part of no frames a turn would have no end
            found = f"min_s = {self.min_s:g}, max_s = {self.max_s:g}"
            raise UserError(f"[stages.spans]: found {found}; allowed: above 0, and from min_s and 1 s on")


@dataclass(frozen=True)
class Span:
    """Frames ``start`` to ``end``, without the last, of a film, and what is said of them. Sides: 0 left, 1 right."""

    source_id: str
    start: int
    end: int
    reason: str
    detail: str = ""
    side: int | None = None  # of the one who speaks; of a clip of turns, more than the other
    meeting: str = ""  # the shot, whose two tracks are named after it
    turns: tuple[turns.Turn, ...] = ()  # of a clip of turns, in frames of the film
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Meeting:
    """Two people in a shot of a film, over all windows that it passes through."""

    source_id: str
    start: int
    columns: Mapping[str, NDArray[Any]]  # `PER_FRAME`, (frame, ...)
    faces: NDArray[np.float32]  # (window, side, face, 128)
    width_px: int  # of the picture

    @property
    def name(self) -> str:
        return f"{self.start:08d}"

    def __len__(self) -> int:
        return len(self.columns["sight"])


def spans_of(
    windows: Iterable[tuple[Window, Mapping[str, Any] | tuple[str, str]]], settings: SpanSettings
) -> Iterator[tuple[Meeting | None, list[Span]]]:
    """The spans of one film, a shot of two people at a time, from its windows in order.

    With each window comes what the stages wrote of it, or reason and detail of why they did not.
    """
    open_: _Open | None = None
    for window, found in windows:
        if isinstance(found, tuple):
            if open_:
                yield from open_.closed(settings)
                open_ = None
            yield None, [Span(window.source_id, window.start, window.end, *found)]
            continue
        for piece in _pieces(window, found):
            if open_ and open_.goes_on(piece):
                open_.add(piece)
                continue
            if open_:
                yield from open_.closed(settings)
            open_ = _Open(piece)
    if open_:
        yield from open_.closed(settings)


@dataclass(frozen=True, eq=False)
class _Piece:
    """Frames of one window with one shot of two people, or with one reason why there are not two."""

    source_id: str
    start: int
    end: int
    columns: Mapping[str, NDArray[Any]]
    faces: NDArray[np.float32]  # (side, face, 128)
    width_px: int
    before: NDArray[np.float32] | None  # boxes (side, 4) in the frame before, where the shot was seen there already
    after: NDArray[np.float32] | None  # and of the frame after its last

    @property
    def is_pair(self) -> bool:
        return bool(self.columns["shot"][0] >= 0)


def _pieces(window: Window, found: Mapping[str, Any]) -> Iterator[_Piece]:
    columns = {name: found[f"pair_{name}"] for name in PER_FRAME}
    low, high = window.start - window.first, window.end - window.first
    shot, sight = columns["shot"], columns["sight"]
    changes = (np.diff(shot) != 0) | ((np.diff(sight) != 0) & (shot[1:] < 0))
    edges = [low, *(int(k) + 1 for k in np.flatnonzero(changes) if low <= k < high - 1), high]
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        faces = found["pair_faces"][shot[start]] if shot[start] >= 0 else np.zeros((2, 0, 0), np.float32)
        yield _Piece(
            window.source_id,
            window.first + start,
            window.first + end,
            {name: values[start:end] for name, values in columns.items()},
            faces,
            int(found["pair_picture"][0]),
            columns["box"][start - 1] if start and shot[start - 1] == shot[start] else None,
            columns["box"][end] if end < len(shot) and shot[end] == shot[end - 1] else None,
        )


class _Open:
    """Pieces that belong together, so far."""

    def __init__(self, piece: _Piece) -> None:
        self.pieces = [piece]

    def add(self, piece: _Piece) -> None:
        self.pieces.append(piece)

    def goes_on(self, piece: _Piece) -> bool:
        """Whether a piece continues the last one: the same reason, or the same two faces in one shot."""
        last = self.pieces[-1]
        if last.is_pair != piece.is_pair:
            return False
        if not piece.is_pair:
            return bool(last.columns["sight"][0] == piece.columns["sight"][0])
        if piece.before is None or last.after is None:  # a cut between the two windows
            return False
        here = iou(last.after, piece.columns["box"][0])
        return bool((here >= SAME_FACE_IOU).all())

    def closed(self, settings: SpanSettings) -> Iterator[tuple[Meeting | None, list[Span]]]:
        first, last = self.pieces[0], self.pieces[-1]
        if not first.is_pair:
            reason = Sight(int(first.columns["sight"][0])).name.lower()
            yield None, [Span(first.source_id, first.start, last.end, reason)]
            return
        columns = {name: np.concatenate([piece.columns[name] for piece in self.pieces]) for name in PER_FRAME}
        faces = np.stack([piece.faces for piece in self.pieces])
        meeting = Meeting(first.source_id, first.start, columns, faces, first.width_px)
        yield meeting, _of_meeting(meeting, settings)


def _of_meeting(meeting: Meeting, settings: SpanSettings) -> list[Span]:
    """The spans of a shot of two people."""
    spans: list[Span] = []
    for start, end, reason in _in_view(meeting, settings):
        spans += _turns(meeting, start, end, settings) if reason is None else [_span(meeting, start, end, reason)]
    return spans


def _in_view(meeting: Meeting, settings: SpanSettings) -> Iterator[tuple[int, int, str | None]]:
    """Stretches of a shot, in order: None where both faces are in view but for moments, else a reason."""
    columns = meeting.columns
    away = (np.abs(columns["yaw"]) > radians(settings.max_yaw_deg)).any(axis=1)
    missing = ~columns["seen"].all(axis=1)
    why = np.zeros(len(meeting), np.int8)
    for start, end in runs(missing | away):
        if end - start > frames_in(settings.max_missing_s):
            why[start:end] = 1 if missing[start:end].mean() >= 0.5 else 2
    why[columns["sight"] != Sight.PAIR] = 3
    names = (None, reasons.FACE_MISSING, reasons.FACE_TURNED_AWAY, Sight.CROWD.name.lower())
    edges = [0, *(np.flatnonzero(np.diff(why)) + 1).tolist(), len(why)]
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        yield start, end, names[why[start]]


def _turns(meeting: Meeting, start: int, end: int, settings: SpanSettings) -> list[Span]:
    """The spans of a stretch in which both are in view, and clips of turns beside them."""
    scores = np.where(meeting.columns["seen"], meeting.columns["speaking"], np.nan)[start:end]
    voiced = meeting.columns["voice"][start:end] > turns.HEARD
    found = [_later(turn, start) for turn in turns.turns(scores, voiced, settings)]
    widened = _widened(found, start, end, settings)
    spans, place = [], start
    for turn in widened:
        spans += _quiet(meeting, place, turn.start, voiced[place - start : turn.start - start])
        for first, last in _split(turn.start, turn.end, voiced[turn.start - start : turn.end - start], settings):
            reason = reasons.ONE_TURN if settings.clips == TURNS else reasons.CLIP
            if last - first < frames_in(settings.min_s):
                reason = reasons.TOO_SHORT
            spans.append(_span(meeting, first, last, reason, turn.person))
        place = turn.end
    spans += _quiet(meeting, place, end, voiced[place - start :])
    return spans + _conversations(meeting, widened, settings)


def _later(turn: turns.Turn, frames: int) -> turns.Turn:
    return turns.Turn(turn.start + frames, turn.end + frames, turn.person)


def _widened(found: list[turns.Turn], start: int, end: int, settings: SpanSettings) -> list[turns.Turn]:
    """Turns with the margin on either side, half of the silence between two at most."""
    margin, wide = round(frames_in(settings.margin_s)), []
    for k, turn in enumerate(found):
        low = found[k - 1].end + (turn.start - found[k - 1].end + 1) // 2 if k else start
        high = turn.end + (found[k + 1].start - turn.end) // 2 if k + 1 < len(found) else end
        wide.append(turns.Turn(max(turn.start - margin, low), min(turn.end + margin, high), turn.person))
    return wide


def _quiet(meeting: Meeting, start: int, end: int, voiced: NDArray[np.bool_]) -> list[Span]:
    if start == end:
        return []
    return [_span(meeting, start, end, reasons.NOBODY_LEADS if voiced.any() else reasons.SILENCE)]


def _split(start: int, end: int, voiced: NDArray[np.bool_], settings: SpanSettings) -> Iterator[tuple[int, int]]:
    """A turn in parts no longer than a clip may be, cut amid the longest pause of each part's second half."""
    most = int(frames_in(settings.max_s))
    place = start
    while end - place > most:
        low = place + most // 2
        pauses = runs(~voiced[low - start : place + most - start])
        cut = max(pauses, key=lambda pause: pause[1] - pause[0], default=(most - most // 2,) * 2)
        middle = low + (cut[0] + cut[1]) // 2
        yield place, middle
        place = middle
    yield place, end


def _conversations(meeting: Meeting, found: list[turns.Turn], settings: SpanSettings) -> list[Span]:
    """Clips of turns that alternate: as many as fit, from one turn to the next."""
    if settings.clips == ONE_WAY:
        return []
    groups: list[list[turns.Turn]] = [[]]
    for turn in found:
        last = groups[-1]
        if last and (
            turn.person == last[-1].person
            or turn.start - last[-1].end > frames_in(settings.max_between_s)
            or turn.end - last[0].start > frames_in(settings.max_s)
        ):
            groups.append([])
        groups[-1].append(turn)
    wide = [group for group in groups if len(group) > 1 and group[-1].end - group[0].start >= frames_in(settings.min_s)]
    return [
        replace(
            _span(meeting, group[0].start, group[-1].end, reasons.CLIP, _who_speaks_more(group)),
            turns=tuple(_later(turn, meeting.start) for turn in group),
        )
        for group in wide
    ]


def _who_speaks_more(group: list[turns.Turn]) -> int:
    return int(np.argmax([sum(turn.end - turn.start for turn in group if turn.person == side) for side in (0, 1)]))


def _span(meeting: Meeting, start: int, end: int, reason: str, side: int | None = None) -> Span:
    """A span by frames of a shot, with what was measured in it."""
    part = {name: values[start:end] for name, values in meeting.columns.items()}
    faces_px = np.median(np.sqrt(areas(part["box"])), axis=0)  # (side,)
    yaw_deg = np.degrees(np.abs(part["yaw"]).max(axis=0))
    seen = part["seen"].mean(axis=0)
    voiced = part["voice"] > turns.HEARD
    measures = {"voiced": float(voiced.mean())}
    for place, name in enumerate(SIDES):
        measures |= {
            f"{name}_face_px": float(faces_px[place]),
            f"{name}_yaw_deg": float(yaw_deg[place]),
            f"{name}_seen": float(seen[place]),
        }
    if side is not None and voiced.any():
        leads = part["speaking"][voiced, side] - part["speaking"][voiced, 1 - side]
        measures |= {"lead": float(leads.mean()), "leading": float((leads > 0).mean())}
    film = meeting.start
    return Span(meeting.source_id, film + start, film + end, reason, "", side, meeting.name, (), measures)
