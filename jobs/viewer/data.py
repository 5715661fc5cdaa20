"""What the pages ask of data sets: ``/api/...`` and ``/media/...``.

`Answers` knows no HTTP: an export writes the same to files.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from aiohttp import web

from jobs.viewer.fitted import NEEDED, error_column, fit_error, fitted_column, fitted_points, is_fitted, mesh_edges
from jobs.viewer.index import Index, fit_tasks
from jobs.viewer.opened import ALL_MEDIA, MEDIA, OWN_SOUNDS, Opened, as_floats
from jobs.viewer.outcomes import Outcomes
from jobs.viewer.scores import ClipScores
from jobs.viewer.server import apart, as_json
from pipeline.dataset.storage import Location, local_file
from pipeline.plan import Pipeline
from pipeline.registry import find_stages
from pipeline.sources.availability import OK as AVAILABLE
from pipeline.sources.takedown import takedown_ids
from schemas.clip import ATTITUDES, SPLITS
from schemas.column import ROLES, Column
from schemas.dataset import ColumnEntry, SourceEntry
from schemas.errors import UserError

LISTED = {  # of ``/api/clips`` -> the manifest's column
    **{"ids": "clip_id", "split": "split", "attitude": "attitude", "listener": "listener_id", "speaker": "speaker_id"},
    **{"source": "source_id", "num_frames": "num_frames", "start_s": "start_s", "end_s": "end_s"},
}
WORD_FIELDS, DROPPED = {"text", "start_s", "end_s"}, "reason"  # what words have, and those that were not said
MEDIA_TYPES = {"mp4": "video/mp4", "wav": "audio/wav"}
RENDERED = "listener.mp4"
MAX_MEASURES = 64  # in one request


@dataclass
class Answers:
    """The answers about one data set, with predictions of its clips, evaluations and rendered videos, by name."""

    data: Opened
    predictions: Mapping[str, Opened] = field(default_factory=dict)
    scores: Sequence[ClipScores] = ()
    videos: Mapping[str, Location] = field(default_factory=dict)  # folders of CLIP_ID.mp4
    pages: Sequence[str] = ("overview", "clips", "rejects", "compare")
    only: Collection[str] | None = None  # an export's choice of clips
    has_films: bool = False  # whether `jobs.viewer.sources` shows the whole picture

    def __post_init__(self) -> None:
        self.of = {"": self.data, **self.predictions}
        self.index = Index(self.data, fit_tasks)
        self.outcomes = Outcomes(self.data)
        self._listed: tuple[str, np.ndarray, str] = ("", np.zeros(0, np.int64), "")
        for evaluation in self.scores:
            for ids, entry in evaluation.entries():
                self.index.add(ids, entry)

    def refresh(self) -> None:
        """Take in what changed on the disk, and measure what is new."""
        for opened in self.of.values():
            opened.refresh()
        self.index.start()

    # -- all clips -------------------------------------------------------------------------------------------------

    def dataset(self) -> dict[str, Any]:
        """``/api/dataset``"""
        self.refresh()
        said = self.data.description
        return {
            "name": said.name,
            "address": str(self.data.root),
            "kind": said.kind,
            "fps": said.fps,
            "splits": list(said.splits or SPLITS),
            "attitudes": list(said.attitudes or ATTITUDES),
            "columns": [_entry(entry) for entry in said.columns],
            "clips_version": self._list()[0],
            "measures": [asdict(one) for one in self.index.measures()],
            "index": {"done": self.index.done, "total": self.index.total},
            "predictions": [{"name": name} for name in {**self.predictions, **self.videos}],
            "building": self.data.is_building,
            "films": self.has_films,
            "pages": list(self.pages),
        }

    def clips(self) -> str:
        """``/api/clips``: columns without what is withdrawn, in JSON. ``version`` is asked for with the measures."""
        self.refresh()
        return self._list()[2]

    def _list(self) -> tuple[str, np.ndarray, str]:
        """Version, rows and JSON of the clips that may be shown."""
        clips, gone = self.data.clips, takedown_ids(self.data.root)
        version = hashlib.sha256(
            f"{[one.generation for one in self.of.values()]} {sorted(gone)} {sorted(self.only or ())}".encode()
        ).hexdigest()[:16]
        if self._listed[0] != version:
            rows = np.flatnonzero(~clips.withdrawn(gone))
            if self.only is not None:
                rows = rows[[clips.table["clip_id"][row].as_py() in self.only for row in rows.tolist()]]
            table = clips.table if len(rows) == len(clips) else clips.table.take(rows)
            columns = {key: _plain_list(table[name]) for key, name in LISTED.items()}
            if self.predictions:
                columns["predicted"] = self._predicted(table["clip_id"])
            self._listed = (version, rows, json.dumps({**columns, "version": version}, allow_nan=False))
        return self._listed

    def _predicted(self, ids: pa.ChunkedArray) -> list[str]:
        """The predictions of each clip, as people read them: which clips can be compared."""
        of = [opened.clips.table["clip_id"].combine_chunks() for opened in self.predictions.values()]
        there = [pc.is_in(ids, value_set=own).to_pylist() for own in of]
        return [" + ".join(compress(self.predictions, row)) or "none" for row in zip(*there, strict=True)]

    def measures(self, names: Sequence[str], version: str) -> np.ndarray:
        """``/api/measures?name=...&version=...``: float32 (measure, clip) in the order of that version of the clips.

        `StaleError` if the clips have changed since.
        """
        found, rows, _ = self._list()
        if version != found:
            raise StaleError("the list of clips has changed; ask for it again")
        return as_floats(np.stack([self.index.values(name, rows) for name in names]))

    def overview(self) -> dict[str, Any]:
        """``/api/overview``: the funnel, and where the sources come from."""
        self.refresh()
        said = self.data.description
        sources, clips, frames = Counter[str](), Counter[str](), Counter[str]()
        for source, there, length in self.data.clips.of_sources(self._list()[1]):
            licence = said.sources.get(source, SourceEntry()).licence
            sources[licence] += 1
            clips[licence] += there
            frames[licence] += length
        return {
            "wanted": said.wanted or len(self.data.parts) or len(self.data.clips),
            "published": len(self._list()[1]) if said.shards else 0,
            "funnel": [step.to_json() for step in self.outcomes.funnel()],
            "reasons": reasons(),
            "licences": [
                {"licence": name, "sources": sources[name], "clips": count, "frames": frames[name]}
                for name, count in clips.most_common()
            ],
            "missing_sources": [
                _absent(name, one) for name, one in said.sources.items() if one.url and one.availability != AVAILABLE
            ],
        }

    def rejects(self) -> dict[str, list[Any]]:
        """``/api/rejects``"""
        self.refresh()
        found = self.outcomes.rejects()
        if self.only is None:
            return found
        kept = [row for row, clip_id in enumerate(found["clip_id"]) if clip_id in self.only]
        return {key: [values[row] for row in kept] for key, values in found.items()}

    def reject(self, clip_id: str) -> dict[str, list[int]]:
        """``/api/reject/ID``: the frames at which to look, of a clip that was turned down."""
        self.data.manifest(clip_id)
        return {"frames": self.outcomes.frames_of(clip_id)}

    def mesh(self) -> dict[str, list[tuple[int, int]]]:
        """``/api/mesh``"""
        return mesh_edges()

    # -- one clip --------------------------------------------------------------------------------------------------

    def clip(self, clip_id: str) -> dict[str, Any]:
        """``/api/clip/ID``"""
        self.refresh()
        said = self.data.manifest(clip_id)
        columns: list[dict[str, Any]] = []
        values: dict[str, Any] = {}
        spoken: dict[str, list[Any]] = {}
        for of, opened in self.of.items():
            for column in opened.columns_of_clip(clip_id):
                if column.name in said:
                    continue
                if column.per_frame and column.is_numeric:
                    columns.append({"name": column.name, "of": of, **_layout(column)})
                elif not of and _fields(column) >= WORD_FIELDS:
                    if DROPPED not in _fields(column):
                        spoken[column.name] = (opened.value(clip_id, column.name) or (None, []))[1]
                elif not of and not column.axes:
                    values[column.name] = plain((opened.value(clip_id, column.name) or (None, None))[1])
            columns += [{"name": one.name, "of": of, **_layout(one)} for one in _derived(opened, self.data, clip_id)]
        there = {name: self.data.media(clip_id, name) is not None for name in MEDIA}
        media = {name.partition(".")[0]: f"/media/{clip_id}/{name}" if there[name] else None for name in MEDIA}
        said_words = {
            name: [{key: plain(value) for key, value in word.items()} for word in words]
            for name, words in spoken.items()
        }
        return {
            **{key: plain(value) for key, value in said.items()},
            "num_frames": said["num_frames"] or self._count_frames(clip_id, columns),
            "media": {**media, "source": None},
            "renders": {name: f"/media/{clip_id}/{RENDERED}" for name in self.videos if self.rendered(clip_id, name)},
            "columns": columns,
            "values": values,
            "sounds": {
                name.partition(".")[0]: f"/media/{clip_id}/{name}"
                for name in OWN_SOUNDS
                if self.data.media(clip_id, name) is not None
            },
            "words": next(iter(said_words.values()), []),
            "own_words": {name: said_words[name] for name in list(said_words)[1:]},
            "scores": [_finite(row) for one in self.scores for row in one.of_clip(clip_id)],
            "outcomes": self.outcomes.of_clip(clip_id),
        }

    def _count_frames(self, clip_id: str, columns: Sequence[Mapping[str, Any]]) -> int:
        """Of a clip whose manifest is not known yet: the length of its first column with a row a frame."""
        found = self.data.value(clip_id, columns[0]["name"]) if columns else None
        return 0 if found is None else len(found[1])

    def column(self, clip_id: str, name: str, of: str = "") -> np.ndarray:
        """``/api/clip/ID/column/NAME?of=WHOSE``: float32 (frame, width)."""
        self.data.manifest(clip_id)
        value = None
        if of in self.of:
            found = self.of[of].value(clip_id, name)
            if found is None:
                value = _derive(self.of[of], self.data, clip_id, name)
            elif found[0].per_frame and found[0].is_numeric:
                value = found[1]
        if value is None:
            raise UserError(f"{clip_id}: has no column of that name with a row a frame")
        return as_floats(value.reshape(len(value), -1))

    def media(self, clip_id: str, name: str, of: str = "") -> Location:
        """The file behind ``/media/ID/NAME?of=WHOSE``; `UserError` if there is none."""
        self.data.manifest(clip_id)
        found = (
            self.rendered(clip_id, of) if of and name == RENDERED else None if of else self.data.media(clip_id, name)
        )
        if found is None:
            raise UserError(f"{clip_id}: has no {name}")
        return found

    def rendered(self, clip_id: str, of: str) -> Location | None:
        """A rendered prediction of a clip."""
        path = self.videos[of] / f"{clip_id}.mp4" if of in self.videos else None
        return path if path is not None and path.is_file() else None


@lru_cache(maxsize=1)
def reasons() -> dict[str, dict[str, str]]:
    """What the reasons of our own stages mean, by stage."""
    return {stage.name: dict(stage.rejects) for stage in Pipeline(find_stages(), {}).stages}


class StaleError(Exception):
    """An answer would belong to another list of clips than the page has."""


def data_routes(answers: Answers) -> Callable[[web.Application], None]:
    """The routes of `Answers`."""

    async def dataset(request: web.Request) -> web.Response:
        return as_json(await apart(answers.dataset))

    async def clips(request: web.Request) -> web.Response:
        return web.Response(text=await apart(answers.clips), content_type="application/json")

    async def measures(request: web.Request) -> web.Response:
        names = request.query.getall("name", [])
        if not 0 < len(names) <= MAX_MEASURES:
            raise web.HTTPBadRequest(text=f"expected 1 to {MAX_MEASURES} measures")
        try:
            return _raw(await apart(answers.measures, names, request.query.get("version", "")))
        except StaleError as error:
            raise web.HTTPConflict(text=str(error)) from None

    async def overview(request: web.Request) -> web.Response:
        return as_json(await apart(answers.overview))

    async def rejects(request: web.Request) -> web.Response:
        return as_json(await apart(answers.rejects))

    async def reject(request: web.Request) -> web.Response:
        return as_json(await apart(answers.reject, request.match_info["id"]))

    async def clip(request: web.Request) -> web.Response:
        return as_json(await apart(answers.clip, request.match_info["id"]))

    async def mesh(request: web.Request) -> web.Response:
        return as_json(await apart(answers.mesh))

    async def column(request: web.Request) -> web.Response:
        of = request.query.get("of", "")
        return _raw(await apart(answers.column, request.match_info["id"], request.match_info["name"], of))

    async def media(request: web.Request) -> web.StreamResponse:
        name = request.match_info["file"]
        if name not in ALL_MEDIA:
            raise web.HTTPNotFound(text="no such file")
        path = await apart(answers.media, request.match_info["id"], name, request.query.get("of", ""))
        return await send_file(path, name)

    def add(app: web.Application) -> None:
        app.router.add_get("/api/dataset", dataset)
        app.router.add_get("/api/clips", clips)
        app.router.add_get("/api/measures", measures)
        app.router.add_get("/api/overview", overview)
        app.router.add_get("/api/rejects", rejects)
        app.router.add_get("/api/reject/{id}", reject)
        app.router.add_get("/api/clip/{id}", clip)
        app.router.add_get("/api/clip/{id}/column/{name}", column)
        app.router.add_get("/api/mesh", mesh)
        app.router.add_get("/media/{id}/{file}", media)

    return add


def _raw(values: np.ndarray) -> web.Response:
    headers = {"X-Shape": ",".join(map(str, values.shape))}
    return web.Response(body=values.tobytes(), content_type="application/octet-stream", headers=headers)


async def send_file(path: Location, name: str) -> web.StreamResponse:
    """A media file; ranges are the library's, for what lies in object storage there are none."""
    kind = MEDIA_TYPES[name.rpartition(".")[2]]
    if isinstance(path, Path):
        return web.FileResponse(path, headers={"Content-Type": kind})
    return web.Response(body=await apart(_bytes_of, path), content_type=kind)


