"""The index: every measure of every clip, made once a file and kept in the user's cache.

An entry belongs to a Parquet file, a shard or a stage's columns of a part, and is named by the hash of the file's
footer, which holds the shard's fingerprint: another content is another entry. It is made in the background, some row
groups at a time; what is not measured yet is NaN. An entry holds numbers without ids, so that it says nothing of a
clip that was withdrawn since. Entries of files that are gone stay: some MB, which may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.viewer.fitted import NEEDED, error_column, fit_error, fitted_points, is_fitted
from jobs.viewer.measures import Measure, measure, measures_of
from jobs.viewer.opened import MANIFEST_NAMES, Clips, Opened
from pipeline.dataset.read import ClipTable, read_plain
from pipeline.dataset.storage import Location
from pipeline.dataset.store import Store
from pipeline.weights import cache_root
from schemas.coefficients import STAGE
from schemas.column import ROLES, Column
from schemas.dataset import Description
from schemas.errors import UserError
from schemas.outcome import OK, OUTCOME_FIELDS

VERSION = 2  # of what is measured, and how it is kept
FOLDER = "viewer-index"  # in the cache
LANDMARKS = "landmarks"  # the stage whose columns a fit is held against
BATCH_BYTES = 2**26  # read at once
MEASURE_KEY = b"measure"
OUTCOME_NAMES = tuple(one.name for one in OUTCOME_FIELDS)


@dataclass(frozen=True)
class Entry:
    """Measures of the clips of one file, in its order."""

    measures: tuple[Measure, ...]
    values: np.ndarray  # float32 (measure, clip)

    def table(self) -> pa.Table:
        """As the cache keeps it."""
        fields = [pa.field(m.name, pa.float32(), metadata={MEASURE_KEY: json.dumps(asdict(m))}) for m in self.measures]
        return pa.table([*map(pa.array, self.values)], schema=pa.schema(fields))

    @classmethod
    def of_table(cls, table: pa.Table) -> Entry:
        """The inverse."""
        measures = tuple(Measure(**json.loads(one.metadata[MEASURE_KEY])) for one in table.schema)
        values = [table[one.name].to_numpy() for one in measures]
        return cls(measures, np.array(values, np.float32).reshape(len(measures), -1))


def cached(cache: Path, key: str, make: Callable[[], Entry]) -> Entry:
    """The entry of that key from the cache, or made now and kept."""
    path = cache / f"{key}.parquet"
    if path.is_file():
        try:
            return Entry.of_table(read_plain(path))
        except (UserError, KeyError, TypeError, ValueError):  # damaged: made again
            path.unlink()
    entry = make()
    try:
        with Store(cache).new_file(path) as temporary:
            pq.write_table(entry.table(), temporary, compression="zstd")
    except (OSError, UserError):  # a full or read-only disk: the index lives in memory
        pass
    return entry


def key_of(*paths: Location) -> str:
    """Name of the entry of some files: the hash of their footers."""
    digest = hashlib.sha256(f"{VERSION}".encode())
    for path in paths:
        with path.open("rb") as file:
            file.seek(0, 2) if isinstance(path, Path) else file.seek(file.size())
            size = file.tell()
            file.seek(max(size - 8, 0))
            length = int.from_bytes(file.read(8)[:4], "little")
            file.seek(max(size - 8 - length, 0))
            digest.update(file.read(length))
    return digest.hexdigest()[:32]


def measure_file(path: Location) -> Entry:
    """All measures of the clips of one file, read column by column."""
    table = ClipTable(path)
    skipped = {*MANIFEST_NAMES, *OUTCOME_NAMES}
    columns = [column for column in table.columns() if column.name not in skipped and measures_of(column)]
    measures = tuple(one for column in columns for one in measures_of(column))
    blocks = []
    beside = ["outcome"] if "outcome" in table.schema.names else []
    for groups in table.batches(BATCH_BYTES) if columns else ():
        read = table.groups(groups, [column.name for column in columns] + beside)
        block = np.concatenate([_measured(column, read[column.name]) for column in columns])
        if beside:
            block[:, pc.not_equal(read["outcome"], OK).to_numpy()] = np.nan
        blocks.append(block)
    return Entry(measures, np.concatenate([np.zeros((len(measures), 0), np.float32), *blocks], axis=1))


def _measured(column: Column, values: pa.ChunkedArray) -> np.ndarray:
    names = [one.name for one in measures_of(column)]
    try:
        found = measure(column, pa.concat_arrays(values.chunks))
    except (ValueError, pa.ArrowException):  # lists of other lengths than declared: other people's
        return np.full((len(names), len(values)), np.nan, np.float32)
    return np.stack([found[name] for name in names])


@dataclass
class Task:
    """A piece of the index: the files that it is made of, of which the first has the clips in its order, and how."""

    paths: Sequence[Location]
    make: Callable[[], Entry]

    def run(self, cache: Path, known: dict[str, Entry]) -> tuple[list[str], Entry] | None:
        """The ids of its clips and their measures; None where the files are being replaced, or cannot be read."""
        try:
            key = key_of(*self.paths)
            if key not in known:
                known[key] = cached(cache, key, self.make)
            ids = read_plain(self.paths[0], ["clip_id"])["clip_id"].to_pylist()
        except (UserError, OSError):
            return None
        return (ids, known[key]) if len(ids) == known[key].values.shape[1] or not known[key].measures else None


@dataclass
class Index:
    """The measures of the clips of a data set, as far as they are there."""

    opened: Opened
    extra: Callable[[Opened], Iterable[Task]] = field(default=lambda opened: ())  # e.g. fits of landmarks
    done: int = 0
    total: int = 0
    generation: int = 0  # grows with every entry

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._clips: Clips | None = None
        self._measures: dict[str, Measure] = {}
        self._values: dict[str, np.ndarray] = {}
        self._fixed: list[tuple[list[str], Entry]] = []

    def add(self, ids: list[str], entry: Entry) -> None:
        """Measures of clips that belong to no file of the data set, such as scores."""
        self._fixed.append((ids, entry))

    def start(self) -> None:
        """Measure in the background what is not measured; again whenever the list of clips has changed."""
        with self._lock:
            if self._clips is self.opened.clips:
                return
            clips = self._clips = self.opened.clips
            self._measures, self._values = {}, {}
            for ids, entry in self._fixed:
                self._take(ids, entry)
            self.done, self.total = 0, 1  # until `_fill` has counted
        self._thread = threading.Thread(target=self._fill, args=(clips, cache_root() / FOLDER), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until all that was started is measured."""
        self._thread.join()

    def _fill(self, clips: Clips, cache: Path) -> None:
        """Measure everything; ends early if the list of clips changes meanwhile."""
        tasks = [Task([path], lambda path=path: measure_file(path)) for path in self._files()]
        tasks += self.extra(self.opened)
        self.done, self.total = 0, len(tasks)
        for task in tasks:
            if self._clips is not clips:
                return
            if found := task.run(cache, self._entries):
                with self._lock:
                    self._take(*found)
            self.done += 1

    def _files(self) -> list[Location]:
        shards = self.opened.description.shards
        if shards:
            return [self.opened.root / "shards" / shard.file for shard in shards]
        return self.opened.store.column_files()

    def _take(self, ids: list[str], entry: Entry) -> None:
        clips = self._clips
        assert clips is not None
        here = [(row, clips.row[clip_id]) for row, clip_id in enumerate(ids) if clip_id in clips.row]
        source, target = np.array(here, np.int64).reshape(-1, 2).T
        for number, one in enumerate(entry.measures):
            self._measures.setdefault(one.name, one)
            values = self._values.setdefault(one.name, np.full(len(clips), np.nan, np.float32))
            values[target] = entry.values[number, source]
        self.generation += 1

    def measures(self) -> list[Measure]:
        """Those of which some clip has a number."""
        with self._lock:
            return [one for name, one in self._measures.items() if np.isfinite(self._values[name]).any()]

    def values(self, name: str, rows: Sequence[int]) -> np.ndarray:
        """float32 (clip,): a measure of clips by their row; NaN where it has none, or none yet."""
        with self._lock:
            found = self._values.get(name)
            places = np.asarray(rows, np.int64)
            if found is None or places.max(initial=-1) >= len(found):  # of a list of clips that has just changed
                return np.full(len(rows), np.nan, np.float32)
            return found[places]


