"""Mining: a build whose clips are windows of films, and which ends in a manifest instead of shards.

MINED/manifest.toml, clips.csv    what `jobs.build` takes
MINED/evidence.parquet            every span of every film: a clip, or why it is none
MINED/people.csv, people.parquet  who is who, to be mended by hand
MINED/funnel.json                 how many minutes fell out where
MINED/pictures/<film>.png         every film at a glance, if asked for
MINED/columns/, ledger/           of windows, as a build has them of clips
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from jobs.mining import reasons
from jobs.mining.evidence import Row, funnel, write_evidence
from jobs.mining.picture import write_picture
from jobs.mining.spans import ONE_WAY, PER_FRAME, Meeting, Span, SpanSettings, spans_of
from jobs.mining.windows import Window, WindowSettings, windows_of
from pipeline.build import Build, BuildOptions
from pipeline.clock import seconds_of
from pipeline.dataset.store import Store
from pipeline.ledger.report import RunReport
from pipeline.ledger.survey import Survey, write_ledger
from pipeline.manifest.clips_csv import CSV_COLUMNS, ClipRow
from pipeline.manifest.load import Manifest
from pipeline.manifest.splits import SplitRule, derive_splits
from pipeline.manifest.write import manifest_text, write_csv
from pipeline.plan import ENGINE_SETTINGS, Pipeline, select
from pipeline.registry import StageCode
from pipeline.settings import merge, resolve
from pipeline.sources.missing import withdraw_clips
from pipeline.sources.takedown import takedown_ids
from pipeline.stage import setting
from schemas.clip import SIDES
from schemas.errors import UserError
from schemas.outcome import REJECTED
from stages.faces.identities import Known, Track, who_is_who
from stages.faces.people import PairRules
from stages.faces.people_table import WITHDRAWN, keep_withdrawn, read_known, write_people
from stages.speakers import turns

STAGES = ("sightings", "encounters")
MINING = (*STAGES, "windows", "spans", "people")  # tables of [stages] that the mined manifest does not take over
MANIFEST, CLIPS, EVIDENCE, FUNNEL = "manifest.toml", "clips.csv", "evidence.parquet", "funnel.json"
PICTURES = "pictures"
RULES = {rule.name for rule in dataclasses.fields(PairRules)}
PATIENCE = {"attempts": 6, "attempts_in_all": 30}  # a window takes long: of kills from outside several hit the same
KEPT_FACES = 5  # of a person in a shot
DEFAULT_SPLIT = {"test": 0.1, "ood": 0.1, "seed": 0}


@dataclass(frozen=True)
class PeopleSettings:
    """What is kept of people."""

    keep_withdrawn_faces: bool = setting(
        False, "keep embeddings of withdrawn people, in withdrawn_faces.parquet, to know them in other films"
    )


class Mining(Build):
    """Films on their way to a manifest with clips. Made once, asked for its plan, then run, as a `Build` is.

    `UserError` for anything wrong that can be known before the first window.
    """

    COMMAND, RESULT = "jobs.mine", "windows of films read"

    def __init__(
        self,
        films: Manifest,
        out: Path,
        codes: Sequence[StageCode],
        options: BuildOptions,
        pictures: bool = False,  # whether to draw the spans of every film
    ) -> None:
        settings = merge(films.settings, options.overrides)
        self.films = films
        self.taken_over = {name: table for name, table in settings.items() if name not in MINING}
        wanted = {name: table for name, table in self.taken_over.items() if name not in ENGINE_SETTINGS}
        Pipeline(select(codes, films.stages, wanted), wanted)  # tells now what jobs.build would not take
        own = {name: settings.get(name, {}) for name in STAGES}
        rules = {key: value for key, value in settings.get("face", {}).items() if key in RULES}
        limits = {"limits": {**PATIENCE, **settings.get("limits", {})}}
        frontal = {key: rules[key] for key in ("max_yaw_deg",) if key in rules}
        self.spans = resolve("spans", SpanSettings, {**frontal, **settings.get("spans", {})})
        self.people = resolve("people", PeopleSettings, settings.get("people", {}))
        self.split = SplitRule.parse(DEFAULT_SPLIT if films.split is None else films.split)
        self.window_settings = resolve("windows", WindowSettings, settings.get("windows", {}))
        self.windows = windows_of(films, self.window_settings, Store(out.resolve(), journal=True))
        windows = dataclasses.replace(
            films,
            clips=sorted((window.row for window in self.windows), key=lambda row: row.clip_id),
            stages=STAGES,
            settings={**limits, **{name: {**rules, **table} for name, table in own.items()}},
        )
        super().__init__(windows, out, codes, dataclasses.replace(options, overrides={}))
        self.out = out.resolve()  # the lists of checksums know files by their path below the store, which is absolute
        self.pictures = pictures
        self.funnel: dict[str, Any] = {}

    def resolved(self) -> dict[str, Any]:
        """All settings of mining."""
        of_stages = {stage.name: stage.settings for stage in self.pipeline.stages}
        return {"windows": self.window_settings, **of_stages, "spans": self.spans, "people": self.people}

    def _publish(self, report: RunReport, found: Survey) -> None:
        withdraw_clips(self.manifest, self.store, found.absent)
        write_ledger(self.store, found.ledger)
        ids = {*self.films.takedown, *takedown_ids(self.out)}
        known = self._known(ids)
        meetings, spans = [], []
        for track_pair, of_meeting in self._found(found):
            spans += of_meeting
            meetings += track_pair
        people = who_is_who(meetings, known)
        names = people.names()
        rows = [_row(span, names, ids) for span in spans]
        splits = derive_splits([_clip_row(row) for row in rows if row.is_clip], self.split)
        write_people(self.out, people, ids, new_file=self.store.new_file)
        with self.store.new_file(self.out / EVIDENCE) as path:
            write_evidence(path, rows)
        with self.store.new_file(self.out / CLIPS) as path:
            write_csv(path, [*CSV_COLUMNS, "clip_id"], (_cells(row, splits) for row in rows if row.is_clip))
        self.store.write_text(self.out / MANIFEST, self._manifest())
        for film, of_film in groupby(rows, lambda row: row.span.source_id) if self.pictures else ():
            with self.store.new_file(self.out / PICTURES / f"{film}.png") as path:
                write_picture(path, film, list(of_film))
        self.funnel = funnel(rows)
        self.store.write_text(self.out / FUNNEL, json.dumps(self.funnel, indent=1) + "\n")
        report.write(self.store, self.job.run_id, self.words)

    def _known(self, ids: Collection[str]) -> Known:
        """Who was who, as the table of the run before stands now, and withdrawn people's faces where those are kept."""
        known, faces = dataclasses.replace(read_known(self.out), taken=frozenset(ids)), self.out / WITHDRAWN
        if self.people.keep_withdrawn_faces:
            return dataclasses.replace(known, withdrawn=keep_withdrawn(faces, known.looks, ids))
        faces.unlink(missing_ok=True)
        return known

    def _found(self, found: Survey) -> Iterator[tuple[list[Track], list[Span]]]:
        """The spans of all films, a shot at a time, and the two tracks of a shot that holds clips."""
        for _, windows in groupby(self.windows, lambda window: window.source_id):
            for meeting, spans in spans_of(self._columns(list(windows), found), self.spans):
                has_clips = meeting is not None and any(span.reason == reasons.CLIP for span in spans)
                yield (_tracks(meeting) if meeting is not None and has_clips else []), spans

    def _columns(
        self, windows: Sequence[Window], found: Survey
    ) -> Iterator[tuple[Window, Mapping[str, Any] | tuple[str, str]]]:
        """What stands in the store of each window of a film; one part at a time is in memory."""
        names = (*PER_FRAME, "faces", "picture")
        columns = [self.pipeline.columns[f"pair_{name}"] for name in names]
        loaded: tuple[str, dict[str, dict[str, Any]]] = ("", {})
        for window in windows:
            clip_id = window.row.clip_id
            if clip_id in found.missing:
                _, row = found.missing[clip_id]
                yield window, (row.reason if row.outcome == REJECTED else row.outcome, row.last_line())
                continue
            part = found.published[clip_id]
            if loaded[0] != part:
                loaded = (part, self.store.read_columns("encounters", part, columns))
            yield window, loaded[1][clip_id]

    def _manifest(self) -> str:
        """The manifest of the clips; every path as it is seen from its folder."""
        films = self.films
        dataset: dict[str, Any] = {"name": films.name, "clips": CLIPS}
        dataset |= {"min_yield": films.min_yield} if films.min_yield else {}
        of_turns = self._stages_of_turns()
        asked = dict.fromkeys([*(films.stages or ()), *of_turns])  # each once
        dataset |= {"stages": list(asked)} if films.stages is not None else {}
        dataset |= {"takedown": films.takedown} if films.takedown else {}
        sources = [
            {
                "id": source.source_id,
                "path": os.path.relpath(source.path.resolve(), self.out),
                "licence": source.licence,
                **({"sha256": source.sha256} if source.sha256 else {}),
                **source.sound_keys(self.out),
            }
            for source in films.sources.values()
            if source.path.is_file()
        ]
        return manifest_text(dataset, sources, {**of_turns, **self.taken_over})

    def _stages_of_turns(self) -> dict[str, dict[str, Any]]:
        """The stages that clips of turns need, with the settings by which they were found."""
        if self.spans.clips == ONE_WAY:
            return {}
        (backend,) = {stage.settings.backend for stage in self.pipeline.stages if stage.name == "encounters"}
        own = {rule.name: getattr(self.spans, rule.name) for rule in dataclasses.fields(turns.Settings)}
        return {"speaking": {"backend": backend}, "turns": own}