def _bytes_of(path: Location) -> bytes:
    with local_file(path) as file:
        return file.read_bytes()


def _derived(opened: Opened, data: Opened, clip_id: str) -> list[Column]:
    """Columns that are made when they are asked for."""
    if not is_fitted(opened.description):
        return []
    there = {column.name for column in opened.columns_of_clip(clip_id)}
    face = there | {column.name for column in data.columns_of_clip(clip_id)}
    found = []
    for role in ROLES:
        if f"{role}_exp" in there and face >= {f"{role}_{name}" for name in NEEDED}:
            found.append(fitted_column(role))
            if f"{role}_landmarks" in there:
                found.append(error_column(role))
    return found


def _derive(opened: Opened, data: Opened, clip_id: str, name: str) -> np.ndarray | None:
    if name not in {column.name for column in _derived(opened, data, clip_id)}:
        return None
    role = name.partition("_")[0]
    columns = {}
    for one in NEEDED:  # a prediction says how a face moves; whose it is, and where, the data set says
        found = opened.value(clip_id, f"{role}_{one}") or _of_the_face(data.value(clip_id, f"{role}_{one}"))
        if found is None:
            return None
        columns[f"{role}_{one}"] = found[1]
    model = fitted_points(columns, opened.description, role)
    if name == fitted_column(role).name:
        return model
    landmarks = opened.value(clip_id, f"{role}_landmarks")
    return None if landmarks is None else fit_error(model, landmarks[1][..., :2])


