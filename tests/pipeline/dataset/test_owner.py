"""One owner of a data set: nobody else writes its shards, opens them or parses its description; all kinds are sound.

A re-extracted set and the build of a ViCo import are checked where they are made: tests/jobs/test_render.py and
tests/jobs/test_vico_layouts.py; the demo's in tests/test_readme.py.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import check, predict, status
from jobs.study.random_set import Extent, write_random_set
from pipeline.dataset.read import read_clips, read_description
from pipeline.dataset.store import Store
from pipeline.dataset.write import write_description
from schemas.dataset import BUILT, PREDICTED, RANDOM
from tests.labs.toy_build import ToyProject
from tests.labs.trainer import changed, trained

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("schemas", "pipeline", "stages", "jobs", "tests/labs")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
NO_SHARDS = (  # Parquet files of other kinds
    "pipeline/ledger/survey.py", "pipeline/dataset/store.py", "pipeline/dataset/checksums.py",
    "pipeline/dataset/damage.py", "stages/evaluate/leaderboard/",
    "jobs/consolidate.py", "jobs/viewer/index.py", "jobs/mining/evidence.py", "stages/faces/people_table.py",
)  # fmt: skip


def calls(*names: str) -> Iterator[str]:
    """``file function`` of every function of ours in which one of these is called."""
    for path in SOURCES:
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(names):
                        yield f"{path.relative_to(ROOT)} {function.name}"


def of_data_sets(found: Iterator[str]) -> set[str]:
    return {call for call in found if not call.startswith(NO_SHARDS)}


def test_one_function_writes_shards_and_one_opens_them() -> None:
    assert of_data_sets(calls("pq.write_table", "pq.ParquetWriter")) == {"pipeline/dataset/write.py write_shard"}
    opened = of_data_sets(calls("pq.read_table", "pq.ParquetFile", "pq.read_schema"))
    assert opened == {
        f"pipeline/dataset/read.py {name}" for name in ("read_plain", "read_schema", "__init__")
    }  # of ClipTable


def test_one_function_parses_the_description() -> None:
    parsing = {call for call in calls("Description.of_json") if "tests/" not in call}
    assert parsing == {"pipeline/dataset/read.py read_description"}
    named = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value == "dataset.json" and ROOT / "tests" not in path.parents
    }
    assert named == {"pipeline/dataset/read.py"}


@pytest.fixture(scope="module")
def random_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("random") / "set"
    write_random_set(root, Extent(16, 1400, people=4))
    return root


@pytest.fixture(scope="module")
def predicted(random_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trained(random_set, folder / "run", epochs=1)
    assert predict.main([str(folder / "run"), str(random_set), "--out", str(folder / "predicted")]) == 0
    return folder / "predicted"


def sound(root: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    return check.main([str(root)]) == 0 and "sound" in capsys.readouterr().out


def test_a_build_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ToyProject(tmp_path).build()
    assert read_description(tmp_path / "out").kind == BUILT
    assert sound(tmp_path / "out", capsys)


def test_a_random_set_is_sound_and_its_status_is_told(random_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_description(random_set).kind == RANDOM
    assert sound(random_set, capsys)
    assert status.main([str(random_set)]) == 0
    assert "random data set of 16 clips" in capsys.readouterr().out


def test_a_prediction_is_sound_and_says_whose_it_is(
    predicted: Path, random_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    description = read_description(predicted)
    assert description.kind == PREDICTED and description.predicted
    assert (description.predicted.listener, description.predicted.reference) == ("vico_lstm", str(random_set))
    assert sound(predicted, capsys)
    assert {row["split"] for row in read_clips(predicted, ["listener_exp"])} == {"test"}


@pytest.mark.parametrize("kind", [RANDOM, PREDICTED])
def test_a_lost_frame_is_found_in_every_kind(
    kind: str, random_set: Path, predicted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = {RANDOM: random_set, PREDICTED: predicted}[kind]
    short = changed(root, tmp_path / "short", "listener_exp", lambda values: values[:-1])
    assert check.main([str(short)]) == 1
    assert "column listener_exp: expected" in capsys.readouterr().out


def test_a_description_is_read_back_the_same_and_so_is_one_from_before_kinds(
    predicted: Path, random_set: Path, tmp_path: Path
) -> None:
    for root, kind in ((predicted, PREDICTED), (random_set, RANDOM)):
        write_description(Store(tmp_path), read_description(root))
        assert read_description(tmp_path) == read_description(root)
        content = read_description(root).to_json()

        for key in ("kind", "clips", "missing", "takedown", "sources", "pack"):
            del content[key]
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        found = read_description(tmp_path)
        assert found == read_description(root) and found.kind == kind