def _tracks(meeting: Meeting) -> list[Track]:
    """The two people of a shot as tracks, named after it, each known by a few of its faces."""
    end = meeting.start + len(meeting)
    times = float(seconds_of(meeting.start)), float(seconds_of(end))
    tracks = []
    for side, name in enumerate(SIDES):
        faces = meeting.faces[:, side].reshape(-1, meeting.faces.shape[-1])
        faces = faces[np.isfinite(faces).all(axis=1)]
        if len(faces):
            some = faces[np.unique(np.linspace(0, len(faces) - 1, KEPT_FACES).round().astype(int))]
            x = float(np.median(meeting.columns["box"][:, side, ::2].mean(axis=1))) / meeting.width_px
            tracks.append(Track(meeting.source_id, f"{meeting.name}-{name}", *times, x, some))
    return tracks


def _row(span: Span, names: Mapping[tuple[str, str], str], withdrawn: Collection[str]) -> Row:
    left, right = (names.get((span.source_id, f"{span.meeting}-{side}")) for side in SIDES)
    if span.reason == reasons.CLIP and (gone := {left, right} & set(withdrawn)):
        detail = f"{min(filter(None, gone))} is withdrawn"
        span = dataclasses.replace(span, reason=reasons.WITHDRAWN, detail=detail)
    return Row(span, (left, right))


def _clip_row(row: Row) -> ClipRow:
    speaker, listener = row.roles
    side = SIDES[row.span.side or 0]
    return ClipRow(row.clip_id, row.span.source_id, row.times, side, None, speaker, listener, "", 0)


def _cells(row: Row, splits: Mapping[str, str]) -> list[Any]:
    times = [f"{float(time):.9f}" for time in (row.times.start_s, row.times.end_s)]
    side = SIDES[row.span.side or 0]
    return [row.span.source_id, *times, side, None, *row.roles, splits[row.clip_id], row.clip_id]


def check_out(out: str) -> Path:
    """The folder to mine into; `UserError` for object storage, in which nobody mends people.csv."""
    if "://" in out:
        raise UserError(f"--out {out}: expected a folder; jobs.build writes the data set to object storage")
    return Path(out)
