"""What annotators are asked: the four decisions of ViCo's (Zhou et al., ECCV 2022, sections 3 and 4) for every clip.

Valid or not, and which condition fails; the exact first and last frame; on which side the speaker sits; the listener's
attitude. The wording is ours. A file of votes opens with the hash of all of it: answers to another question are
never counted together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from pipeline.plan import digest
from schemas.clip import ATTITUDES, SIDES

CONDITIONS = {
    "two_people": "Two people are on screen, and nobody else.",
    "speaks_and_listens": "One of them speaks, the other listens attentively.",
    "faces": "Both faces are seen from the front and clearly.",
    "natural": "Both look natural, and nothing disturbs the picture.",
    "live": "The listener responds live to what the speaker says.",
}
ATTITUDE_MEANINGS = {
    "positive": "agrees, likes it, is interested",
    "neutral": "neither",
    "negative": "disagrees, dislikes it, does not believe it, is not interested",
}
assert tuple(ATTITUDE_MEANINGS) == ATTITUDES
QUESTION = digest([CONDITIONS, ATTITUDE_MEANINGS, SIDES, "first and last frame"])
LONGEST_NOTE = 1000  # characters


class NoAnswerError(ValueError):
    """What was sent answers no question of ours; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What one person says of one clip. Only of a valid one are times, side and attitude asked.

    Frames count from the clip's first one at 30 a second and may be negative; ``out_frame`` is the first one after it.
    """

    valid: bool
    failed: tuple[str, ...] = ()  # of `CONDITIONS`, where not valid
    in_frame: int | None = None
    out_frame: int | None = None
    side: str | None = None
    attitude: str | None = None
    unsure: bool = False
    note: str = ""
    seconds: float = 0.0  # taken for it

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> Self:
        """An answer from parsed JSON; `NoAnswerError` for anything that is none."""
        known = {name: values.get(name) for name in cls.__dataclass_fields__}
        for name, kinds in _KINDS.items():
            value = known[name]
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise NoAnswerError(f"{name}: found {value!r}")
        if not set(known["failed"]) <= set(CONDITIONS):
            raise NoAnswerError(f"failed: found {known['failed']}, allowed: {', '.join(CONDITIONS)}")
        answer = cls(**{**known, "failed": tuple(dict.fromkeys(known["failed"]))})
        answer._check()
        return answer

    def _check(self) -> None:
        about_valid = (self.in_frame, self.out_frame, self.side, self.attitude)
        if self.valid and self.failed:
            raise NoAnswerError("a valid clip fails no condition")
        if not self.valid and (not self.failed or about_valid != (None, None, None, None)):
            raise NoAnswerError("of a clip that is not valid it is asked which conditions fail, and nothing else")
        if self.valid and (self.in_frame is None or self.out_frame is None or self.in_frame >= self.out_frame):
            raise NoAnswerError(f"frames {self.in_frame} to {self.out_frame}: a valid clip has one frame or more")
        if self.valid and self.attitude not in ATTITUDES:
            raise NoAnswerError(f"attitude: found {self.attitude!r}, allowed: {', '.join(ATTITUDES)}")
        if self.side not in (None, *SIDES):
            raise NoAnswerError(f"side: found {self.side!r}, allowed: {', '.join(SIDES)}")
        if len(self.note) > LONGEST_NOTE or not 0 <= self.seconds < 1e9:
            raise NoAnswerError(f"a note has {LONGEST_NOTE} characters or fewer, and time does not run back")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


_KINDS: dict[str, tuple[type, ...]] = {
    "valid": (bool,),
    "failed": (list, tuple),
    "in_frame": (int, type(None)),
    "out_frame": (int, type(None)),
    "side": (str, type(None)),
    "attitude": (str, type(None)),
    "unsure": (bool,),
    "note": (str,),
    "seconds": (int, float),
}
