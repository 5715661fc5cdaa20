"""The ViCo rule: test shows people of train, ood shows none of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import Span
from pipeline.manifest.clips_csv import ClipRow
from pipeline.manifest.splits import SplitRule, check_splits, derive_splits
from schemas.errors import UserError


def row(clip_id: str, source_id: str, speaker_id: str | None, listener_id: str | None, line: int = 2) -> ClipRow:
    span = Span(Fraction(0), Fraction(1))
    return ClipRow(clip_id, source_id, span, "left", None, speaker_id, listener_id, split="", line=line)


def rows_of(triples: list[tuple[int, int, int]]) -> list[ClipRow]:
    named = [(s, *(f"p{person}" if person >= 0 else None for person in people)) for s, *people in triples]
    return [row(f"c{i}", f"s{s}", a, b, i + 2) for i, (s, a, b) in enumerate(named)]


@pytest.mark.parametrize(
    ("ood", "expected"),
    [
        (row("d", "s9", "p1", "p9", 7), "lines 2 and 7: identity 'p1' stands in both train and ood"),
        (row("d", "s1", "p8", "p9", 7), "lines 2 and 7: source 's1' stands in both train and ood"),
        (row("d", "s9", "p9", "p2", 7), "lines 2 and 7: identity 'p2'"),
    ],
)
def test_a_leak_between_train_and_ood_names_both_rows(ood: ClipRow, expected: str) -> None:
    clips = [row("c", "s1", "p1", "p2"), ood]
    with pytest.raises(UserError, match=expected):
        check_splits(Path("clips.csv"), clips, {"c": "train", "d": "ood"})


def test_a_test_identity_that_train_never_shows_is_a_warning() -> None:
    clips = [row("c", "s1", "p1", "p2"), row("d", "s1", "p1", "p3", 3)]
    (warning,) = check_splits(Path("clips.csv"), clips, {"c": "train", "d": "test"})
    assert "line 3" in warning
    assert "'p3'" in warning


def test_a_warning_comes_once_with_the_number_of_its_clips() -> None:
    clips = rows_of([(1, 1, 2), (1, 1, 3), (1, 4, 2), (1, 5, 6)])
    (warning,) = check_splits(Path("clips.csv"), clips, {"c0": "train", "c1": "test", "c2": "test", "c3": "test"})
    assert "3 test clips" in warning
    assert "first line 3" in warning


@pytest.mark.parametrize(
    ("train", "ood", "counts"),
    [((1, 2), (-1, 9), "0 clips of train and 1 of ood"), ((1, -1), (8, 9), "1 clips of train and 0 of ood"),
     ((-1, -1), (8, -1), "1 clips of train and 1 of ood")],
)  # fmt: skip
def test_unknown_people_beside_train_and_ood_are_one_warning(train, ood, counts: str) -> None:
    clips = rows_of([(1, *train), (2, *ood)])
    (warning,) = check_splits(Path("clips.csv"), clips, {"c0": "train", "c1": "ood"})
    assert counts in warning


def test_a_source_of_unknown_people_may_not_stand_in_train_and_ood_either() -> None:
    same_source = [row("a", "s", None, None, 2), row("b", "s", None, None, 3)]
    with pytest.raises(UserError, match="source 's' stands in both"):
        check_splits(Path("clips.csv"), same_source, {"a": "train", "b": "ood"})


people = st.integers(0, 12)
data_sets = st.lists(st.tuples(st.integers(0, 8), people, people), min_size=1, max_size=60).map(rows_of)


@given(data_sets, st.randoms(use_true_random=False))
def test_derived_splits_keep_the_rule_whatever_the_data_and_its_order(clips: list[ClipRow], random) -> None:
    rule = SplitRule(test=0.2, ood=0.2, seed=3)
    splits = derive_splits(clips, rule)
    assert check_splits(Path("clips.csv"), clips, splits) == []
    assert sum(split == "ood" for split in splits.values()) <= 0.2 * len(clips)
    shuffled = clips.copy()
    random.shuffle(shuffled)
    assert derive_splits(shuffled, rule) == splits


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(-3, 12), st.integers(-1, 12)), min_size=1).map(rows_of))
def test_derived_splits_leave_clips_of_unknown_people_in_train(clips: list[ClipRow]) -> None:
    splits = derive_splits(clips, SplitRule(test=0.3, ood=0.3))
    unknown = [splits[clip.clip_id] for clip in clips if None in (clip.speaker_id, clip.listener_id)]
    assert set(unknown) <= {"train"}
    warned = bool(unknown) and "ood" in splits.values()
    assert len(check_splits(Path("clips.csv"), clips, splits)) == warned


def test_derived_shares_are_reached_when_the_people_allow_it() -> None:
    clips = rows_of([(i // 2, i // 2, 100 + i // 2) for i in range(200)])
    splits = list(derive_splits(clips, SplitRule(test=0.1, ood=0.2)).values())
    assert (splits.count("test"), splits.count("ood")) == (20, 40)


@pytest.mark.parametrize("table", [{"test": 1.5}, {"test": 0.6, "ood": 0.6}, {"dev": 0.1}, 0.1, {"test": True}])
def test_a_rule_that_cannot_be_is_refused(table: object) -> None:
    with pytest.raises(UserError, match="allowed: "):
        SplitRule.parse(table)
