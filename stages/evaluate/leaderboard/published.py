"""The published scores: ``manifests/published_scores.toml``, read and checked, a `PublishedScore` a printed number."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.settings import read_text
from schemas.clip import ATTITUDES
from schemas.errors import UserError
from schemas.score import ALL, NOT_STATED, Comparable, ScoreSpace
from stages.evaluate.metrics.definition import Direction
from stages.evaluate.metrics.registry import definitions

PUBLISHED = Path(__file__).resolve().parents[3] / "manifests" / "published_scores.toml"
LIMIT_BYTES = 2**20

NOT_PRINTED, UNREADABLE = "-", "?"
SPLITS = ("test", "ood", "test+ood", "validation")
UNPUBLISHED = "not published"

UNRANKED = (  # what may be said of a number that keeps it from being ranked among others
    *("average contradicts its rows", "contradicts another table", "contradicts its rows", "copied across test sets"),
    *("copied from another paper", "doubtful scan", "mean of test and ood", "not a method", "repeated"),
    *("candidate definition", "other definition in the same column"),
)
FLAGS = (  # all that may be said
    *UNRANKED,
    *("contradicts the text", "implementation inferred", "other scale than elsewhere in the paper", "re-extracted"),
    *("reimplementation", "resolution not stated", "speaker, not listener", "unknown fitter", "unmodified baseline"),
)

TABLE_KEYS = ("id", "paper", "table", "title", "data", "space", "resolution", "columns", "rows")
PLACE = ("method", "split", "attitude")  # of a row of numbers, before them
OTHER_TABLE_KEYS = ("flags", "candidates", "teams")
RULE_KEYS = (*PLACE, "columns", "note")


@dataclass(frozen=True)
class Metric:
    """A metric as the leaderboard needs it: one of ours, or one that a paper prints without defining it."""

    id: str
    name: str
    better: Direction
    meaning: str
    scale: float
    pooling: str
    sees_pictures: bool
    network: str = ""  # that looks at them: its weights' name


Entry = Mapping[str, Any]
Metrics = Mapping[str, Metric]


@dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """One printed number; ``value`` is None where it cannot be read. ``flags`` are pairs of flag and note.

    A number whose definition is not published comes again under each of our definitions that it may have, flagged as a
    candidate. ``team`` says whether its row is a team of a challenge.
    """

    table: str
    source: str
    column: str
    method: str
    key: Comparable
    value: float | None
    flags: tuple[tuple[str, str], ...]
    team: bool = False

    @property
    def may_be_ranked(self) -> bool:
        """Whether nothing speaks against setting it beside others of its kind."""
        return self.value is not None and not any(flag in UNRANKED for flag, _ in self.flags)


def read_published(path: Path = PUBLISHED) -> tuple[dict[str, Metric], list[PublishedScore]]:
    """All metrics, ours and the papers' own, and every printed number; `UserError` names the table that is wrong."""
    try:
        content = tomllib.loads(read_text(path, LIMIT_BYTES))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML: {error}") from None
    _check_keys(content, (), str(path), ("papers", "metrics", "tables"))
    metrics = {
        d.id: Metric(d.id, d.name, d.direction, d.formula, d.scale, d.pooling.value, d.sees_pictures, d.weights)
        for d in definitions().values()
    }
    for id, entry in content.get("metrics", {}).items():
        metrics[id] = _own_metric(id, entry, metrics, path)
    tables = content.get("tables", [])
    ids = [table.get("id") for table in tables]
    if len(set(ids)) != len(ids):
        raise UserError(f"{path}: expected tables of different ids, found {', '.join(map(str, ids))}")
    return metrics, [s for table in tables for s in _scores(table, content.get("papers", {}), metrics, path)]


def _own_metric(id: str, entry: Entry, known: Metrics, path: Path) -> Metric:
    where = f"{path}: metric {id!r}"
    _check_keys(entry, ("name", "better", "meaning"), where)
    if id in known:
        raise UserError(f"{where}: is the id of one of our definitions; choose another")
    if entry["better"] not in (direction.name.lower() for direction in Direction):
        raise UserError(f"{where}: better: expected lower, higher or reference, found {entry['better']!r}")
    better = Direction[entry["better"].upper()]
    return Metric(id, entry["name"], better, entry["meaning"], scale=1.0, pooling=UNPUBLISHED, sees_pictures=False)


