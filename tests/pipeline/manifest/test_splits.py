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
        (row("d", "s1", None, None, 7), "source 's1' stands in both"),
    ],
)
def test_a_leak_between_train_and_ood_names_both_rows(ood: ClipRow, expected: str) -> None:
    both_known = ood.speaker_id is not None
    clips = [row("c", "s1", "p1", "p2") if both_known else row("c", "s1", None, None), ood]
    with pytest.raises(UserError, match=expected):
        check_splits(Path("clips.csv"), clips, {"c": "train", "d": "ood"})


@pytest.mark.parametrize(
    ("others", "said"),
    [([(1, 1, 3)], ("line 3", "'p3'")), ([(1, 1, 3), (1, 4, 2), (1, 5, 6)], ("3 test clips", "first line 3"))],
)
def test_test_identities_that_train_never_shows_are_one_warning_with_the_number_of_clips(others, said) -> None:
    clips = rows_of([(1, 1, 2), *others])
    splits = {clip.clip_id: "test" for clip in clips} | {"c0": "train"}
    (warning,) = check_splits(Path("clips.csv"), clips, splits)
    assert all(text in warning for text in said)


@pytest.mark.parametrize(
    ("train", "ood", "counts"),
    [((1, 2), (-1, 9), "0 clips of train and 1 of ood"), ((1, -1), (8, 9), "1 clips of train and 0 of ood"),
     ((-1, -1), (8, -1), "1 clips of train and 1 of ood")],
)  # fmt: skip
def test_unknown_people_beside_train_and_ood_are_one_warning(train, ood, counts: str) -> None:
    clips = rows_of([(1, *train), (2, *ood)])
    (warning,) = check_splits(Path("clips.csv"), clips, {"c0": "train", "c1": "ood"})
    assert counts in warning


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
