"""Boards and rankings: who may be ranked beside whom."""

from __future__ import annotations

from dataclasses import replace

from schemas.score import ALL, REFERENCE_RUN, Comparable, Score, ScoreSpace
from stages.evaluate.leaderboard.boards import Board, make_boards, why_apart
from stages.evaluate.leaderboard.published import read_published
from stages.evaluate.leaderboard.ranking import DATA_2022, DATA_2023, challenge_rankings
from stages.evaluate.metrics.registry import find_definition

METRIC = find_definition("fd_exp_eccv2022")
DEEP3D = ScoreSpace("deep3d", 1, (("deep3d", "0123456789abcdef"),))
SCALING = {"scale": METRIC.scale, "pooling": METRIC.pooling.value, "resolution": ""}
KEY = Comparable(metric=METRIC.id, data="vico", split="test", attitude=ALL, space=DEEP3D, **SCALING)

FID = find_definition("fid_piq")
NETWORK = ScoreSpace(weights=((FID.weights, "0123456789abcdef"),))
SEEN = replace(KEY, metric=FID.id, space=NETWORK, scale=FID.scale, pooling=FID.pooling.value)


def score(value: float, run: str = "ours", key: Comparable = KEY) -> Score:
    counts = {"num_clips": 40, "num_frames": 9000, "num_samples": 1, "left_out": 0}
    return Score(run=run, key=key, value=value, low=value - 1, high=value + 1, **counts)


def boards(*scores: Score) -> list[Board]:
    metrics, published = read_published()
    return make_boards(scores, published, metrics)


def test_a_run_on_the_same_data_in_the_same_space_is_ranked_among_the_published() -> None:
    board = boards(score(14.0))[0]
    first = [(1, "MFR-Net"), (2, "ours"), (3, "ViCo"), (4, "ViCo, audio only")]
    assert [(row.rank, row.name) for row in board.rows[:4]] == first


def test_a_run_that_differs_in_one_thing_stands_alone() -> None:
    for change in ({"data": "mine"}, {"space": ScoreSpace("landmark_gn", 1)}, {"scale": 1.0}, {"pooling": "other"}):
        first = boards(score(14.0, key=replace(KEY, **change)))[0]
        assert [row.name for row in first.rows] == ["ours"] and first.rows[0].rank is None  # one alone is no first
        theirs = next(b for b in boards() if b.key.metric == METRIC.id and b.key.data == "vico")
        assert why_apart(first.key, theirs.key) == list(change)


def test_a_run_on_other_data_stands_beside_the_published_without_a_rank() -> None:
    found = boards(score(14.0, key=replace(KEY, data="mine")))
    theirs = next(b for b in found if b.key.metric == METRIC.id and b.key.data == "vico")
    (ours,) = [row for row in theirs.rows if row.name == "ours"]
    assert ours.rank is None and ours.flags == (("not comparable: other data", "mine"),)
    assert not theirs.ours and [row.rank for row in theirs.rows if row.rank] == list(range(1, 10))


def test_pictures_are_ranked_beside_those_of_a_paper_that_does_not_state_their_size_and_a_flag_says_so() -> None:
    for side in ("256x256", "384x384"):
        board = boards(score(28.0, key=replace(SEEN, resolution=side)))[0]
        assert [(row.rank, row.name) for row in board.rows] == [(1, "ours"), (2, "ViCo")]
        assert {"resolution not stated", "implementation inferred"} <= dict(board.rows[1].flags).keys()


def test_a_size_that_is_stated_still_keeps_numbers_apart() -> None:
    """MFR-Net renders at 256, of test and ood together."""
    for side, ranked in (("256x256", ["MFR-Net", "ours"]), ("384x384", [])):
        board = boards(score(28.0, key=replace(SEEN, split="test+ood", resolution=side)))[0]
        assert [row.name for row in board.rows if row.rank] == ranked


