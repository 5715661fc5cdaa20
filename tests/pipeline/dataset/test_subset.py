"""Subsets: data sets of their own, sound, with all that their clips have, or nothing at all."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import read_clips, read_description
from pipeline.dataset.subset import write_subset
from schemas.dataset import SUBSET
from schemas.errors import UserError
from tests.labs.toy_build import ToyProject
from tests.pipeline.dataset.test_write import HEAVY

CHOSEN = ("a_000001_000003", "b_000000_000002")  # of the three clips that a toy build publishes
CONDITION = "attitude != 'positive' or mean(wave[1]) > 35"


@pytest.fixture
def data(tmp_path) -> Path:
    project = ToyProject(tmp_path)
    project.add_stage("mesh", HEAVY)
    project.write_clips(["a,0,1,left,positive,p,q,train", "a,1.5,2.5,left,neutral,p,q,train", "b,0,2,right,,r,s,ood"])
    project.build()
    return tmp_path / "out"


def values(root: Path) -> dict[str, dict[str, object]]:
    """Everything that the shards hold of each clip, as Python has it."""
    tables = [pq.read_table(path) for path in sorted((root / "shards").glob("*"))]
    return {row["clip_id"]: row for table in tables for row in table.to_pylist()}


def test_a_subset_is_a_sound_data_set_with_all_that_its_clips_have(data, tmp_path) -> None:
    found = write_subset(data, CONDITION, tmp_path / "sub")
    assert list(check_dataset(tmp_path / "sub")) == []
    assert list(check_dataset(data)) == []
    before, after = values(data), values(tmp_path / "sub")
    assert sorted(after) == sorted(CHOSEN)
    assert after == {clip: before[clip] for clip in CHOSEN}
    assert found == read_description(tmp_path / "sub")
    assert (found.kind, found.wanted, found.published, [*found.sources]) == (SUBSET, 2, 2, ["a", "b"])
    for clip in CHOSEN:
        note = f"media/{clip}/note.txt"
        assert (tmp_path / "sub" / note).read_bytes() == (data / note).read_bytes()
    heavy = [pq.read_table(path) for path in (tmp_path / "sub").glob("columns/mesh/*.parquet")]
    assert sorted(clip for table in heavy for clip in table["clip_id"].to_pylist()) == sorted(CHOSEN)


def test_the_card_and_the_description_say_what_was_chosen(data, tmp_path) -> None:
    write_subset(data, CONDITION, tmp_path / "sub")
    card = (tmp_path / "sub" / "README.md").read_text()
    assert "2 of the 3 clips of `toy`" in card and f"```\n{CONDITION}\n```" in card
    write_subset(tmp_path / "sub", "split == 'ood'", tmp_path / "less")
    chosen = read_description(tmp_path / "less").chosen
    assert (chosen.of, chosen.clips, chosen.where) == ("toy", 3, f"({CONDITION}) and (split == 'ood')")
    assert list(check_dataset(tmp_path / "less")) == []


def test_the_same_choice_gives_the_same_bytes(data, tmp_path) -> None:
    for place in ("one", "two"):
        write_subset(data, CONDITION, tmp_path / place / "sub")
    files = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) > 9
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_what_is_withdrawn_is_not_chosen_and_can_be_withdrawn_later(data, tmp_path) -> None:
    (data / "takedown.txt").write_text("r\n")  # the speaker of clip b
    write_subset(data, CONDITION, tmp_path / "sub")
    assert [*values(tmp_path / "sub")] == [CHOSEN[0]]
    assert not (tmp_path / "sub" / "media" / CHOSEN[1]).exists()
    (tmp_path / "sub" / "takedown.txt").write_text("r\np\n")
    assert list(read_clips(tmp_path / "sub")) == []


def test_linked_media_are_the_same_files(data, tmp_path) -> None:
    write_subset(data, CONDITION, tmp_path / "sub", link=True)
    write_subset(data, CONDITION, tmp_path / "copy")
    note = f"media/{CHOSEN[0]}/note.txt"
    assert os.path.samefile(tmp_path / "sub" / note, data / note)
    assert not os.path.samefile(tmp_path / "copy" / note, data / note)
    assert list(check_dataset(tmp_path / "sub")) == []


def test_a_subset_that_fails_leaves_nothing(data, tmp_path) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match="holds for none; attitude is neutral, positive"):
        write_subset(data, "attitude == 'postive'", tmp_path / "sub")
    (data / "media" / CHOSEN[1] / "note.txt").write_text("another")
    with pytest.raises(UserError, match=r"note.txt: damaged"):
        write_subset(data, CONDITION, tmp_path / "sub")
    assert sorted(tmp_path.iterdir()) == before


def test_what_stands_there_is_not_written_over(data, tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    write_subset(data, CONDITION, tmp_path / "sub")  # an empty folder is no harm
    with pytest.raises(UserError, match="something already"):
        write_subset(data, CONDITION, tmp_path / "sub")
    assert list(check_dataset(tmp_path / "sub")) == []
