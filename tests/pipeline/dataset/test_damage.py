"""Whatever happens to a file of a data set at rest is found, named, and undone to the same bytes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import build, check, repair, status
from pipeline.build import BuildOptions
from pipeline.dataset import damage as kinds
from pipeline.dataset.check import check_dataset
from pipeline.dataset.checksums import LIST, LISTS, Checksum, rows_of, sound_list, write_list
from pipeline.dataset.damage import clear_damage, find_damage
from pipeline.dataset.read import ClipTable, media_file, read_clips
from pipeline.dataset.store import Store
from pipeline.part import Done, run_here
from schemas.errors import UserError
from tests.labs.rot import contents, cut, damage, flip, lose, zero
from tests.labs.toy_build import ToyProject

ROUNDS, AT_ONCE = 10, 5  # a seed


@pytest.fixture
def toy(tmp_path: Path) -> ToyProject:
    project = ToyProject(tmp_path)
    project.build()
    return project


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_to_any_files_is_found_named_and_undone_to_the_same_bytes(toy: ToyProject, seed: int) -> None:
    root, chance = toy.folder / "out", random.Random(seed)
    undisturbed = contents(root)
    for round_number in range(ROUNDS):
        hit = damage(root, chance, AT_ONCE)
        told = f"seed {seed}, round {round_number}: {hit}"
        found = list(find_damage(root))
        assert {one.name for one in found} == {*hit}, told
        clear_damage(Store(root), found)
        toy.build()
        assert contents(root) == undisturbed, told
        assert list(find_damage(root)) == [], told


def test_what_is_cut_off_or_lost_is_found_by_size_and_the_next_build_computes_it_and_nothing_else(
    toy: ToyProject,
) -> None:
    root = toy.folder / "out"
    undisturbed = contents(root)
    cut(root / "media/a_000000_000001/note.txt", random.Random(0))
    lose(root / "media/b_000000_000002/note.txt", random.Random(0))
    found = {one.name: one.kind for one in find_damage(root, quick=True)}
    assert found == {
        "media/a_000000_000001/note.txt": kinds.SHORT,
        "media/b_000000_000002/note.txt": kinds.MISSING,
    }
    done: list[Done] = []

    def watched(*work: Any) -> Iterator[list[Done]]:
        for of_part in run_here(*work):
            done.extend(of_part)
            yield of_part

    toy.build(runner=watched)
    assert sorted((one.stage, one.clip_id) for one in done) == [
        ("peak", "a_000000_000001"),
        ("peak", "b_000000_000002"),
    ]
    assert contents(root) == undisturbed


def test_a_column_file_whose_footer_is_damaged_is_computed_again_though_its_size_is_right(toy: ToyProject) -> None:
    root = toy.folder / "out"
    undisturbed = contents(root)
    for name in ("columns/wave/part-00000.parquet", "columns/peak/part-00001.parquet"):
        (root / name).write_bytes(undisturbed[name][:-4] + b"RAP1")
    build = toy.prepare()
    build.run(build.survey(), run_here)
    assert [one.detail for one in build.mended] == [kinds.NO_FOOTER] * 2
    assert contents(root) == undisturbed


def test_exchanged_foreign_and_older_files_are_told_apart(toy: ToyProject) -> None:
    root = toy.folder / "out"
    one, other = root / "media/a_000000_000001/note.txt", root / "media/a_000001_000003/note.txt"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    (root / "media/a_000000_000001/Thumbs.db").write_bytes(b"left by a file manager")
    found = {one.name: one for one in find_damage(root)}
    assert {one.kind for one in found.values()} == {kinds.EXCHANGED, kinds.FOREIGN}
    assert "media/a_000001_000003/note.txt" in found["media/a_000000_000001/note.txt"].detail
    cleared = clear_damage(Store(root), found.values())
    assert {one.kind for one in cleared} == {kinds.EXCHANGED}
    toy.build()
    assert (one.read_bytes(), other.read_bytes()) == (first, second)
    assert [one.kind for one in find_damage(root)] == [kinds.FOREIGN]  # never blessed by a build


def test_what_is_no_file_in_a_file_s_place_is_never_opened_and_is_undone(
    toy: ToyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    root = toy.folder / "out"
    undisturbed = contents(root)
    note, columns, shard, diary = (
        root / "media/a_000000_000001/note.txt",
        root / "columns/wave/part-00000.parquet",
        root / "shards/train-00000-of-00001.parquet",
        root / "ledger/attempts/part-00001.jsonl",
    )
    columns.rename(toy.folder / "elsewhere")
    for path in (note, shard, diary):
        path.unlink()
    note.symlink_to(note)  # a circle
    columns.symlink_to(toy.folder / "elsewhere")
    os.mkfifo(shard)
    os.mkfifo(diary)
    for how in ([], ["--quick"]):
        assert check.main([str(root), *how]) == 1
        told = capsys.readouterr().out
        assert all(f"{path.relative_to(root)}: {kinds.REPLACED}" in told for path in (note, columns, shard, diary))
    toy.build()
    assert contents(root) == undisturbed
    assert list(find_damage(root)) == []


@pytest.mark.parametrize("name", ["media", "columns/wave/part-00000.parquet"])
def test_what_stands_in_the_way_of_a_file_is_refused_before_anything_is_cleared(toy: ToyProject, name: str) -> None:
    root = toy.folder / "out"
    shutil.move(root / name, toy.folder / "elsewhere")
    if name == "media":
        (root / name).write_text("somebody's")
    else:
        (root / name).mkdir()
    flip(root / "README.md", random.Random(0))
    left = contents(root)
    with pytest.raises(UserError, match=f"{name}: stands where .* must stand; move it elsewhere.*jobs.repair"):
        clear_damage(Store(root), list(find_damage(root)))
    assert contents(root) == left


def test_an_older_file_that_is_put_back_with_its_checksum_is_found_and_undone(toy: ToyProject) -> None:
    toy.build("older", BuildOptions({"wave": {"gain": 2.0}}))
    here = ("--address", "none", "--workers", "1")
    assert build.main(toy.arguments("out", *here)) == 0
    root = toy.folder / "out"
    undisturbed = contents(root)
    for name in ("shards/train-00000-of-00001.parquet", "columns/wave/part-00000.parquet", "dataset.json"):
        shutil.copy(toy.folder / "older" / name, root / name)
        listed = dict(rows_of(sound_list(root))) | {name: Checksum.of(root / name)}
        for listing in LISTS:
            write_list(sorted(listed.items()), root / listing)
        assert list(find_damage(root)) == []
        assert check.main([str(root)]) == 1, name
        assert repair.main([str(root), *here]) == 0, name
        assert contents(root) == undisturbed, name
        assert check.main([str(root)]) == 0, name


def test_what_no_program_of_ours_has_written_into_the_ledger_is_a_sentence(
    toy: ToyProject, capsys: pytest.CaptureFixture[str]
) -> None:
    root = toy.folder / "out"
    notes = root / "ledger/written"
    notes.mkdir()
    (notes / "build.jsonl").write_bytes(b'\xff\n[1]\n"x"\n{"path": 3, "bytes": "a", "sha256": null}\n' + b"[" * 9999)
    pq.write_table(pa.table({"x": [1]}), root / "ledger/clips.parquet")
    (root / "ledger/started.json").write_text("[1]")
    (root / "takedown.txt").write_bytes(b"\xff\xfe")
    assert status.main([str(root)]) == 2
    assert "started.json: cannot be read" in capsys.readouterr().err
    assert check.main([str(root)]) == 1
    told = capsys.readouterr().out
    assert "clips.parquet: cannot be read" in told and "takedown.txt: not UTF-8" in told


def test_a_diary_whose_bits_are_flipped_is_listed_as_it_is_once_it_was_named(toy: ToyProject) -> None:
    root = toy.folder / "out"
    flip(root / "ledger/attempts/part-00000.jsonl", random.Random(1))
    (found,) = find_damage(root)
    clear_damage(Store(root), [found])
    toy.build()
    assert list(find_damage(root)) == []


def test_a_flipped_bit_names_column_and_clips(toy: ToyProject) -> None:
    root = toy.folder / "out"
    path = root / "shards/train-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    content[4 + content[4:].index(b"\x28\xb5\x2f\xfd") + 20] ^= 1  # in the first compressed page
    path.write_bytes(content)
    (found,) = find_damage(root)
    assert "column clip_id" in found.detail
    with pytest.raises(UserError, match="column clip_id.*jobs.repair"):
        list(read_clips(root))


@pytest.mark.parametrize("seed", range(2))
def test_whatever_bit_of_a_parquet_file_is_flipped_readers_refuse_it_by_its_name(toy: ToyProject, seed: int) -> None:
    """Arrow does not notice all that hits what stands between pages, and answers some with errors of Python's own."""
    root, chance = toy.folder / "out", random.Random(seed)
    shard, columns = "shards/train-00000-of-00001.parquet", "columns/peak/part-00000.parquet"
    readers: dict[str, tuple[Callable[[], object], ...]] = {
        shard: (lambda: list(read_clips(root, ["peak"])), lambda: ClipTable(root / shard)),
        columns: (lambda: Store(root).read_table("peak", "part-00000", ["peak"]), lambda: ClipTable(root / columns)),
    }
    for name, reads in readers.items():
        path, whole = root / name, (root / name).read_bytes()
        for place in chance.sample(range(len(whole)), 150):
            content = bytearray(whole)
            content[place] ^= 0x80 if place % 2 else 1 << chance.randrange(8)  # what is no UTF-8, every other time
            path.write_bytes(content)
            assert [one.name for one in find_damage(root)] == [name], place
            for read in reads:
                with pytest.raises(UserError, match=name) as caught:
                    read()
                assert "jobs.repair" in str(caught.value), place
        path.write_bytes(whole)
    assert list(check_dataset(root)) == []