def _of_the_face(found: tuple[Column, Any] | None) -> tuple[Column, Any] | None:
    """A column of the data set for a prediction: where it is not known (a crop without a fit) as elsewhere."""
    if found is None or not found[0].per_frame:
        return found
    known = np.isfinite(found[1]).all(axis=1)
    return (found[0], np.where(known[:, None], found[1], found[1][known.argmax()])) if known.any() else None


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain_list(values: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_finite(values), values, None)
    return list(values.to_pylist())


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: plain(value) for key, value in row.items()}


def _entry(entry: ColumnEntry) -> dict[str, Any]:
    said = {key: getattr(entry, key) for key in ("name", "stage", "axes", "unit", "meaning", "per_frame", "heavy")}
    return {**said, "type": entry.type, "media": entry.media}


def _layout(column: Column) -> dict[str, Any]:
    """Width of a row, and what the numbers are."""
    width = math.prod(axis for axis in column.axes[1:] if isinstance(axis, int))
    said = {"width": width, "dtype": str(column.element_type), "shape": column.shape}
    return {**said, "unit": column.unit, "meaning": column.meaning}


def _fields(column: Column) -> set[str]:
    kind: Any = column.element_type
    return {kind.field(i).name for i in range(kind.num_fields)}


def _absent(name: str, source: SourceEntry) -> dict[str, str]:
    return {"source": name, "availability": source.availability, "date": source.date, "message": source.message}
