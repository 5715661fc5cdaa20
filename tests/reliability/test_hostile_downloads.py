"""Hosts that mean harm: every way to turn a download towards files or the inside of a network, through real yt-dlp."""

from __future__ import annotations

import gc
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg
import pytest

from pipeline.manifest.load import load_manifest
from pipeline.sources.availability import Entry
from pipeline.sources.download import Downloads, DownloadSettings
from pipeline.sources.host import _only_files
from tests.labs.media import Recipe, ffmpeg_binary, make_source, run
from tests.labs.mutants import REFERENCES
from tests.labs.toy_build import write_manifest
from tests.labs.web import Page, Web, file, serve, status
from tests.labs.witness import witnesses

pytestmark = [  # of sockets that yt-dlp forgets when it is stopped
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# Loopback has more than one address: 127.0.0.1 stands for a host on the internet, 127.0.0.2 for one inside.
INSIDE = "127.0.0.2"
PACE = {"per_minute": 6000, "burst": 100, "backoff_s": 0.01, "timeout_s": 5, "attempts": 1}
QUICK = DownloadSettings(**PACE, internal_hosts=("127.0.0.1",))


@dataclass(frozen=True)
class Trap:
    """A web server that sends what it is told to, and where none of that may lead: a film and a port inside."""

    web: Web
    film: bytes
    canary: Path
    port: int

    @property
    def address(self) -> str:
        return f"http://{INSIDE}:{self.port}/film.mp4"

    def follow(self, folder: Path, name: str, page: Page) -> Entry:
        self.web.pages[f"/{name}"] = page
        return download(folder, self.web.url(f"/{name}"))


@pytest.fixture
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    recipe = Recipe(".mp4", {"vcodec": "libx264", "pix_fmt": "yuv420p"}, {"acodec": "aac"}, num_frames=25)
    canary = make_source(tmp_path_factory.mktemp("canaries") / "film", recipe)
    film = canary.read_bytes()
    with witnesses(canary.parent, INSIDE) as (touched, inside):
        with serve({"/film.mp4": file(film)}) as web:
            yield Trap(web, film, canary, inside.port)
        gc.collect()
        assert not touched.seen() and not inside.seen(), "somebody followed the host where it led"


def download(folder: Path, url: str) -> Entry:
    manifest = write_manifest(folder / "m.toml", {"a": url}, ["a,0,1,left,,p,q,train"], place="url")
    downloads = Downloads(load_manifest(manifest), QUICK)
    (entry,) = downloads.run(downloads.wanted(()))
    return entry


def spellings(port: int) -> dict[str, str]:
    hosts = ("127.0.0.2", "2130706434", "0x7f000002", "0177.0.0.2", "127.2", "[::ffff:127.0.0.2]", "①②⑦.⓪.⓪.②")
    return {host: f"http://{host}:{port}/film.mp4" for host in hosts}


def test_no_spelling_of_an_internal_address_is_asked(trap: Trap, tmp_path: Path) -> None:
    for host, url in spellings(trap.port).items():
        entry = download(tmp_path, url)
        assert not entry.ok and entry.outcome in ("unsupported", "network"), entry
        if host != "①②⑦.⓪.⓪.②":  # no two libraries agree on what that is
            assert "127.0.0.2 is not on the public internet" in entry.message, entry


def test_a_redirect_to_an_internal_address_or_a_file_is_not_followed(trap: Trap, tmp_path: Path) -> None:
    targets = [trap.address, f"file://{trap.canary}", "http://169.254.169.254/latest/meta-data/"]
    for number, target in enumerate([*targets, *spellings(1).values()]):
        ascii_target = target.encode("idna").decode() if not target.isascii() else target
        entry = trap.follow(tmp_path, f"{number}.mp4", status(302, Location=ascii_target))
        assert not entry.ok and entry.outcome in ("unsupported", "network"), (target, entry)
        assert trap.web.count(f"/{number}.mp4"), "the host was asked, and what it answered was refused"


def test_a_name_that_resolves_to_an_internal_address_is_refused_even_if_it_was_public_before(
    trap: Trap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, answers = socket.getaddrinfo, iter(["127.0.0.1", "127.0.0.1", *[INSIDE] * 100])

    def rebinding(host: Any, *arguments: Any, **options: Any) -> Any:
        return look_up(next(answers) if host == "rebind.example" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    for attempt in range(3):
        (tmp_path / str(attempt)).mkdir()
        entry = download(tmp_path / str(attempt), f"http://rebind.example:{trap.port}/film.mp4")
        assert not entry.ok
    assert "127.0.0.2 is not on the public internet" in entry.message


@pytest.mark.parametrize("place", ["file", "path", "inside", "concat", "subfile", "data"])
@pytest.mark.parametrize("kind", ["m3u8", "key.m3u8", "master.m3u8", "mpd", "ffconcat", "sdp"])
def test_a_playlist_leads_to_no_file_and_to_no_internal_address(
    trap: Trap, tmp_path: Path, kind: str, place: str
) -> None:
    leads = {
        "file": f"file://{trap.canary}",
        "path": str(trap.canary),
        "inside": trap.address,
        "concat": f"concat:{trap.canary}|{trap.canary}",
        "subfile": f"subfile,,start,0,end,0,,:{trap.canary}",
        "data": "data:video/mp4;base64,AAAAIGZ0eXBpc29t",
    }
    types = {"mpd": "application/dash+xml", "ffconcat": "video/mp4", "sdp": "application/sdp"}
    page = file(REFERENCES[kind](leads[place]), types.get(kind, "application/vnd.apple.mpegurl"))
    assert not trap.follow(tmp_path, f"list.{kind}", page).ok


def test_a_picture_that_is_a_list_of_files_is_not_joined_with_its_sound(trap: Trap, tmp_path: Path) -> None:
    """A host that keeps picture and sound apart makes ffmpeg open both: neither may lead it to a third."""
    (tmp_path / "dash").mkdir()
    (tmp_path / "film.mp4").write_bytes(trap.film)
    target = str(tmp_path / "dash" / "all.mpd")
    run(ffmpeg.input(str(tmp_path / "film.mp4")).output(target, format="dash", c="copy", single_file=1))
    listing = REFERENCES["ffconcat"](str(trap.canary))
    for path in (tmp_path / "dash").iterdir():
        kind, data = ("application/dash+xml", path.read_bytes()) if path.suffix == ".mpd" else ("video/mp4", listing)
        trap.web.pages[f"/{path.name}"] = file(data, kind)
    entry = download(tmp_path, trap.web.url("/all.mpd"))
    assert not entry.ok, entry


@pytest.mark.parametrize("kind", ["m3u8", "ffconcat"])
def test_our_options_keep_ffmpeg_from_lists(trap: Trap, tmp_path: Path, kind: str) -> None:
    """The options of the join, on ffmpeg itself, with lists that it follows without them (test_bad_media)."""
    path = tmp_path / f"list.{kind}"
    path.write_bytes(REFERENCES[kind](str(trap.canary)))
    output = ffmpeg.input(str(path)).output(str(tmp_path / "joined.mp4"), c="copy")
    command = output.compile(cmd=[ffmpeg_binary(), "-nostdin", "-loglevel", "error", *_only_files()])
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and not (tmp_path / "joined.mp4").exists()
