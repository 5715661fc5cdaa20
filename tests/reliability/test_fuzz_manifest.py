"""Whatever stands in files and options that people give us, what comes out is a value or an error that says where."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.dataset.write import PackSettings
from pipeline.manifest.clips_csv import CSV_COLUMNS, read_clips_csv
from pipeline.manifest.load import DATASET_KEYS, SOURCE_KEYS, load_manifest
from pipeline.manifest.splits import SplitRule
from pipeline.settings import parse_overrides, resolve
from pipeline.sources.download import DownloadSettings
from pipeline.sources.takedown import takedown_ids
from pipeline.weights import WeightsError, registry
from schemas.errors import INVISIBLE, UserError
from tests.labs.toy_build import HEADER, ROWS, ToyProject

FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Text that means something to somebody: paths, protocols, patterns, shells, terminals, other tongues.
PATHS = ["../x", "/etc/passwd", "~/.ssh/id_rsa", "file:///etc/passwd", "concat:a|b", "data:,x", "subfile,,:a", "pipe:0"]
SHELL = ["-i", "--exec", "%d", "%s", "{}", "$(id)", "`id`", ";id", "|id", ">x", "a\x00b", "\x1b[2J", "\u202etxt.exe"]
WORDS = ["CON", "nul", "a.b", "é", "漢字", "🎬", "nan", "inf", "1e999", "0x1", "-1", "NaN", "true"]
MARKS = ["[]", "''", '"', "\\", "#"]
ADDRESSES = ["//", "http://[", "http://x", "http://127.0.0.1/", "https://a@b/", "https://x:99999/", "https://1.2.3.4/"]
SPITEFUL = st.sampled_from(PATHS + SHELL + WORDS + MARKS + ADDRESSES) | st.text(max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | SPITEFUL,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SPITEFUL, inner, max_size=3),
    max_leaves=6,
)


def toml(value: Any) -> str:
    """A value as TOML writes it; None as something that TOML does not have."""
    if isinstance(value, str):
        escaped = "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return str(value).lower()


@pytest.fixture
def toy(tmp_path: Path) -> ToyProject:
    toy = ToyProject(tmp_path)
    toy.write_clips(ROWS[:1])
    return toy


def says_where(error: Exception, *places: str) -> None:
    """The message names the file and shows nothing that could steer a terminal."""
    assert any(place in str(error) for place in places), error
    assert not INVISIBLE.search(str(error).replace("\n", "")), ascii(str(error))


@contextmanager
def may_be_refused(*places: str, kind: type[UserError] = UserError) -> Iterator[None]:
    try:
        yield
    except kind as error:
        says_where(error, *places)


DATASET = st.dictionaries(st.sampled_from(DATASET_KEYS) | SPITEFUL, VALUES, max_size=4)
SOURCE = st.dictionaries(st.sampled_from(SOURCE_KEYS) | SPITEFUL, VALUES, max_size=5)


@FUZZ
@given(
    DATASET, st.lists(SOURCE, max_size=2), st.dictionaries(st.sampled_from(["wave", "pack", "x"]), VALUES, max_size=2)
)
def test_any_keys_and_values_in_a_manifest_give_a_manifest_or_an_error_with_its_place(
    toy: ToyProject, dataset: dict[str, Any], sources: list[dict[str, Any]], stages: dict[str, Any]
) -> None:
    base = {"name": "x", "clips": "clips.csv"}
    tables = [{"id": "a", "path": "a.bin", "licence": "none", **source} for source in sources]
    text = f"dataset = {toml({**base, **dataset})}\nsources = {toml(tables)}\nstages = {toml(stages)}\n"
    path = toy.folder / "fuzz.toml"
    path.write_bytes(text.encode("utf-8", "replace"))
    with may_be_refused("fuzz.toml", "clips.csv", "[dataset]", str(toy.folder)):
        load_manifest(path)


@FUZZ
@given(st.text(max_size=300) | st.binary(max_size=300))
@example(b"\xff\xfe[\x00d\x00")
@example("a = " + "9" * 5000)
@example("[dataset]\nmin_yield = 0x" + "f" * 9000)
@example("[dataset]\nname" + ".a" * 3000 + " = 1")
@example("[" + ".".join(["dataset"] * 3000) + "]")
@example("a = " + "{a = " * 3000 + "1" + "}" * 3000)
@example("a = 0000-00-00T99:99:99")
@example('[dataset]\nclips = "' + "x" * 100_000 + '"\nname = "x"')
def test_any_text_for_a_manifest_gives_an_error_with_its_place(toy: ToyProject, text: str | bytes) -> None:
    path = toy.folder / "fuzz.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
    with pytest.raises(UserError) as caught:
        load_manifest(path)
    says_where(caught.value, "fuzz.toml", str(toy.folder))


CELL = st.sampled_from([cell for row in ROWS for cell in row.split(",")]) | SPITEFUL
LINE = st.lists(CELL, min_size=6, max_size=10).map(",".join) | st.text(max_size=60)


@FUZZ
@given(st.sampled_from([HEADER, HEADER + ",clip_id"]) | LINE, st.lists(st.sampled_from(ROWS) | LINE, max_size=5))
@example(HEADER, ['"never closed' + "\n" * 50])
@example(HEADER, ["a," + "x" * 200_000])
@example(",".join(["column"] * 200_000), [])
@example(HEADER, ["a," + "9" * 9 + ".0," + "9" * 5000 + ",left,,p,q,train"])
def test_any_rows_of_clips_give_clips_or_an_error_with_line_column_value_and_what_is_allowed(
    tmp_path: Path, header: str, lines: list[str]
) -> None:
    path = tmp_path / "clips.csv"
    path.write_bytes("\n".join([header, *lines]).encode("utf-8", "replace"))
    try:
        rows = read_clips_csv(path, {"a": 1, "b": 1})
        assert all(re.fullmatch(r"[A-Za-z0-9_-]+", row.clip_id) and row.span.num_frames > 0 for row in rows)
    except UserError as error:
        says_where(error, "clips.csv")
        assert re.search(r"allowed: |expected |remove one|not readable as CSV|not UTF-8", str(error)), error
        if "column '" in str(error) and "found" in str(error):
            assert re.search(r"line \d+, column '\w+': found .*, allowed: ", str(error), re.DOTALL), error


def test_every_wrong_cell_is_named_by_its_column(tmp_path: Path) -> None:
    path = tmp_path / "clips.csv"
    for index, column in enumerate(CSV_COLUMNS):
        cells = ROWS[0].split(",")
        cells[index] = "?\x1b[31m?"
        path.write_text(f"{HEADER}\n{ROWS[1]}\n{','.join(cells)}\n")
        with pytest.raises(UserError, match=rf"line 3, column '{column}': found '\?.*\?', allowed: "):
            read_clips_csv(path, {"a": 1})


@FUZZ
@given(VALUES)
@example({"test": 0.1, "seed": 16**9000})
@example({"test": float("nan")})
def test_any_rule_for_splits_is_a_rule_or_an_error(value: Any) -> None:
    with may_be_refused("[dataset] split: found "):
        rule = SplitRule.parse(value)
        assert 0 <= rule.test + rule.ood < 1


@FUZZ
@given(st.text(max_size=120) | st.builds("{}={}".format, st.sampled_from(["pack.include", "download.burst"]), SPITEFUL))
@example("pack.include=" + "[" * 9000)
@example("download.burst=" + "9" * 9000)
@example("download.burst=0x" + "f" * 9000)
@example("download.per_minute=1e999")
@example("download.per_minute=" + "1" + "0" * 400)
@example("pack.include=[[1]]")
@example("pack.max_shard_mb=1\nx=2")
def test_any_setting_is_taken_in_its_type_or_is_an_error(text: str) -> None:
    with may_be_refused("--set", "[stages."):
        for stage, values in parse_overrides([text]).items():
            for kind in (PackSettings, DownloadSettings):
                resolve(stage, kind, values)


@FUZZ
@given(st.lists(SPITEFUL | st.sampled_from(["a_000000_000001", "b # gone", "# note", ""])).map("\n".join))
@example("\ufeffa_000000_000001")
@example("a\r\nb\r\n")
def test_any_list_of_what_is_withdrawn_is_obeyed_or_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "takedown.txt").write_bytes(text.encode("utf-8", "replace"))
    with may_be_refused("takedown.txt"):
        ids = takedown_ids(tmp_path)
        for name in ("a_000000_000001", "b"):
            listed = any(line.lstrip("\ufeff").partition("#")[0].strip() == name for line in text.split("\n"))
            assert (name in ids) == listed, "an id is never passed over in silence"


ENTRY = st.dictionaries(
    st.sampled_from(["files", "urls", "licence", "source", "package", "bytes", "steps", "folder", "name"]) | SPITEFUL,
    VALUES,
)


@FUZZ
@given(st.dictionaries(SPITEFUL, ENTRY | VALUES, max_size=2))
def test_any_list_of_weights_is_a_registry_or_an_error(tmp_path: Path, tables: dict[str, Any]) -> None:
    path = tmp_path / "weights.toml"
    text = "".join(f"{toml(name)} = {toml(table)}\n" for name, table in tables.items())
    path.write_bytes(text.encode("utf-8", "replace"))
    root = Path("/cache")
    with may_be_refused("weights.toml", kind=WeightsError):
        for weights in registry.__wrapped__(path).values():
            for file in weights.files:
                assert (root / weights.name / file).resolve().is_relative_to(root / weights.name)


BROKEN: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "a link in a circle": lambda path: path.symlink_to(path),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_text_file_is_refused_at_once(toy: ToyProject, kind: str) -> None:
    for name in ("fuzz.toml", "clips.csv", "takedown.txt"):
        path = toy.folder / name
        path.unlink(missing_ok=True)
        BROKEN[kind](path)
    with pytest.raises(UserError, match=r"fuzz\.toml"):
        load_manifest(toy.folder / "fuzz.toml")
    with pytest.raises(UserError, match=r"clips\.csv"):
        load_manifest(toy.manifest)
    with pytest.raises(UserError, match=r"takedown\.txt"):
        takedown_ids(toy.folder)
