"""For tests of the viewer: large data sets made cheaply, the server in this process, and requests over a raw socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from aiohttp import web

from jobs.viewer.server import application
from pipeline.dataset.store import Store
from pipeline.dataset.write import write_dataset, write_description, write_shard
from pipeline.ledger.survey import LEDGER_SCHEMA, write_ledger
from schemas.clip import ATTITUDES, CLIP_COLUMNS
from schemas.column import Column
from schemas.dataset import MANIFEST, RANDOM, ColumnEntry, Description, Maker, SourceEntry, shard_name, shard_schema
from tests.labs.toy_build import ToyProject

TOKEN = "the-token-of-the-test"
COLUMNS = (
    Column("listener_angle", "float32", ("frame", 3), "rad", "pitch, yaw, roll"),
    Column("listener_blink", "bool", ("frame",), "", "whether the eyes are closed"),
    Column("listener_coeffs_valid", "bool", ("frame",), "", "whether the fit holds"),
    Column("audio_level_dbfs", "float32", (), "dBFS", "mean level of the sound"),
)
HOSTILE = "<img src=x onerror=alert(1)>\"'\u202e\n</script>"
STRANGE = (  # of a stage that the viewer never saw
    Column("gaze_openness", "float32", ("frame",), "deg", "how far"),
    Column("gaze_towards", "bool", ("frame",), "", "whether at the other"),
    Column("gaze_votes", "float32", ("frame", 2, 3), "1", "of its heads"),
    Column("gaze_sure", "float64", (), "1", "of all frames"),
    Column(
        "gaze_words",
        pa.struct([("text", "string"), ("start_s", "float"), ("trust", "float")]),
        ("look",),
    ),
)
SHARE_REJECTED = 20  # one in so many


def write_many(root: Path, clips: int, shards: int = 4, seed: int = 0) -> None:
    """A data set of so many clips of 2 to 8 frames, by Arrow alone, in order of their ids; some have NaN."""
    rng, store = np.random.default_rng(seed), Store(root)
    made = []
    for number, rows in enumerate(np.array_split(np.arange(clips), shards)):
        split = "train" if number < shards - 1 else "test"
        name = shard_name(split, number, shards - 1) if split == "train" else shard_name(split, 0, 1)
        made.append(write_shard(store, name, [_shard(rows, split, rng)], f"{seed}-{clips}-{number}"))
    entries = [ColumnEntry.of(column, MANIFEST) for column in CLIP_COLUMNS]
    entries += [ColumnEntry.of(column, "made_up") for column in COLUMNS]
    write_description(
        store,
        Description(
            name="many",
            kind=RANDOM,
            fps=30,
            sample_rate_hz=44100,
            columns=tuple(entries),
            packed=tuple(entry.name for entry in entries),
            stages={"made_up": Maker("made_up", 1)},
            shards=tuple(made),
            wanted=clips,
            sources={name: SourceEntry(licence="none") for name in ("s0", "asked_for_but_not_used")},
        ),
    )
    fallen = [f"fallen_{number:06d}" for number in range(clips // SHARE_REJECTED)]
    why = {"part": "part-00000", "stage": "made_up", "fingerprint": "", "outcome": "rejected", "reason": "too_dull"}
    rows = [{"clip_id": clip_id, "detail": "1 of 2 frames", **why} for clip_id in fallen]
    write_ledger(store, [pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA)])


def _shard(rows: np.ndarray, split: str, rng: np.random.Generator) -> pa.Table:
    frames = rng.integers(2, 9, len(rows))
    starts = pa.array(np.concatenate([[0], np.cumsum(frames)]).astype(np.int32))
    total = int(frames.sum())
    angle = rng.normal(size=(total, 3)).astype(np.float32)
    angle[rng.random(total) < 0.01] = np.nan
    values = [
        pa.FixedSizeListArray.from_arrays(
            pa.array(angle.reshape(-1)), type=pa.list_(pa.field("element", pa.float32()), 3)
        ),
        pa.array(rng.random(total) < 0.1),
        pa.array(rng.random(total) < 0.95),
    ]
    lists = [
        pa.ListArray.from_arrays(starts, one, type=column.arrow_type)
        for column, one in zip(COLUMNS, values, strict=False)
    ]
    people = rng.integers(0, 50, len(rows))
    said = {
        "clip_id": [f"s{row // 100:04d}_{row % 100:06d}" for row in rows],
        "source_id": [f"s{row // 100:04d}" for row in rows],
        "start_s": np.zeros(len(rows)),
        "end_s": frames / 30,
        "num_frames": frames.astype(np.int32),
        "attitude": [ATTITUDES[one % 3] for one in people],
        "speaker_id": [f"p{one}" for one in people],
        "listener_id": [f"q{one}" for one in people],
        "split": [split] * len(rows),
        "speaker_side": ["left"] * len(rows),
    }
    manifest = [pa.array(said[column.name], type=column.arrow_type) for column in CLIP_COLUMNS]
    level = pa.array(rng.normal(-20, 5, len(rows)).astype(np.float32))
    return pa.table([*manifest, *lists, level], schema=shard_schema(COLUMNS))


def row_of(clip_id: str, frames: int, rng: np.random.Generator, split: str = "train") -> dict[str, Any]:
    said = {"clip_id": clip_id, "source_id": clip_id[:1], "start_s": 0.0, "end_s": frames / 30, "num_frames": frames}
    said |= {"attitude": HOSTILE, "speaker_id": HOSTILE, "listener_id": "l", "split": split, "speaker_side": "left"}
    votes = rng.normal(size=(frames, 2, 3)).astype(np.float32)
    votes[rng.random(frames) < 0.2] = np.nan
    openness = rng.normal(size=frames).astype(np.float32)
    openness[::5] = np.inf
    words = [{"text": HOSTILE, "start_s": 0.1, "trust": t} for t in rng.random(rng.integers(0, 4))]
    return said | {"gaze_openness": openness, "gaze_towards": rng.random(frames) < 0.4, "gaze_votes": votes,
                   "gaze_sure": float(rng.random()), "gaze_words": words}  # fmt: skip


def strange_set(root: Path, clips: int = 70) -> list[dict[str, Any]]:
    """A data set of a stage that the viewer never saw, with hostile names; returns its rows."""
    rng = np.random.default_rng(3)
    rows = [row_of(f"c{k:03d}", int(rng.integers(1, 40)), rng, ("train", "test")[k % 2]) for k in range(clips)]
    write_dataset(root, rows, STRANGE, name=HOSTILE, kind=RANDOM, stages={"gaze": Maker("gaze", 1)}, identity=clips)
    return rows


@dataclass
class Answer:
    """What came back: status, headers by lower-case name, body."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Served:
    """A running server. ``answered`` holds path and bytes of every answer."""

    port: int
    answered: list[tuple[str, int]] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def cookie(self) -> str:
        return f"viewer-{self.port}={TOKEN}"

    @property
    def entry(self) -> str:
        """The address that the command prints."""
        return f"http://{self.host}/?token={TOKEN}"

    def get(self, target: str, **headers: str) -> Answer:
        """With token and Host, unless others are given; an empty one is not sent."""
        return self.send("GET", target, b"", **headers)

    def send(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        """A request, letter by letter: nothing between here and the server tidies the target."""
        said = {"host": self.host, "cookie": self.cookie, **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in said.items() if value]
        if body:
            lines.append(f"content-length: {len(body)}")
        text = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "connection: close", "", ""])
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(text.encode("latin-1") + body)
            found = b"".join(iter(lambda: connection.recv(2**16), b""))
        head, _, rest = found.partition(b"\r\n\r\n")
        first, *others = head.decode("latin-1").split("\r\n")
        told = dict(line.split(": ", 1) for line in others)
        return Answer(int(first.split()[1]), {name.lower(): value for name, value in told.items()}, rest)


