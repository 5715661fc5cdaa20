"""Data sets, weights and answers of somebody who means harm: nothing in them is executed, followed or believed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import av.error
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.layouts.release.exported import copy_clip
from pipeline.dataset.check import check_dataset
from pipeline.dataset.read import media_file, read_clips
from pipeline.dataset.store import Store
from pipeline.media import sandbox
from pipeline.media.encode import count_frames
from pipeline.media.reader import MediaError, ReadingLimits, SourceReader
from pipeline.weights import CACHE_VARIABLE, Weights, WeightsError, fetch, registry
from schemas.errors import UserError
from tests.labs.media import Recipe, make_source
from tests.labs.mutants import REFERENCES
from tests.labs.toy_build import ToyProject
from tests.labs.web import Request, serve
from tests.labs.witness import witnesses

# --- shards


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    ToyProject(folder).build()
    return folder / "out"


@pytest.fixture
def theirs(built: Path, tmp_path: Path) -> Path:
    """A data set as others hand it on, to be spoilt."""
    return Path(shutil.copytree(built, tmp_path / "theirs"))


def spoil(root: Path, column: str, change: Callable[[pa.Array], pa.Array]) -> Path:
    """Change a column of the first shard, and the checksums with it, as those do who mean harm."""
    path = min((root / "shards").glob("train-*.parquet"))
    table = pq.read_table(path, partitioning=None)
    values = change(table[column].combine_chunks())
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, pa.field(column, values.type), values), path)
    Store(root).seal(adopt=True)
    return path


class Foreign(pa.ExtensionType):
    """A type that Arrow rebuilds from what a file says."""

    def __init__(self) -> None:
        super().__init__(pa.string(), "test.foreign")

    def __arrow_ext_serialize__(self) -> bytes:
        return pickle.dumps(os.getcwd)

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> Foreign:
        return cls()


@pytest.mark.parametrize("known", [True, False])
def test_an_extension_type_in_a_shard_is_refused_known_here_or_not(theirs: Path, known: bool) -> None:
    pa.register_extension_type(Foreign())
    try:
        path = spoil(theirs, "speaker_id", lambda names: pa.ExtensionArray.from_storage(Foreign(), names))
        if not known:
            pa.unregister_extension_type("test.foreign")
        with pytest.raises(UserError, match=f"{path.name}: it holds an extension type"):
            list(read_clips(theirs))
        assert any("it holds an extension type" in finding for finding in check_dataset(theirs))
    finally:
        if known:
            pa.unregister_extension_type("test.foreign")


@pytest.mark.parametrize("clip_id", ["../../pwned", "/tmp/pwned", "a b", "", None])
def test_a_clip_of_other_peoples_whose_id_is_a_path_is_refused(theirs: Path, clip_id: str | None) -> None:
    spoil(theirs, "clip_id", lambda ids: pa.array([clip_id] * len(ids), pa.string()))
    with pytest.raises(UserError, match="found clip .*, allowed: an id"):
        list(read_clips(theirs))


def test_a_clip_in_the_shard_of_another_split_is_refused_and_found(theirs: Path) -> None:
    spoil(theirs, "split", lambda splits: pa.array(["test"] * len(splits), pa.string()))
    with pytest.raises(UserError, match="train-00000-of-00001.parquet: found clip a_000000_000001 of split 'test'"):
        list(read_clips(theirs))
    assert "shards/train-00000-of-00001.parquet: holds clips of test" in list(check_dataset(theirs))
    assert [row["split"] for row in read_clips(theirs, splits=["ood"])] == ["ood"], "the other shard was not opened"


PLACES = ["/etc/passwd", "../secret.wav", "media/../../secret.wav", "media/link.wav", "media"]


@pytest.mark.parametrize("relative", PLACES)
def test_a_media_file_outside_of_the_data_set_is_neither_copied_nor_opened(theirs: Path, relative: str) -> None:
    (theirs.parent / "secret.wav").write_bytes(b"private")
    (theirs / "media/link.wav").symlink_to(theirs.parent / "secret.wav")
    with pytest.raises(UserError, match="a clip names the file .*, expected one that lies in"):
        media_file(theirs, relative)
    row = {"clip_id": "a", "speaker_video": relative, "listener_video": relative, "audio": relative}
    with pytest.raises(UserError, match="a clip names the file"):
        copy_clip(theirs, theirs.parent / "exported", row)
    spoil(theirs, "note", lambda notes: pa.array([relative] * len(notes), pa.string()))
    assert any("outside the data set" in finding or "missing" in finding for finding in check_dataset(theirs))


DESCRIPTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "a shard elsewhere": lambda whole: json.dumps(whole | {"shards": [{"file": "../../x.parquet"}]}),
    "a shard by no name": lambda whole: json.dumps(whole | {"shards": [{"file": 1}]}),
    "no shards": lambda _: "{}",
    "no table": lambda _: "[]",
    "a bomb": lambda _: "[" * 100_000,
}


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_description_that_leads_elsewhere_is_refused(theirs: Path, kind: str) -> None:
    path = theirs / "dataset.json"
    path.write_text(DESCRIPTIONS[kind](json.loads(path.read_text())))
    with pytest.raises(UserError, match=r"dataset\.json"):
        list(read_clips(theirs))


@pytest.mark.parametrize("kind", ["m3u8", "ffconcat", "mpd", "sdp"])
def test_a_playlist_in_the_place_of_a_head_video_leads_nowhere(tmp_path: Path, kind: str) -> None:
    (tmp_path / "canaries").mkdir()
    canary = make_source(tmp_path / "canaries" / "film", Recipe(".mp4", {"vcodec": "libx264"}, num_frames=5))
    with witnesses(canary.parent) as (files, port):
        for place in (str(canary), f"http://127.0.0.1:{port.port}/film.mp4"):
            (tmp_path / "speaker.mp4").write_bytes(REFERENCES[kind](place))
            with pytest.raises(av.error.InvalidDataError):
                count_frames(tmp_path / "speaker.mp4")
        assert not files.seen() and not port.seen()
        assert count_frames(canary) == 5 and files.seen()


# --- weights


@dataclass
class Payload:
    """What a pickle is told to do when it is opened."""

    folder: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.makedirs, (str(self.folder), 0o777, True)


LOADERS: dict[str, Callable[[Path, Path], object]] = {
    "Tddfa": lambda path, statistics: import_module("stages.morphable.tddfa").Tddfa(path, statistics),
    "Deep3D": lambda path, _: import_module("stages.morphable.deep3d").Deep3D(path),
    "Whisper": lambda path, _: import_module("stages.transcribers.openai_whisper").Whisper(path, None, "cpu"),
    "basis": lambda _, statistics: import_module("stages.morphable.basis").load_basis(statistics),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_weights_with_a_payload_are_refused_and_it_does_not_run(tmp_path: Path, kind: str) -> None:
    import torch

    pwned, checkpoint, statistics = tmp_path / "pwned", tmp_path / "net.pth", tmp_path / "statistics.npz"
    torch.save(dict.fromkeys(("state_dict", "net_recon", "dims"), Payload(pwned)), checkpoint)
    np.savez(statistics, mean=np.array([Payload(pwned)], object), name=np.array([Payload(pwned)], object))
    with pytest.raises((pickle.UnpicklingError, UserError), match="(?i)weights.only|allow_pickle|expected the arrays"):
        LOADERS[kind](checkpoint, statistics)
    assert not pwned.exists()
    torch.load(checkpoint, weights_only=False)
    assert pwned.exists(), "a reader without care runs it"


def test_text_models_are_read_from_safetensors_and_from_nothing_else(tmp_path: Path) -> None:
    import torch

    from stages.transcribers.bert import BertEncoder

    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    torch.save({"embeddings": Payload(tmp_path / "pwned")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        BertEncoder(tmp_path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["../x"]\nfiles = {a = ""}\nlicence = ""\nsource = ""', "the name is not made of"),
        ('[".."]\nfiles = {a = ""}\nlicence = ""\nsource = ""', "the name is not made of"),
        ('[x]\nfiles = {"../../.bashrc" = ""}\nlicence = ""\nsource = ""', "allowed: a path inside the entry's own"),
        ('[x]\nfiles = {"/etc/cron.d/x" = ""}\nlicence = ""\nsource = ""', "allowed: a path inside the entry's own"),
        ('[x]\nfiles = {a = "00"}\nlicence = ""\nsource = ""', "allowed: 64 digits"),
        ('[x]\nfiles = {a = ""}\nlicence = ""\nsource = ""\nurls = {a = "file:///etc/passwd"}', "http or https"),
        ('[x]\nfiles = {a = ""}\nlicence = ""\nsource = ""\nurls = {b = "https://x/"}', "one of the files"),
        ('[x]\nfiles = {a = ""}\nlicence = ""\nsource = ""\nfolder = "/"', "not a table of files, licence"),
        ("[x]\nfiles = 1\nlicence = 2\nsource = 3", "files: found 1, allowed: dict"),
    ],
)
def test_a_list_of_weights_that_would_write_elsewhere_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "weights.toml").write_text(text)
    with pytest.raises(WeightsError, match=f"weights.toml: .*{expected}"):
        registry.__wrapped__(tmp_path / "weights.toml")


def test_a_server_that_never_stops_sending_weights_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))

    def endless(request: Request) -> None:
        request.handler.send_response(200)
        request.handler.end_headers()
        for _ in range(1000):
            request.handler.wfile.write(bytes(2**20))

    with serve({"/net.bin": endless}) as web:
        urls = {"net.bin": web.url("/net.bin")}
        weights = Weights("net", {"net.bin": "0" * 64}, "none", "a test", urls=urls, bytes=5 * 2**20)
        with pytest.raises(WeightsError, match="sent more than 5242880 bytes"):
            fetch(weights)
    assert {path.name for path in (tmp_path / "cache/net").iterdir()} == {"net.bin.lock"}


# --- a reader's process that a source has taken over


CHILD = """
import json, socket, struct, sys, time
wire = socket.socket(fileno=0)
def say(header, data=b''):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    wire.sendall(struct.pack('<IQ', len(text), len(data)) + text + data)
"""
INFO = "{'width': 8, 'height': 8, 'audio': None, 'average_fps': '25', 'dtype': 'uint8', 'shape': [0]}"
TAKEN_OVER = {
    "noise": "wire.sendall(bytes(range(256)) * 100)",
    "a length without end": "wire.sendall(struct.pack('<IQ', 2**31, 2**62))",
    "no JSON": "say(b'{')",
    "a bomb": "say(b'[' * 900_000)",
    "a list": "say([1])",
    "a pickle": "say({'dtype': 'object', 'shape': [1]}, b'cos\\nsystem\\n(S\"id\"\\ntR.')",
    "a shape that does not fit": "say({'dtype': 'uint8', 'shape': [9, 9]}, b'x')",
    "an answer without its facts": f"say({INFO}); say({{'done': True}})",
    "an answer twice": f"say({INFO}); say({INFO})",
    "answers without end": f"while True: say({INFO})",
    "a reason of its own": "say({'error': ['x']})",
    "nothing": "time.sleep(60)",
    "half an answer": "wire.sendall(b'x'); time.sleep(60)",
    "the end": "sys.exit(0)",
}


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source whose reader's process is the ``child.py`` beside it."""
    monkeypatch.setattr(sandbox, "__file__", str(tmp_path / "sandbox.py"))
    (tmp_path / "film.mp4").write_bytes(b"film")
    return tmp_path / "film.mp4"


