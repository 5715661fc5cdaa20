"""Rankings against the challenge's own program, and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.evaluate.leaderboard.ranking import KNOWN, first_places, places, sums_of_places, sums_of_places_from_zero

TABLE = {
    "still": {"PSNR": 20.0, "FID": 30.0, "AVOffset": -3.0},
    "copy": {"PSNR": 20.0, "FID": 40.0, "AVOffset": 1.0},
    "learned": {"PSNR": 25.0, "FID": 30.0, "AVOffset": 2.0},
}


@pytest.mark.shared
def test_published_tables_have_the_places_of_the_challenges_program(shared: Path) -> None:
    tables = json.loads((shared / "golden" / "metrics" / "ranking.json").read_text())["tables"]
    assert len(tables) == 4
    for stored in tables.values():
        table = {row["Name"]: {name: row[name] for name in row if name in KNOWN} for row in stored["table"]}
        assert sums_of_places(table) == stored["scores"]
        for metric in stored["metrics_used"]:
            assert places(table, metric) == {team: stored["ranks"][team][metric] for team in table}


def test_ties_share_the_mean_of_their_places_cut_to_a_whole_number() -> None:
    assert places(TABLE, "PSNR") == {"still": 2, "copy": 2, "learned": 1}  # 2.5 becomes 2
    assert places(TABLE, "FID") == {"still": 1, "copy": 3, "learned": 1}  # 1.5 becomes 1
    assert places(TABLE, "AVOffset") == {"still": 3, "copy": 1, "learned": 2}  # by size


def test_the_three_rules_differ() -> None:
    assert sums_of_places(TABLE) == {"still": 6, "copy": 6, "learned": 4}
    assert sums_of_places_from_zero(TABLE) == {"still": 3, "copy": 3, "learned": 1}
    assert first_places(TABLE) == {"still": 1, "copy": 0, "learned": 2}  # AVOffset is none of 2022's


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=8, unique=True))
def test_without_ties_places_are_those_of_the_sorted_scores(scores: list[float]) -> None:
    table = {f"team{number}": {"FID": score, "PSNR": score} for number, score in enumerate(scores)}
    assert sorted(places(table, "FID").values()) == list(range(1, len(scores) + 1))
    assert min(table, key=lambda team: places(table, "FID")[team]) == min(table, key=lambda team: table[team]["FID"])
    assert all(places(table, "PSNR")[team] + places(table, "FID")[team] == len(scores) + 1 for team in table)


def test_tables_with_holes_or_unknown_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match="team 'copy' has no score of FID"):
        sums_of_places({"still": {"FID": 1.0, "PSNR": 2.0}, "copy": {"PSNR": 2.0}})
    with pytest.raises(ValueError, match="unknown metrics FVD"):
        first_places({"still": {"FVD": 1.0}})
