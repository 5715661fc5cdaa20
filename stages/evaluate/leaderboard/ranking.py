"""The challenge's rankings of teams, from a table of their scores, applied to our runs.

On the challenge's own data its teams take part with what was printed of them.

Three rules circulate. 2023, as its code has it: the sum of a team's places in all metrics, where teams that tie share
the mean of their places, cut to a whole number: both of two winners are first. 2022: how often a team is first. And the
sum of places counted from 0: the printed scores of HSP (MM 2023, Table 1: 7, 9, 15) are consistent with it when teams
that the paper does not list are in the table.

Source: ``evaluations/scoring_example.py`` of dc3ea9f/vico_challenge_baseline (commit 16424c0), described, not copied;
the challenge's leaderboard of 2022; Chang et al., MM 2023 (HSP), Table 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.score import ALL, REFERENCE_RUN, Score
from stages.evaluate.leaderboard.published import PublishedScore

Table = Mapping[str, Mapping[str, float]]  # team -> metric -> score

LARGER_IS_BETTER = ("CPBD", "SSIM", "PSNR", "CSIM", "AVConf")
SMALLER_IS_BETTER = ("FID", "ExpL1", "PoseL1", "LipLMD", "ExpFD", "AngleFD", "TransFD", "PoseFD")
NEARER_TO_ZERO_IS_BETTER = ("AVOffset",)
KNOWN = LARGER_IS_BETTER + SMALLER_IS_BETTER + NEARER_TO_ZERO_IS_BETTER

CHALLENGE = {  # a challenge metric -> the definition that computes it
    "SSIM": "ssim_piq",
    "CPBD": "cpbd",
    "PSNR": "psnr_piq",
    "FID": "fid_piq",
    "CSIM": "csim_arcface",
    "ExpL1": "expl1_2023",
    "PoseL1": "posel1_2023",
    "ExpFD": "expfd_frechet_pooled",
    "PoseFD": "posefd_frechet_pooled",
    "AVConf": "av_confidence_syncnet",  # of talking heads, as the next
    "AVOffset": "av_offset_syncnet",
}
DATA_2022, DATA_2023 = "vico challenge 2022", "vico challenge 2023"  # names of the data sets that the challenges scored
CHALLENGE_2022 = {  # of 2022 the FD were L1 distances, which are what "feature distance" had meant until then
    **{name: CHALLENGE[name] for name in ("SSIM", "CPBD", "PSNR", "FID", "CSIM")},
    "ExpFD": "expfd_l1_2022",
    "AngleFD": "anglefd_l1_2022",
    "TransFD": "transfd_l1_2022",
}


def validate(table: Table) -> tuple[str, ...]:
    """The metrics that the table holds; `ValueError` where a team lacks one, or one is not known."""
    found = {metric for scores in table.values() for metric in scores}
    if found - set(KNOWN):
        raise ValueError(f"unknown metrics {', '.join(sorted(found - set(KNOWN)))}; known: {', '.join(KNOWN)}")
    for team, scores in table.items():
        missing = sorted(metric for metric in found if not np.isfinite(scores.get(metric, np.nan)))
        if missing:
            raise ValueError(f"team {team!r} has no score of {', '.join(missing)}; rank only teams that have them all")
    return tuple(metric for metric in KNOWN if metric in found)


def places(table: Table, metric: str) -> dict[str, int]:
    """Every team's place in one metric, from 1; the mean of tied places, cut to a whole number."""
    scores = np.array([team[metric] for team in table.values()], np.float64)
    if metric in LARGER_IS_BETTER:
        scores = -scores
    elif metric in NEARER_TO_ZERO_IS_BETTER:
        scores = np.abs(scores)
    before = (scores < scores[:, None]).sum(axis=1)
    same = (scores == scores[:, None]).sum(axis=1)
    return {team: int(place) for team, place in zip(table, before + (same + 1) / 2, strict=True)}


def sums_of_places(table: Table) -> dict[str, int]:
    """2023: a team's places in all metrics added up; the smallest sum wins."""
    every = [places(table, metric) for metric in validate(table)]
    return {team: sum(place[team] for place in every) for team in table}


def sums_of_places_from_zero(table: Table) -> dict[str, int]:
    """A team's places counted from 0, added up; the smallest sum wins."""
    return {team: total - len(validate(table)) for team, total in sums_of_places(table).items()}


def first_places(table: Table) -> dict[str, int]:
    """2022: in how many of that year's metrics a team is first; the largest number wins."""
    every = [places(table, metric) for metric in validate(table) if metric in CHALLENGE_2022]
    return {team: sum(place[team] == 1 for place in every) for team in table}


@dataclass(frozen=True)
class Ranking:
    """One of the challenge's rules over our runs, the metrics that could take part, and what the teams come to."""

    rule: str
    split: str
    metrics: tuple[str, ...]
    results: Mapping[str, int]
    teams: Mapping[str, int]  # of the challenge, where the data are its own


def challenge_rankings(scores: Sequence[Score], split: str, published: Sequence[PublishedScore] = ()) -> list[Ranking]:
    """The challenge's rules, over the metrics that every run and every team has; empty where one would be alone.

    Teams take part with their printed numbers where our scores are of the data set that they were scored on. Two sums
    of places may only be compared where the same teams are in the table, so that no printed sum is set beside ours.
    """
    runs = list(dict.fromkeys(score.run for score in scores if score.run != REFERENCE_RUN))
    found = {(s.run, s.key.metric): s.value for s in scores if s.key.split == split and s.key.attitude == ALL}
    rankings = []
    for rule, data, names, apply in (
        ("2023: sum of places, smallest wins", DATA_2023, CHALLENGE, sums_of_places),
        ("2023 as printed: sum of places from 0, smallest wins", DATA_2023, CHALLENGE, sums_of_places_from_zero),
        ("2022: number of first places, largest wins", DATA_2022, CHALLENGE_2022, first_places),
    ):
        table = {run: {name: found[run, id] for name, id in names.items() if (run, id) in found} for run in runs}
        teams = _teams(published, data, split) if any(score.key.data == data for score in scores) else {}
        table |= teams
        shared = tuple(name for name in names if all(name in numbers for numbers in table.values()))
        if len(table) > 1 and runs and shared:
            results = apply({who: {name: numbers[name] for name in shared} for who, numbers in table.items()})
            ours, theirs = ({name: results[name] for name in some} for some in (runs, teams))
            rankings.append(Ranking(rule, split, shared, ours, theirs))
    return rankings


def _teams(published: Sequence[PublishedScore], data: str, split: str) -> dict[str, dict[str, float]]:
    """The printed numbers of a challenge's teams, by the challenge's names of metrics."""
    teams: dict[str, dict[str, float]] = {}
    for number in published:
        place = (number.key.data, number.key.split, number.key.attitude)
        if number.team and number.value is not None and place == (data, split, ALL):
            teams.setdefault(f"{number.method} (published)", {})[number.column] = number.value
    return teams