def test_a_number_whose_definition_is_a_guess_stands_beside_ours_without_a_rank() -> None:
    frechet = find_definition("posefd_frechet_pooled")
    scaling = {"scale": frechet.scale, "pooling": frechet.pooling.value}
    board = boards(score(0.01, key=replace(KEY, metric=frechet.id, data=DATA_2023, **scaling)))[0]
    assert {row.name for row in board.rows} >= {"ours", "HSP", "Robo Space", "ilearn"}
    for row in board.rows[1:]:
        assert row.rank is None and {"candidate definition", "unknown fitter"} <= dict(row.flags).keys()


def test_a_number_that_was_copied_or_cannot_be_right_has_no_rank() -> None:
    rows = boards(score(14.0))[0].rows
    unranked = {(row.name, flag) for row in rows if row.rank is None for flag, _ in row.flags}
    assert ("ViCo", "copied from another paper") in unranked
    assert ("PCHG", "average contradicts its rows") in unranked
    assert ("ViCo", "repeated") in unranked
    assert len([row for row in rows if row.rank == 1]) == 1


def test_runs_with_equal_scores_share_a_rank() -> None:
    key = replace(KEY, data="mine")
    board = boards(score(3.0, "a", key), score(3.0, "b", key), score(5.0, "c", key))[0]
    assert [(row.name, row.rank) for row in board.rows] == [("a", 1), ("b", 1), ("c", 3)]


def test_closeness_to_the_references_own_value_ranks_where_that_is_the_goal() -> None:
    metric = find_definition("vd_exp_sum")
    key = replace(KEY, metric=metric.id, data="mine", scale=1.0, pooling=metric.pooling.value)
    board = boards(score(9.0, "lively", key), score(4.5, "near", key), score(5.0, REFERENCE_RUN, key))[0]
    assert board.goal == 5.0
    assert [(row.name, row.rank) for row in board.rows] == [("near", 1), ("lively", 2)]


def test_the_challenge_ranks_over_the_metrics_that_every_run_has() -> None:
    made = (("a", "expl1_2023", 0.1), ("a", "posel1_2023", 0.2), ("b", "expl1_2023", 0.2), ("b", "posel1_2023", 0.3))
    made += (("a", "ssim_piq", 0.5),)  # b was not rendered
    scores = [score(value, run, replace(KEY, metric=metric)) for run, metric, value in made]
    by_rule = {ranking.rule.split(":")[0]: ranking for ranking in challenge_rankings(scores, "test")}
    assert by_rule["2023"].metrics == ("ExpL1", "PoseL1")
    assert by_rule["2023"].results == {"a": 2, "b": 4}
    assert by_rule["2023 as printed"].results == {"a": 0, "b": 2}
    assert challenge_rankings(scores[:2], "test") == []  # one run has no ranking


def test_on_the_challenges_data_its_teams_are_ranked_with_ours() -> None:
    """HSP .139/.070, Robo Space .149/.078 and ilearn .154/.085 of ExpL1 and PoseL1."""
    teams = read_published()[1]
    made = {"expl1_2023": 0.145, "posel1_2023": 0.090, "vd_exp_sum": 3.0}
    scores = [score(value, "HSP", replace(KEY, metric=metric, data=DATA_2023)) for metric, value in made.items()]
    places, from_zero = challenge_rankings(scores, "test", teams)
    assert places.metrics == ("ExpL1", "PoseL1") and places.results == {"HSP": 2 + 4}
    assert places.teams == {"HSP (published)": 2, "Robo Space (published)": 3 + 2, "ilearn (published)": 4 + 3}
    assert from_zero.results == {"HSP": 4}
    of_2022 = [score(0.12, "ours", replace(KEY, metric="expfd_l1_2022", data=DATA_2022))]
    (first,) = challenge_rankings(of_2022, "test", teams)
    assert first.metrics == ("ExpFD",) and first.results == {"ours": 0} and first.teams["PCHG (published)"] == 1
    other = [replace(one, key=replace(one.key, data="vico")) for one in scores]
    assert challenge_rankings(other, "test", teams) == [] == challenge_rankings(scores, "ood", teams)