def fit_tasks(opened: Opened) -> Iterable[Task]:
    """The errors of the fitted model, a part each, where landmarks and coefficients are there."""
    if not is_fitted(opened.description):
        return
    for path in opened.store.column_files():
        coefficients = opened.store.column_file(STAGE, path.stem)
        if path.parent.name == LANDMARKS and coefficients.is_file():
            yield Task([coefficients, path], partial(_measure_fit, opened.description, coefficients, path))


def _measure_fit(description: Description, coefficients: Location, landmarks: Location) -> Entry:
    """``{role}_fit_error.mean`` and ``.max`` of the clips of a part; large landmarks are read role by role."""
    fits, ids = ClipTable(coefficients), read_plain(coefficients, ["clip_id"])["clip_id"].to_pylist()
    seen = ClipTable(landmarks)
    measures, rows = [], []
    for role in ROLES:
        found = {}
        for group in range(seen.file.num_row_groups):
            table = seen.groups([group], ["clip_id", f"{role}_landmarks"])
            column = Column.of_field(table.schema.field(1))
            for row, clip_id in enumerate(table["clip_id"].to_pylist()):
                said = fits.values(clip_id, ["outcome", *(f"{role}_{name}" for name in NEEDED)])
                if said and said["outcome"] == OK:
                    points = column.from_arrow(table[column.name][row])[..., :2]
                    found[clip_id] = fit_error(fitted_points(said, description, role), points)
        summaries = {".mean": np.nanmean, ".max": np.nanmax}
        for one in measures_of(error_column(role)):
            if summary := summaries.get(one.name.removeprefix(one.column)):
                measures.append(one)
                rows.append([summary(found[clip_id]) if clip_id in found else np.nan for clip_id in ids])
    return Entry(tuple(measures), np.array(rows, np.float32))
