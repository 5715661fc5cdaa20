"""Shards as others see them: pandas, pyarrow, datasets and Ray read them without our code."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from pipeline.build import Build, BuildOptions
from pipeline.dataset.read import read_description
from pipeline.dataset.store import Store, how_to_write
from pipeline.manifest.load import load_manifest
from pipeline.manifest.write import PairClip, write_pairs
from pipeline.part import run_here
from pipeline.registry import find_stages
from schemas.column import Column
from schemas.errors import UserError
from tests.labs.toy_build import ToyProject, computed

HEAVY = '''"""A heavy column."""
import numpy as np
from pipeline.stage import Stage
from schemas.column import Column


class Mesh(Stage):
    reads = ("wave",)
    writes = (Column("mesh", "float32", ("frame", 100, 3), unit="px", meaning="points", heavy=True),)

    def process(self, clip):
        return {"mesh": np.zeros((clip.num_frames, 100, 3), np.float32)}
'''


@pytest.fixture
def toy(tmp_path) -> ToyProject:
    project = ToyProject(tmp_path)
    project.add_stage("mesh", HEAVY)
    return project


def schema_of(toy: ToyProject) -> pa.Schema:
    return pq.read_schema(toy.folder / "out" / "shards" / "ood-00000-of-00001.parquet")


def test_pandas_reads_a_row_a_clip(toy: ToyProject) -> None:
    toy.build()
    clips = pd.read_parquet(toy.folder / "out" / "shards" / "train-00000-of-00001.parquet")
    assert clips.clip_id.tolist() == ["a_000000_000001", "a_000001_000003"]
    np.testing.assert_array_equal(np.stack(clips.wave[0]), np.arange(60, dtype=np.float32).reshape(30, 2))


def test_pyarrow_reads_the_folder_with_explicit_types(toy: ToyProject) -> None:
    toy.build()
    table = pa.dataset.dataset(toy.folder / "out" / "shards").to_table()
    assert table.num_rows == 3
    assert table.schema.field("wave").type.equals(pa.list_(pa.list_(pa.float32(), 2)))
    assert not any(isinstance(field.type, pa.BaseExtensionType) for field in table.schema)
    assert table["attitude"].to_pylist().count(None) == 1


def test_hugging_face_datasets_reads_the_data_set_by_its_card(toy: ToyProject, tmp_path) -> None:
    import datasets

    toy.build()
    loaded = datasets.load_dataset(str(toy.folder / "out"), cache_dir=str(tmp_path / "cache"))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 2, "ood": 1}
    assert np.asarray(loaded["train"][0]["wave"]).shape == (30, 2)


@pytest.mark.usefixtures("ray_local")
def test_ray_data_reads_the_shards(toy: ToyProject) -> None:
    import ray

    toy.build()
    rows = ray.data.read_parquet(str(toy.folder / "out" / "shards")).take_all()
    assert sorted(row["clip_id"] for row in rows) == ["a_000000_000001", "a_000001_000003", "b_000000_000002"]


def test_heavy_columns_are_packed_on_request_alone_and_carry_axes_unit_and_meaning(toy: ToyProject) -> None:
    toy.build()
    assert "mesh" not in schema_of(toy).names
    report = toy.build(options=BuildOptions({"pack": {"include": ["mesh"]}}))
    assert computed(report) == {}
    field = schema_of(toy).field("mesh")
    assert field.metadata == {b"axes": b"(frame, 100, 3)", b"unit": b"px", b"meaning": b"points"}
    with pytest.raises(UserError, match="no column 'mash'; heavy columns: mesh"):
        toy.build(options=BuildOptions({"pack": {"include": ["mash"]}}))


def test_shards_are_bounded_in_size_sorted_and_numbered(toy: ToyProject) -> None:
    toy.write_clips([f"a,{n},{n + 2},left,neutral,p,q,train" for n in range(40)])
    options = BuildOptions({"pack": {"include": ["mesh"], "max_shard_mb": 1}})
    toy.build(options=options)
    paths = sorted((toy.folder / "out" / "shards").glob("*.parquet"))
    tables = [pq.read_table(path) for path in paths]
    assert [path.name for path in paths] == [f"train-{n:05d}-of-{len(paths):05d}.parquet" for n in range(len(paths))]
    assert len(paths) > 1
    assert all(table.nbytes <= 1.1e6 for table in tables)
    ids = [clip_id for table in tables for clip_id in table["clip_id"].to_pylist()]
    assert ids == sorted(ids)
    assert len(ids) == 40
    toy.build()
    assert [path.name for path in (toy.folder / "out" / "shards").iterdir()] == ["train-00000-of-00001.parquet"]


def test_shards_and_the_ledger_are_what_arrow_writes_of_the_whole_table_at_once(toy: ToyProject) -> None:
    toy.write_clips([f"a,{n},{n + 1 + n % 2},left,{'neutral' * (n % 3 > 0)},p,q,train" for n in range(70)])
    toy.build()
    shard = toy.folder / "out" / "shards" / "train-00000-of-00001.parquet"
    told = {"row_group_size": 32, **how_to_write(pq.read_schema(shard))}
    ledger = {"write_page_checksum": True}
    for path, options in ((shard, told), (toy.folder / "out" / "ledger" / "clips.parquet", ledger)):
        table = pq.ParquetFile(path).read().combine_chunks()
        pq.write_table(table, toy.folder / "whole.parquet", **options)
        assert path.read_bytes() == (toy.folder / "whole.parquet").read_bytes()


def test_real_numbers_stand_byte_by_byte_apart_and_words_in_dictionaries(toy: ToyProject) -> None:
    schema = pa.schema(
        [
            pa.field("clip_id", pa.string()),
            Column("points", "float32", ("frame", 4, 3)).field(),
            Column("level", "float64").field(),
            Column("words", pa.struct([("text", pa.string()), ("start_s", pa.float32())]), ("word",)).field(),
        ]
    )
    said = [{"text": word, "start_s": 0.25} for word in ("yes", "yes", "no")]
    row = {"clip_id": "a", "points": np.arange(24.0).reshape(2, 4, 3).tolist(), "level": 0.5, "words": said}
    path = toy.folder / "columns.parquet"
    Store(toy.folder).write_rows(path, pa.Table.from_pylist([row], schema))
    group = pq.read_metadata(path).row_group(0)
    kinds = {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}
    assert len(kinds) == 5
    for name, column in kinds.items():
        is_real = column.physical_type in ("FLOAT", "DOUBLE")
        assert ("BYTE_STREAM_SPLIT" in column.encodings) == is_real, name
        assert column.has_dictionary_page != is_real, name
    assert pq.read_table(path).to_pylist() == [row]


def test_the_card_counts_as_the_papers_table_2_and_lists_what_is_missing(toy: ToyProject) -> None:
    clips = ("0,1,left,positive,p,q", "1,2,right,positive,q,p", "2,3.5,left,negative,p,r", "4,9,left,negative,p,r")
    toy.write_clips([f"a,{clip},train" for clip in clips])
    toy.build()
    card = (toy.folder / "out" / "README.md").read_text()
    assert "| positive | 1 | 2 | 2 | 2 | 2 | 0 min 2.0 s |" in card  # videos, speakers, listeners, ids, clips
    assert "| negative | 1 | 1 | 1 | 2 | 1 | 0 min 1.5 s |" in card
    assert "| total | 1 | 2 | 3 | 3 | 3 | 0 min 3.5 s |" in card
    assert "| a_000004_000009 | wave | rejected | too_long | 150 frames, at most 60 |" in card
    assert "| a | a.bin | none |" in card


def test_the_card_counts_films_and_not_the_pairs_that_were_cut_from_them(toy: ToyProject) -> None:
    files = {"speaker": toy.folder / "a.bin", "listener": toy.folder / "b.bin", "audio": toy.folder / "a.bin"}
    labels = ("positive", "p", "q", "train")
    pairs = [PairClip(f"clip{i}", 30, files, labels, "none", film) for i, film in enumerate(("film", "film", ""))]
    write_pairs(toy.folder / "pairs.toml", {"name": "pairs", "clips": "pairs.csv"}, pairs)
    codes = find_stages(list(toy.stages.values()), folder=toy.folder / "none")
    build = Build(load_manifest(toy.folder / "pairs.toml"), toy.folder / "out", codes, BuildOptions())
    build.run(build.survey(), run_here)
    assert "| total | 2 | 1 | 1 | 2 | 3 | 0 min 3.0 s |" in (toy.folder / "out" / "README.md").read_text()
    sources = read_description(toy.folder / "out").sources
    assert [sources[f"clip{i}"].video for i in range(3)] == ["film", "film", ""]