@contextmanager
def serving(*routes: Callable[[web.Application], None], people: Mapping[str, str] | None = None) -> Iterator[Served]:
    """The server on a free port, in a thread of this process; ends with the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    served = Served(listener.getsockname()[1])
    app = application(people or {TOKEN: "somebody"}, served.port, *routes)

    async def count(request: web.Request, answer: web.StreamResponse) -> None:
        served.answered.append((request.path, answer.content_length or 0))

    app.on_response_prepare.append(count)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, access_log=None)

    async def start() -> None:
        await runner.setup()
        await web.SockSite(runner, listener).start()

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield served
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


SPOKEN = '''"""Sounds and words of both people and of each, and one that was not said."""
import numpy as np
import pyarrow as pa
from pipeline.clock import HOP_SAMPLES
from pipeline.media.encode import write_wav
from pipeline.stage import Stage
from schemas.column import ROLES, Column, per_role

WORD = [("text", pa.string()), ("start_s", pa.float32()), ("end_s", pa.float32())]


class Spoken(Stage):
    reads = ("num_frames",)
    writes = (
        Column("audio", "string", media=True),
        Column("words", pa.struct(WORD), ("word",)),
        Column("dropped_words", pa.struct([*WORD, ("reason", pa.string())]), ("word",)),
        *per_role(Column("{role}_audio", "string", media=True), Column("{role}_words", pa.struct(WORD), ("word",))),
    )

    def process(self, clip):
        found = {}
        for level, whose in enumerate(("", *(f"{role}_" for role in ROLES)), start=1):
            file = found[f"{whose}audio"] = clip.output(f"{whose.strip('_') or 'audio'}.wav")
            write_wav(file, np.full(clip.num_frames * HOP_SAMPLES, level / 4))
            found[f"{whose}words"] = [{"text": whose or "both", "start_s": 0.0, "end_s": 0.5}]
        return found | {"dropped_words": [{"text": "not said", "start_s": 0.0, "end_s": 1.0, "reason": "loop"}]}
'''


def spoken_set(folder: Path) -> Path:
    """A data set whose people have a sound each, without films: levels and words say whose they are."""
    project = ToyProject(folder)
    project.stages = {}
    project.add_stage("spoken", SPOKEN)
    project.build()
    return folder / "out"
