"""The report of agreement: validity first, then what is asked of valid clips alone; for programs and for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np

from jobs.votes import agreement
from jobs.votes.agreement import MISSING
from jobs.votes.consolidation import OUTCOMES, TIE_RULE, Decision, Votes, span_of
from jobs.votes.films import Films
from jobs.votes.question import Answer
from jobs.votes.store import FIRST, REPEAT
from pipeline.dataset.labels import boundaries_text, questions_table, shown
from pipeline.tables import markdown_table
from schemas.agreement import Agreement, BoundaryAgreement, Interval, Kappa, QuestionAgreement
from schemas.clip import ATTITUDES, SIDES

QUESTIONS: dict[str, tuple[tuple[str, ...], Callable[[Answer], str | None]]] = {
    "valid": (("valid", "invalid"), lambda answer: "valid" if answer.valid else "invalid"),
    "attitude": (ATTITUDES, lambda answer: answer.attitude),
    "side": (SIDES, lambda answer: answer.side),
}
ORDERED = ("attitude",)
Given = dict[str, dict[str, Answer]]  # annotator -> clip id -> answer


def agreement_report(
    films: Films, fresh: Votes, stale: int, decisions: Sequence[Decision], clips_sha256: str, fewest: int
) -> Agreement:
    """The report of votes that count; annotators are numbered by their names' order."""
    first, again = _given(fresh, FIRST), _given(fresh, REPEAT)
    first = {who: answers for who, answers in first.items() if answers}
    every = [answer for answers in first.values() for answer in answers.values()]
    outcomes = Counter(decision.outcome for decision in decisions)
    return Agreement(
        clips_sha256=clips_sha256,
        annotators=len(first),
        votes=len(every),
        fewest_votes=fewest,
        stale=stale,
        unsure=sum(answer.unsure for answer in every),
        tie_rule=TIE_RULE,
        outcomes={name: outcomes[name] for name in OUTCOMES},
        adjudicated=sum(decision.adjudicated for decision in decisions),
        questions=tuple(_question(name, films, first, again) for name in QUESTIONS),
        boundaries=_boundaries(first),
    )


def _given(fresh: Votes, round: str) -> Given:
    said = {who: [vote for vote in fresh[who] if vote.round == round] for who in sorted(fresh)}
    return {who: {vote.clip_id: vote.answer for vote in votes if vote.answer} for who, votes in said.items()}


def _question(name: str, films: Films, first: Given, again: Given) -> QuestionAgreement:
    classes, said = QUESTIONS[name]
    clips = sorted({clip_id for answers in first.values() for clip_id in answers})

    def rating(answers: Mapping[str, Answer], clip_id: str) -> int:
        value = said(answers[clip_id]) if clip_id in answers else None
        return MISSING if value is None else classes.index(value)

    rows = [[rating(answers, clip_id) for answers in first.values()] for clip_id in clips]
    ratings = np.array(rows, dtype=int).reshape(len(clips), len(first))
    sources = np.array([films.films[clip_id].row.source_id for clip_id in clips])
    shared = (ratings != MISSING).sum(axis=1) >= 2
    count = len(classes)
    twice = [(rating(first[who], c), rating(again[who], c)) for who in first for c in again[who] if c in first[who]]
    twice = [pair for pair in twice if MISSING not in pair]
    return QuestionAgreement(
        name=name,
        ordered=name in ORDERED,
        clips=int(shared.sum()),
        answers=int((ratings[shared] != MISSING).sum()),
        alpha=_interval(agreement.krippendorff(ratings, count, "nominal", sources)),
        ordinal=_interval(agreement.krippendorff(ratings, count, "ordinal", sources)) if name in ORDERED else None,
        ac1=agreement.gwet_ac1(ratings, count),
        unanimous=agreement.unanimous(ratings),
        of_class=dict(zip(classes, agreement.agreement_of_classes(ratings, count), strict=True)),
        kappa=tuple(_kappa(ratings, a, b, count) for a, b in combinations(range(len(first)), 2)),
        repeated=len(twice),
        repeated_same=sum(a == b for a, b in twice),
    )


def _interval(found: agreement.Estimate | None) -> Interval | None:
    return None if found is None else Interval(found.value, found.low, found.high)


def _kappa(ratings: np.ndarray, a: int, b: int, classes: int) -> Kappa:
    both = int(((ratings[:, a] != MISSING) & (ratings[:, b] != MISSING)).sum())
    return Kappa(a + 1, b + 1, both, agreement.cohen_kappa(ratings[:, a], ratings[:, b], classes))


def _boundaries(first: Given) -> BoundaryAgreement | None:
    pairs = [
        (span_of(first[a][clip_id]), span_of(first[b][clip_id]))
        for a, b in combinations(first, 2)
        for clip_id in first[a]
        if clip_id in first[b] and first[a][clip_id].valid and first[b][clip_id].valid
    ]
    if not pairs:
        return None
    apart = np.abs(np.array([one for one, _ in pairs]) - np.array([other for _, other in pairs]))  # (pair, edge)
    mean = apart.mean(axis=0)
    shared = float(np.mean([agreement.overlap(*pair) for pair in pairs]))
    return BoundaryAgreement(len(pairs), float(mean[0]), float(mean[1]), int(apart.max()), shared)


def report_text(found: Agreement, names: Sequence[str]) -> str:
    """The report in Markdown; ``names`` of the annotators, in order of their numbers."""
    lines = [
        f"{found.annotators} annotators, {found.votes} votes, {found.unsure} of them unsure, {found.stale} stale.",
        markdown_table(["outcome", "clips", "meaning"], [[k, str(n), OUTCOMES[k]] for k, n in found.outcomes.items()]),
        f"Tie rule `{found.tie_rule}`: more than half decides, a tie is adjudicated. Clips with fewer than "
        f"{found.fewest_votes} votes wait. {found.adjudicated} clips were decided by adjudication.",
        questions_table(found),
        "Attitude and side are asked only where somebody calls the clip valid. Alpha and kappa: 0 is chance, 1 full "
        "agreement; in brackets 95 % of drawings of sources. Where nearly all say the same, one dissent brings alpha "
        "to 0: read AC1 and the classes beside it.",
        markdown_table(
            ["question", "class", "given by one, given by another"],
            [[q.name, name, shown(value)] for q in found.questions for name, value in q.of_class.items()],
        ),
        markdown_table(
            ["question", "two annotators", "clips", "kappa"],
            [
                [q.name, f"{names[k.first - 1]}, {names[k.second - 1]}", str(k.clips), shown(k.value)]
                for q in found.questions
                for k in q.kappa
            ],
        ),
        boundaries_text(found.boundaries),
    ]
    return "\n\n".join(lines) + "\n"
