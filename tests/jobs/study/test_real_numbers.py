"""jobs.study.real_numbers: folds that share no person, and figures that come out of all of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.study import real_numbers
from jobs.study.real_numbers import BEGIN, END, deal, main, write_docs
from pipeline.dataset.read import read_clips, read_description
from schemas.errors import UserError
from tests.labs.trainer import changed, small_set

PEOPLE = st.integers(0, 9).map(str)
CLIPS = st.lists(st.tuples(PEOPLE, PEOPLE, st.integers(1, 900)), min_size=1, max_size=30)


def as_rows(clips: list[tuple[str, str, int]]) -> list[dict[str, Any]]:
    names = ("speaker_id", "listener_id", "num_frames")
    return [{"clip_id": str(i), **dict(zip(names, clip, strict=True))} for i, clip in enumerate(clips)]


@given(CLIPS)
def test_nobody_is_in_two_folds_and_every_clip_is_in_one(clips: list[tuple[str, str, int]]) -> None:
    rows = as_rows(clips)
    try:
        folds = deal(rows, 2)
    except UserError:
        return
    assert folds.keys() == {row["clip_id"] for row in rows}
    seen = [{row[role] for row in rows if folds[row["clip_id"]] == fold for role in ("speaker_id", "listener_id")}
            for fold in range(2)]  # fmt: skip
    assert seen[0] and seen[1] and not seen[0] & seen[1]


def test_folds_are_as_long_as_each_other_where_people_allow_it() -> None:
    rows = as_rows([("a", "b", 300), ("b", "c", 300), ("d", "e", 500), ("f", "g", 200), ("h", "i", 100)])
    folds = deal(rows, 2)
    lengths = [sum(row["num_frames"] for row in rows if folds[row["clip_id"]] == fold) for fold in range(2)]
    assert sorted(lengths) == [700, 700]


def test_people_who_all_meet_cannot_be_dealt() -> None:
    with pytest.raises(UserError, match="expected 2 groups of people who never meet, found 1"):
        deal(as_rows([("a", "b", 1), ("b", "c", 1), ("c", "d", 1)]), 2)


@pytest.mark.slow
def test_a_study_trains_without_whom_it_predicts_and_goes_on_where_it_stopped(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dict.fromkeys(real_numbers.MEASURES, real_numbers.FEATURE_DISTANCES)  # metrics have tests of their own
    monkeypatch.setattr(real_numbers, "MEASURES", few)
    data = small_set(tmp_path / "small", clips=10, frames=600)
    for role in ("speaker", "listener"):  # nobody twice
        numbers = iter(range(99))
        data = changed(data, tmp_path / role, f"{role}_id", lambda name, own=role, each=numbers: f"{own}{next(each)}")
    out = tmp_path / "out"
    words = [str(data), "--out", str(out), "--minutes", "0.01", "--seeds", "1", "--listeners", "vico_lstm", "mirror"]
    assert main(words) == 0
    assert capsys.readouterr().out.count("vico_lstm, seed 0, fold") == 4
    for fold in range(4):
        run = json.loads((out / "runs" / "vico_lstm" / f"seed-0-fold-{fold}" / "run.json").read_text())
        assert list(run["data"]) == [str(out / "data" / f"fold-{fold}")]
        tested = {row["clip_id"] for row in read_clips(out / "data" / f"fold-{fold}", splits=["ood"])}
        assert {row["clip_id"] for row in read_clips(out / "said/vico_lstm" / f"seed-0-fold-{fold}")} == tested
    together = out / "said" / "vico_lstm" / "together" / "sample-00"
    assert sum(shard.clips for shard in read_description(together).shards) == 10
    shutil.rmtree(out / "said" / "vico_lstm" / "seed-0-fold-2")
    assert main(words) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if ", fold " in line][0].startswith(
        "vico_lstm, seed 0, fold 2"
    )
    for page in few:
        (tmp_path / f"{page}.md").write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    assert main([*words, "--docs", str(tmp_path)]) == 0
    table = (tmp_path / "vico_lstm.md").read_text()
    assert table.startswith(f"before\n{BEGIN}") and table.endswith(f"{END}\nafter\n")
    assert "| **`vico_lstm`** |" in table and "10 clips" in table


def test_a_page_without_marks_is_named(tmp_path: Path) -> None:
    (tmp_path / "vico_lstm.md").write_text("no marks")
    score = {"run": "vico_lstm", "metric": "fd_exp_eccv2022", "value": 1.0, "low": 0.5, "high": 2.0, "num_samples": 1}
    about = {"settings": {}, "epochs": {"vico_lstm": 3}, "clips": 2, "minutes": 1.0, "people": 4, "listeners": 2}
    about |= {"folds": 2, "fold_clips": [1, 1], "seeds": 1, "budget_minutes": 0.1}
    with pytest.raises(UserError, match="expected the marks"):
        write_docs({"about": about, "runs": ["vico_lstm"], "scores": [score]}, tmp_path)
