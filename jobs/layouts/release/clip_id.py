"""ViCo's clip ids, ``<youtube id>_<start>_<end>``, whose six digits are never said to be seconds or HHMMSS.

Neither reading is guessed. Digits of 60 and more where minutes or seconds would stand rule out HHMMSS; a clip whose
length is known rules out the reading that gives another one. What remains undecided over a whole data set is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

SECONDS, HHMMSS = "seconds", "hhmmss"
UNITS = (SECONDS, HHMMSS)
TOLERANCE_S = 1.5  # start and end are whole seconds, each rounded by up to one

_GRAMMAR = re.compile(r"(?P<video>.{11})[-_](?P<start>\d{6})[-_](?P<end>\d{6})", re.ASCII)  # the papers use both signs


@dataclass(frozen=True)
class ClipId:
    """A clip id taken apart: the YouTube id and the digits of start and end."""

    video: str
    start: str
    end: str

    def span_s(self, unit: str) -> tuple[int, int] | None:
        """Start and end in seconds if the digits have this unit; None if they cannot."""
        start_s, end_s = (_seconds(digits, unit) for digits in (self.start, self.end))
        return (start_s, end_s) if start_s is not None and end_s is not None and start_s < end_s else None


def parse_clip_id(text: str) -> ClipId | None:
    """A clip id taken apart, None for one of another make."""
    found = _GRAMMAR.fullmatch(text)
    return ClipId(**found.groupdict()) if found else None


def find_unit(clips: Iterable[tuple[ClipId, float]]) -> tuple[str | None, str]:
    """The one unit that fits all clips, given with their lengths in seconds, or None; and why."""
    clips = list(clips)
    against = {
        unit: next((clip for clip, length_s in clips if not _fits(clip, length_s, unit)), None) for unit in UNITS
    }
    possible = [unit for unit in UNITS if against[unit] is None]
    if len(possible) == 1:
        other = next(clip for clip in against.values() if clip is not None)
        return possible[0], f"{other.video}_{other.start}_{other.end} rules out the other reading"
    if possible:
        return None, "both readings fit every clip: say --time-unit seconds or --time-unit hhmmss if you know"
    examples = ", ".join(f"{unit}: {clip.video}_{clip.start}_{clip.end}" for unit, clip in against.items() if clip)
    return None, f"neither reading fits all clips ({examples})"


def _fits(clip: ClipId, length_s: float, unit: str) -> bool:
    span = clip.span_s(unit)
    return span is not None and abs(span[1] - span[0] - length_s) <= TOLERANCE_S


def _seconds(digits: str, unit: str) -> int | None:
    if unit == SECONDS:
        return int(digits)
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    return 3600 * hours + 60 * minutes + seconds if minutes < 60 and seconds < 60 else None
