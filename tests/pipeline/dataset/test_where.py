"""Conditions on clips, against SQLite's own reading of the same words, and what is refused."""

from __future__ import annotations

import sqlite3

import numpy as np
import pyarrow as pa
import pytest

from pipeline.dataset.where import Where
from schemas.column import Column
from schemas.errors import UserError

COLUMNS = {
    column.name: column
    for column in (
        Column("x", "float32"),
        Column("n", "int32"),
        Column("attitude", "string"),
        Column("seen", "bool"),
        Column("blink", "bool", ("frame",)),
        Column("angle", "float32", ("frame", 3)),
        Column("mesh", "float32", ("frame", 4, 3)),
        Column("words", pa.struct([("word", pa.string())]), ("word",)),
    )
}
LEVELS = ("positive", "neutral", None)
CONDITIONS = (
    *("x > 0", "not x > 0", "x != 1", "x == 1 or attitude == 'neutral'", "x is None", "x is not None and n < 2"),
    *("not (x > 0 and attitude == 'positive')", "attitude in ('neutral', 'odd')", "attitude not in ('neutral', 'odd')"),
    *("seen", "not seen", "seen == True", "seen != (n > 0)", "-x < n", "x * 2 + n >= 1", "n - x < .5", "n / 2 == .5"),
    *("x > 0 or not attitude == 'positive' and n <= 1", "(x > 0) == (n > 1)", "n in (0, 2)", "n not in (x, 1)"),
    *("1.0 / n > .6", "not 1.0 / n > .6", "x / (x - x) is None and x is not None"),
)


def table(clips: int = 200) -> pa.Table:
    """Clips with every value there is, and with none."""
    rng = np.random.default_rng(0)
    missing = rng.random((3, clips)) < 0.25
    x = rng.integers(-1, 3, clips).astype(np.float32)
    x[rng.random(clips) < 0.1] = np.nan
    return pa.table(
        {
            "x": pa.array(x, mask=missing[0]),
            "n": pa.array(rng.integers(0, 3, clips, np.int32), mask=missing[1]),
            "attitude": [LEVELS[i] for i in rng.integers(0, 3, clips)],
            "seen": pa.array(rng.random(clips) < 0.5, mask=missing[2]),
        }
    )


@pytest.mark.parametrize("text", CONDITIONS)
def test_a_condition_chooses_what_sqlite_chooses(text: str) -> None:
    clips = table()
    known = clips.set_column(0, "x", pa.array(clips["x"].to_pandas(), from_pandas=True))  # SQL knows no NaN
    base = sqlite3.connect(":memory:")
    base.execute("create table clips (row integer, x real, n integer, attitude text, seen integer)")
    rows = [(i, *row.values()) for i, row in enumerate(known.to_pylist())]
    base.executemany("insert into clips values (?, ?, ?, ?, ?)", rows)
    sql = text.replace("None", "null").replace("/ 2", "/ 2.0")
    wanted = [row for (row,) in base.execute(f"select row from clips where {sql}")]
    base.close()
    found = Where(text, COLUMNS).chosen(clips)
    assert 0 < len(wanted) < len(rows)
    np.testing.assert_array_equal(np.flatnonzero(found), wanted)


def test_chains_compare_neighbours() -> None:
    clips = table()
    chain, two = Where("0 < x <= 1 < n", COLUMNS), Where("0 < x and x <= 1 and 1 < n", COLUMNS)
    np.testing.assert_array_equal(chain.chosen(clips), two.chosen(clips))
    assert chain.chosen(clips).any()


def test_aggregates_are_of_the_frames_that_have_a_value() -> None:
    angle = [[[0, 1, 9], [0, 3, 9]], [[0, np.nan, 9], [0, 5, 9]], [[0, np.nan, 9]], None]
    blink = [[True, False, False, False], [False] * 4, [True], None]
    columns = [COLUMNS["angle"], COLUMNS["blink"]]
    arrays = [
        columns[0].to_arrow(None if one is None else np.array(one, np.float32) for one in angle),
        columns[1].to_arrow(None if one is None else np.array(one) for one in blink),
    ]
    clips = pa.table(arrays, names=["angle", "blink"])
    for text, wanted in {
        "mean(angle[1]) > 1": [0, 1],
        "mean(angle[1]) == 2": [0],
        "max(angle[1]) == 5": [1],
        "min(angle[1]) < 2": [0],
        "std(angle[1]) == 1": [0],
        "mean(angle[1]) is None": [2, 3],
        "mean(blink) > .2 and mean(angle[2]) == 9": [0, 2],
    }.items():
        assert np.flatnonzero(Where(text, COLUMNS).chosen(clips)).tolist() == wanted, text


REFUSED = {
    "": 1,
    "x >": 4,
    "lip_sync > 4": 1,
    "x > 0 and lip_sync > 4": 11,
    "attitude == 'é' and lip_sync > 4": 21,
    "blink": 1,
    "x > 0 and blink > .1": 11,
    "mean(x) > 0": 6,
    "mean(angle) > 0": 6,
    "mean(angle[3]) > 0": 6,
    "mean(angle[-1]) > 0": 6,
    "mean(blink[0]) > 0": 6,
    "mean(mesh[0]) > 0": 6,
    "mean(words) > 0": 6,
    "mean(angle[0], 1) > 0": 1,
    "words is None": 1,
    "median(angle[0]) > 0": 1,
    "attitude > 'a'": 1,
    "attitude == 4": 13,
    "x == 'positive'": 6,
    "x": 1,
    "x and seen": 1,
    "x in 4": 6,
    "x in ()": 6,
    "x in (1, 'a')": 10,
    "x is 4": 6,
    "x == None": 6,
    "x > 1e999": 5,
    "x > 2 ** 9": 5,
    "x > 1j": 5,
    "__import__('os').system('true')": 1,
    "x.real > 1": 1,
    "(lambda: x)() > 1": 1,
    "[x for x in n]": 1,
    "x if seen else n": 1,
    "(y := 1) > 0": 2,
    "f'{x}' == ''": 1,
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_condition_is_refused_at_its_place(text: str) -> None:
    with pytest.raises(UserError, match=rf"^--where, character {REFUSED[text]}\b.*(expected|allowed|known)"):
        Where(text, COLUMNS)


def test_an_unknown_column_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match=r"'lip_sync': .*known: x, n, attitude, seen; .*: blink, angle, mesh$"):
        Where("lip_sync > 4", COLUMNS)


@pytest.mark.parametrize("text", ["(" * 5000 + "x" + ")" * 5000, "not " * 5000 + "seen", "x" * 20_000, "x > 0\0"])
def test_what_would_break_a_parser_is_a_sentence_too(text: str) -> None:
    with pytest.raises(UserError, match=r"^--where[:,]"):
        Where(text, COLUMNS)
