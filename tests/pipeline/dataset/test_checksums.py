"""Lists of checksums are streams: the same bytes, order and memory however many files there are."""

from __future__ import annotations

import hashlib
import os
import random
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import checksums
from pipeline.dataset.checksums import LIST, WRITTEN, Checksum, files_below, notes, rows_of, told, write_list
from pipeline.dataset.damage import MISSING, find_damage

MANY = 50_000


def rows(count: int) -> list[tuple[str, Checksum]]:
    names = sorted(f"media/clip_{number}/{file}" for number in range(count // 2) for file in ("audio.wav", "speaker"))
    return [(name, Checksum(len(name), hashlib.sha256(name.encode()).hexdigest())) for name in names]


def test_a_list_is_what_arrow_writes_of_the_whole_table_at_once(tmp_path: Path) -> None:
    wanted = rows(20_000)
    lines = b"".join(f"{name} {own.bytes} ".encode() + bytes.fromhex(own.sha256) + b"\n" for name, own in wanted)
    columns = zip(*((name, own.bytes, bytes.fromhex(own.sha256)) for name, own in wanted), strict=True)
    schema = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("sha256", pa.binary(32))])
    table = pa.table([list(column) for column in columns], schema=schema)
    table = table.replace_schema_metadata({"rows": hashlib.sha256(lines).hexdigest()})
    whole = tmp_path / "whole.parquet"
    pq.write_table(table, whole, compression="zstd", row_group_size=8192, write_page_checksum=True)
    write_list(iter(wanted), tmp_path / LIST)
    assert (tmp_path / LIST).read_bytes() == whole.read_bytes()
    assert list(rows_of(tmp_path / LIST)) == wanted


def test_what_is_looked_for_of_many_files_is_not_in_memory_together(tmp_path: Path) -> None:
    write_list(iter(rows(MANY)), tmp_path / LIST)
    lost = find_damage(tmp_path, quick=True)
    next(lost)
    tracemalloc.start()
    assert sum(one.kind == MISSING for one in lost) == MANY - 1
    assert tracemalloc.get_traced_memory()[1] < 4e6  # bytes: 8192 rows of the list and 1024 of what is damaged
    tracemalloc.stop()


def test_files_come_in_order_of_their_whole_names(tmp_path: Path) -> None:
    names = ["media/a/z.mp4", "media/a.txt", "media/a-1/x", "media/ab", "media/b/é", "media/b/z", "x", "B/1", "a!"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [name for name, _ in files_below(tmp_path)] == sorted(names)
    (tmp_path / ".tmp").mkdir()
    (tmp_path / ".tmp" / "half").touch()
    os.symlink(tmp_path, tmp_path / "y")
    assert [name for name, _ in files_below(tmp_path)] == [*sorted(names), "y"]


@pytest.mark.parametrize("at_once", [1, 7, 50, 1000])
def test_notes_of_all_journals_come_in_order_and_of_a_file_the_latest_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(checksums, "NOTES_AT_ONCE", at_once)
    chance = random.Random(at_once)
    (tmp_path / WRITTEN).mkdir(parents=True)
    written: dict[str, list[Checksum]] = {}
    for part in range(10):
        names = [f"media/{chance.randrange(3)}-{part}" for _ in range(10)] + [f"columns/part-{part}"]
        noted = [(name, Checksum(number, f"{number:064x}")) for number, name in enumerate(names)]
        for name, checksum in noted:
            written.setdefault(name, []).append(checksum)
        text = "".join(checksum.line(name) for name, checksum in noted)
        (tmp_path / WRITTEN / f"part-{part:05d}.jsonl").write_text(text + '{"path": "torn')
    assert {one.name: list(one.noted) for one in told(tmp_path, None, {})} == written
    assert [name for name, _ in notes(tmp_path)] == sorted(name for name, of_one in written.items() for _ in of_one)
