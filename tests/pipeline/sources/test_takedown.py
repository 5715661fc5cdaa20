"""Takedown: what is withdrawn leaves the files at the next build, and the reader at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import read_clips
from schemas.errors import UserError
from tests.labs.toy_build import ToyProject, computed


class Withdrawing(ToyProject):
    """A toy project whose manifest withdraws some ids."""

    takedown: tuple[str, ...] = ()

    @property
    def manifest(self) -> Path:
        path = super().manifest
        ids = ", ".join(f'"{name}"' for name in self.takedown)
        path.write_text(path.read_text().replace("min_yield = 0.5\n", f"min_yield = 0.2\ntakedown = [{ids}]\n"))
        return path


@pytest.fixture
def toy(tmp_path: Path) -> Withdrawing:
    return Withdrawing(tmp_path)


def published(root: Path) -> list[str]:
    return [row["clip_id"] for row in read_clips(root)]


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("a_000000_000001", ["a_000001_000003", "b_000000_000002"]),  # a clip
        ("b", ["a_000000_000001", "a_000001_000003"]),  # a source
        ("s", ["a_000000_000001", "a_000001_000003"]),  # a person
    ],
)
def test_what_the_manifest_withdraws_leaves_shards_files_and_columns(
    toy: Withdrawing, name: str, left: list[str]
) -> None:
    toy.build()
    toy.takedown = (name,)
    report = toy.build()
    root = toy.folder / "out"
    gone = {"a_000000_000001", "a_000001_000003", "b_000000_000002"} - set(left)
    assert published(root) == left and not computed(report)
    assert {path.name for path in (root / "media").iterdir()} == set(left)
    for path in root.rglob("*.parquet"):
        text = path.read_bytes() if path.name != "clips.parquet" else b""  # the ledger says who is withdrawn
        assert not [clip_id for clip_id in gone if clip_id.encode() in text], path
    assert any("rejected by takedown: withdrawn" in line for line in report.missing_lines())
    assert not list(check_dataset(root))


def test_a_line_beside_a_copy_of_the_shards_hides_a_clip_at_once(toy: Withdrawing) -> None:
    toy.build()
    root = toy.folder / "out"
    (root / "takedown.txt").write_text("# by letter\na_000000_000001  # asked on Monday\n")
    assert published(root) == ["a_000001_000003", "b_000000_000002"]
    toy.build()
    assert not (root / "media" / "a_000000_000001").exists(), "the next build removes what the copy's owner withdrew"
    assert "a_000000_000001" in (root / "takedown.txt").read_text()


def test_a_clip_can_come_back(toy: Withdrawing) -> None:
    root, toy.takedown = toy.folder / "out", ("b",)
    toy.build()
    (root / "takedown.txt").unlink()
    toy.takedown = ()
    assert computed(toy.build()) == {"wave": 1, "peak": 1} and "b_000000_000002" in published(root)


def test_values_come_with_their_shapes_and_a_column_that_is_not_there_names_those_that_are(toy: Withdrawing) -> None:
    toy.build()
    with pytest.raises(UserError, match="hold no column blink, only clip_id, .*wave"):
        list(read_clips(toy.folder / "out", ["blink"]))
    with pytest.raises(UserError, match="python -m jobs.build"):
        list(read_clips(toy.folder))
    row = next(read_clips(toy.folder / "out", ["wave", "note"]))
    assert row["wave"].shape == (30, 2) and row["wave"][-1].tolist() == [58, 59]
    assert (toy.folder / "out" / row["note"]).is_file()