def test_a_film_that_is_not_what_was_written_is_refused_by_its_clips_name(toy: ToyProject) -> None:
    root = toy.folder / "out"
    name = "media/a_000000_000001/note.txt"
    assert media_file(root, name).is_file()
    flip(root / name, random.Random(0))
    with pytest.raises(UserError, match="a_000000_000001/note.txt: damaged.*jobs.repair"):
        media_file(root, name)
    toy.add_stage("reader", READER)
    with pytest.raises(UserError, match="a_000000_000001/note.txt: damaged"):
        toy.build()


READER = '''"""Reads a file that another stage has written."""
from pipeline.stage import Stage
from schemas.column import Column


class Reader(Stage):
    reads = ("note",)
    writes = (Column("letters", "int32"),)

    def process(self, clip):
        return {"letters": len((clip.root / clip["note"]).read_text())}
'''


@pytest.mark.parametrize("name", ["ledger/parts.json", "ledger/sources.json"])
def test_a_build_believes_no_table_of_its_own_that_is_not_what_was_written(toy: ToyProject, name: str) -> None:
    path = toy.folder / "out" / name
    undisturbed = path.read_bytes()
    for content in (b"\xff" + undisturbed[1:], undisturbed.replace(b"a", b"b", 1)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"{path.name}: damaged.*jobs.repair"):
            toy.build()