def _scores(table: Entry, papers: Entry, metrics: Metrics, path: Path) -> Iterator[PublishedScore]:
    where = f"{path}: table {table.get('id')!r}"
    _check_table(table, papers, metrics, where)
    rules = table.get("flags", [])
    used: set[int] = set()
    for row in table["rows"]:
        place, numbers = _checked_row(row, table, where)
        for (column, metric), printed in zip(table["columns"].items(), numbers, strict=True):
            if printed == NOT_PRINTED:
                continue
            holding = [i for i, rule in enumerate(rules) if _holds(rule, place, column)]
            used.update(holding)
            flags = tuple((rules[i]["flag"], rules[i].get("note", "")) for i in holding)
            if printed == UNREADABLE and "doubtful scan" not in dict(flags):
                raise UserError(f"{where}: row {row}: a number that cannot be read needs the flag 'doubtful scan'")
            for one in (metric, *table.get("candidates", {}).get(column, [])):
                key = _key(table, metrics[one], column, place)
                implied = [("resolution not stated", "")] if key.resolution == NOT_STATED else []
                implied += [("candidate definition", metrics[metric].meaning)] if one != metric else []
                yield PublishedScore(
                    table=table["id"],
                    source=f"{papers[table['paper']]}, Table {table['table']}",
                    column=column,
                    method=place["method"],
                    key=key,
                    value=None if printed == UNREADABLE else float(printed),
                    flags=(*flags, *implied),
                    team=table.get("teams", False),
                )
    if idle := [rules[i] for i in range(len(rules)) if i not in used]:
        raise UserError(f"{where}: flags that hold for no number: {idle}")


def _check_table(table: Entry, papers: Entry, metrics: Metrics, where: str) -> None:
    _check_keys(table, TABLE_KEYS, where, OTHER_TABLE_KEYS)
    if table["paper"] not in papers:
        raise UserError(f"{where}: unknown paper {table['paper']!r}; known: {', '.join(papers)}")
    candidates = [metric for ids in table.get("candidates", {}).values() for metric in ids]
    if unknown := [metric for metric in (*table["columns"].values(), *candidates) if metric not in metrics]:
        raise UserError(f"{where}: unknown metrics {', '.join(unknown)}; define them under [metrics]")
    if unknown := set(table.get("candidates", {})) - set(table["columns"]):
        raise UserError(f"{where}: candidates of unknown columns {', '.join(sorted(unknown))}")
    if not table["resolution"] and any(metrics[metric].sees_pictures for metric in table["columns"].values()):
        raise UserError(f"{where}: resolution: expected the pictures' side in px or {NOT_STATED!r}, found ''")
    for rule in table.get("flags", []):
        _check_keys(rule, ("flag",), f"{where}: flags", RULE_KEYS)
        if rule["flag"] not in FLAGS:
            raise UserError(f"{where}: unknown flag {rule['flag']!r}; known: {', '.join(FLAGS)}")
        if unknown := set(rule.get("columns", [])) - set(table["columns"]):
            raise UserError(f"{where}: a flag names unknown columns {', '.join(sorted(unknown))}")


def _checked_row(row: Sequence[Any], table: Entry, where: str) -> tuple[dict[str, str], Sequence[Any]]:
    """A row's place (method, split and attitude) and its numbers."""
    expected = len(PLACE) + len(table["columns"])
    if len(row) != expected or row[1] not in SPLITS or row[2] not in (*ATTITUDES, ALL):
        raise UserError(f"{where}: row {row}: expected method, split, attitude and {len(table['columns'])} numbers")
    if bad := [n for n in row[len(PLACE) :] if n not in (NOT_PRINTED, UNREADABLE) and not isinstance(n, int | float)]:
        raise UserError(f"{where}: row {row}: expected numbers, {NOT_PRINTED!r} or {UNREADABLE!r}, found {bad}")
    return dict(zip(PLACE, row, strict=False)), row[len(PLACE) :]


def _holds(rule: Entry, place: Mapping[str, str], column: str) -> bool:
    named = all(rule.get(key, value) == value for key, value in place.items())
    return named and column in rule.get("columns", [column])


def _key(table: Entry, metric: Metric, column: str, place: Mapping[str, str]) -> Comparable:
    side = table["resolution"]
    resolution = side if side == NOT_STATED else f"{side}x{side}"
    space = metric.network if metric.sees_pictures else table["space"]
    if list(table["columns"].values()).count(metric.id) > 1:  # what people were asked of
        space = column
    return Comparable(
        metric=metric.id,
        data=table["data"],
        split=place["split"],
        attitude=place["attitude"],
        space=ScoreSpace(space),
        scale=metric.scale,
        pooling=metric.pooling,
        resolution=resolution if metric.sees_pictures else "",
    )


def _check_keys(found: Entry, needed: Sequence[str], where: str, others: Sequence[str] = ()) -> None:
    known = (*needed, *others)
    if unknown := sorted(set(found) - set(known)):
        raise UserError(f"{where}: unknown keys {', '.join(unknown)}; known: {', '.join(known)}")
    if missing := sorted(set(needed) - set(found)):
        raise UserError(f"{where}: expected {', '.join(missing)}")