@pytest.mark.parametrize("kind", TAKEN_OVER)
def test_a_reader_that_was_taken_over_is_not_believed(film: Path, kind: str) -> None:
    film.with_name("child.py").write_text(CHILD + TAKEN_OVER[kind])
    with SourceReader(film, ReadingLimits(wall_s=2)) as reader, pytest.raises((MediaError, RuntimeError)) as e:
        reader.info()
    if isinstance(e.value, RuntimeError):  # it left of its own accord: that is our own fault, and says so
        assert "ended with status 0" in str(e.value)
    else:
        assert e.value.reason in ("decoder_crashed", "timed_out")


def test_pictures_that_nobody_asked_for_are_not_taken(film: Path) -> None:
    picture = "say({'position': k, 'dtype': 'uint8', 'shape': [2, 2, 3]}, bytes(12))"
    numbers = {"range(10**9)": "one picture too many", "(0, 0)": "picture 0 .* for 1", "(5,)": "picture 5 .* for 0"}
    for sent, found in numbers.items():
        film.with_name("child.py").write_text(f"{CHILD}for k in {sent}: {picture}")
        with (
            SourceReader(film, ReadingLimits(wall_s=5)) as reader,
            pytest.raises(MediaError, match=f"decoder_crashed: film.mp4: the reader's process sent {found}"),
        ):
            list(reader.frames(np.arange(3), size=(2, 2)))
