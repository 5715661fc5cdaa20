"""How people labelled the clips of a data set and how far they agreed: ``agreement.json``, typed.

`jobs.consolidate` writes it beside the table of clips that follows from the votes; a build finds it there and says it
on the dataset card. It holds no names: people are numbers. What is not defined is None, never NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.dataset import made

FILE = "agreement.json"


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % interval; None where there is one source."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Kappa:
    """Cohen's kappa of two annotators, by their numbers."""

    first: int
    second: int
    clips: int
    value: float | None = None


@dataclass(frozen=True)
class QuestionAgreement:
    """Agreement on one question, over the clips on which two people or more answered it."""

    name: str
    ordered: bool  # whether the classes have an order
    clips: int
    answers: int
    alpha: Interval | None  # Krippendorff's, nominal
    ordinal: Interval | None  # Krippendorff's of ordered classes
    ac1: float | None  # Gwet's
    unanimous: float | None  # share of clips on which all agree
    of_class: Mapping[str, float | None]  # when one gave the class, how often another did
    kappa: tuple[Kappa, ...]
    repeated: int  # answers given twice by the same person who did not know it
    repeated_same: int


@dataclass(frozen=True)
class BoundaryAgreement:
    """First and last frames: over all pairs of people who called the same clip valid."""

    pairs: int
    first_frame: float  # mean deviation of two people, in frames
    last_frame: float
    largest: int
    overlap: float  # mean intersection over union


@dataclass(frozen=True)
class Agreement:
    """How labels came about, and the agreement behind them."""

    clips_sha256: str  # of the table of clips that was written with it
    annotators: int
    votes: int  # that count: of now, not of hidden repeats and not of adjudication
    fewest_votes: int  # a clip must have
    stale: int  # votes on what has changed since; not counted
    unsure: int  # votes that say so
    tie_rule: str
    outcomes: Mapping[str, int]  # of clips
    adjudicated: int  # clips decided by adjudication
    questions: tuple[QuestionAgreement, ...]
    boundaries: BoundaryAgreement | None = None

    @classmethod
    def of_json(cls, content: Any) -> Agreement:
        """Agreement in a file's content; ValueError, KeyError or TypeError for what is none."""
        found: Agreement = made(cls, content)
        return found