def test_a_build_writes_anew_what_no_longer_is_text(toy: ToyProject) -> None:
    path = toy.folder / "out" / "README.md"
    undisturbed = path.read_bytes()
    path.write_bytes(b"\xff" + undisturbed[1:])
    toy.build()
    assert path.read_bytes() == undisturbed


def test_a_withdrawal_from_a_damaged_file_of_columns_is_refused_by_its_name(toy: ToyProject) -> None:
    path = toy.folder / "out/columns/wave/part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[content.rindex(b"\x28\xb5\x2f\xfd") + 20] ^= 1  # in the last compressed page, the wave's
    path.write_bytes(content)
    (toy.folder / "out/takedown.txt").write_text("a_000000_000001\n")
    with pytest.raises(UserError, match=r"part-00000.parquet: damaged.*jobs.repair"):
        toy.build()


def test_of_a_part_that_was_withdrawn_whole_nothing_is_left_that_no_build_would_write_again(toy: ToyProject) -> None:
    root = toy.folder / "out"
    (root / "takedown.txt").write_text("b\n")
    toy.build()
    undisturbed = contents(root)
    for path in root.glob("columns/*/*.parquet"):
        path.write_bytes(b"")
    clear_damage(Store(root), list(find_damage(root)))
    toy.build()
    assert contents(root) == undisturbed


def test_a_film_that_an_unfinished_build_has_written_and_somebody_deleted_is_made_again(toy: ToyProject) -> None:
    toy.add_stage("stops", STOPS)
    with pytest.raises(OSError, match="No space left"):
        toy.build("stopped")
    lost = toy.folder / "stopped/media/a_000000_000001/note.txt"
    lose(lost, random.Random(0))
    (found,) = find_damage(toy.folder / "stopped")
    assert (found.clip_id, found.kind) == ("a_000000_000001", kinds.MISSING)
    with pytest.raises(OSError, match="No space left"):
        toy.build("stopped")
    assert lost.is_file()


STOPS = '''"""Finds the disk full."""
import errno
import os
from pipeline.stage import Stage
from schemas.column import Column


class Stops(Stage):
    reads = ("note",)
    writes = (Column("letters", "int32"),)

    def process_part(self, clips):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
'''


def test_a_data_set_from_before_the_lists_says_so_and_gets_them(toy: ToyProject) -> None:
    root = toy.folder / "out"
    for folder in (root, root / "ledger"):
        (folder / LIST).unlink()
    (found,) = find_damage(root)
    assert found.name == LIST and "--adopt" in found.detail
    Store(root).seal(adopt=True)
    assert list(find_damage(root)) == []


def test_both_lists_damaged_is_a_sentence(toy: ToyProject, capsys: pytest.CaptureFixture[str]) -> None:
    root = toy.folder / "out"
    for folder in (root, root / "ledger"):
        zero(folder / LIST, random.Random(0))
    assert check.main([str(root)]) == 2
    assert "the lists of checksums are damaged" in capsys.readouterr().err


def test_a_cut_description_is_a_finding(toy: ToyProject, capsys: pytest.CaptureFixture[str]) -> None:
    root = toy.folder / "out"
    cut(root / "dataset.json", random.Random(1))
    assert check.main([str(root)]) == 1
    assert "dataset.json: cut off" in capsys.readouterr().out


def test_checksums_are_those_of_an_independent_program(toy: ToyProject) -> None:
    root = toy.folder / "out"
    listed = dict(rows_of(sound_list(root)))
    lines = "".join(f"{checksum.sha256}  {name}\n" for name, checksum in listed.items())
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet"], input=lines, text=True, cwd=root, check=True)
    sizes = {name: checksum.bytes for name, checksum in listed.items()}
    assert sizes == {name: os.path.getsize(root / name) for name in sizes}


def test_a_folder_that_was_moved_or_copied_is_sound(toy: ToyProject) -> None:
    shutil.copytree(toy.folder / "out", toy.folder / "copy")
    assert list(find_damage(toy.folder / "copy")) == []
