"""Nobody but the person at this machine gets an answer: asked over a raw socket, letter by letter."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web

from jobs import view
from jobs.viewer.data import Answers, data_routes
from jobs.viewer.opened import Opened
from jobs.viewer.security import HEADERS, PERSON
from jobs.viewer.sources import SourceRoutes
from jobs.votes.films import open_films
from pipeline.dataset.store import Store
from pipeline.media.encode import read_video
from schemas.column import Column
from schemas.outcome import REJECTED, Outcome
from tests.labs.media import Recipe, make_source, read_number
from tests.labs.toy_build import write_manifest
from tests.labs.viewing import TOKEN, Served, serving, write_many

CLIP, OTHER = "s0000_000000", "s0000_000001"
SECRET = b"a secret beside the data set"
FILM = bytes(range(256)) * 40
EVERYWHERE = (
    *("/", "/page/main.js", "/api/dataset", "/api/clips", "/api/overview", "/api/rejects", f"/api/clip/{CLIP}"),
    *(f"/api/clip/{CLIP}/column/listener_angle", f"/media/{CLIP}/speaker.mp4", "/nothing", "/ws"),
)
CLIMBING = (
    *("/page/../server.py", "/page/..%2fserver.py", "/page/%2e%2e/server.py", "/page/..%5cserver.py", "/page/"),
    *("/../secret.txt", "//secret.txt", "/media/../../secret.txt", f"/media/{CLIP}/../../../secret.txt"),
    *(f"/media/{CLIP}/..%2f..%2f..%2fsecret.txt", "/media/..%2f..%2fsecret.txt/speaker.mp4", "/media/../speaker.mp4"),
    *("/media/%2e%2e/speaker.mp4", "/media/./speaker.mp4", f"/media/{CLIP}/speaker.mp4%00.txt", f"/media/{CLIP}/%00"),
    *("/api/clip/..%2f..%2fsecret/column/clip_id", "/api/clip/%2e%2e", f"/api/clip/{CLIP}/column/..%2fdataset.json"),
    *(
        f"/media/{CLIP}/source.mp4",
        f"/media/{CLIP}/speaker.mp4?of=../..",
        f"/api/clip/{CLIP}/column/listener_angle?of=/etc",
    ),
    *("/media/C:/speaker.mp4", "/page/%2fetc%2fpasswd", "/media/NUL/speaker.mp4", f"/media/{CLIP}/clip_id"),
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small data set with media of one clip, and a secret beside it."""
    monkeypatch.setenv("VICO_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "data"
    write_many(root, 200)
    (root / "media" / CLIP).mkdir(parents=True)
    (root / "media" / CLIP / "speaker.mp4").write_bytes(FILM)
    (tmp_path / "secret.txt").write_bytes(SECRET)
    return root


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data_routes(Answers(Opened(data)))) as found:
        yield found


def test_without_the_token_there_is_nothing(served: Served) -> None:
    for target in EVERYWHERE:
        for cookie in ("", "viewer=x", f"viewer-{served.port}=wrong", f"viewer-{served.port}=", f"other={TOKEN}"):
            answer = served.get(target, cookie=cookie)
            assert answer.status == 403, (target, cookie)
            assert CLIP.encode() not in answer.body
    assert served.get("/?token=wrong", cookie="").status == 403
    assert served.get("/?token=", cookie="").status == 403
    assert served.get(f"/api/clips?token={TOKEN}", cookie="").status == 403  # only the page itself takes it


def test_the_first_visit_turns_the_token_into_a_cookie_that_scripts_and_other_sites_do_not_have(served: Served) -> None:
    answer = served.get(f"/?token={TOKEN}", cookie="")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    kept = answer.headers["set-cookie"]
    assert kept.startswith(f"{served.cookie};")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in kept.split(";")}
    assert served.get("/").status == 200


def test_another_name_for_this_machine_gets_no_answer(served: Served) -> None:
    for host in (
        "evil.example",
        f"evil.example:{served.port}",
        "127.0.0.1",
        "127.0.0.1:1",
        f"127.0.0.1.evil:{served.port}",
    ):
        for target in (*EVERYWHERE, f"/?token={TOKEN}"):
            assert served.get(target, host=host).status == 403, (host, target)
    assert served.get("/api/clips", host="").status in (400, 403)
    assert served.get("/api/clips", host=f"{served.host}\r\nhost: evil.example").status in (400, 403)
    assert served.get(f"http://evil.example/?token={TOKEN}").status in (400, 403, 404)
    assert served.get("/api/clips", host=f"localhost:{served.port}").status == 200


@pytest.mark.parametrize("target", CLIMBING)
def test_a_path_that_climbs_finds_nothing(served: Served, target: str) -> None:
    answer = served.get(target)
    assert answer.status in (400, 403, 404), target
    assert SECRET not in answer.body and b"import" not in answer.body and b"format_version" not in answer.body


def test_media_that_lead_out_of_the_data_set_are_not_sent(served: Served, data: Path, tmp_path: Path) -> None:
    (data / "media" / CLIP / "audio.wav").symlink_to(tmp_path / "secret.txt")
    answer = served.get(f"/media/{CLIP}/audio.wav")
    assert answer.status == 404 and SECRET not in answer.body
    (data / "media" / OTHER).symlink_to(tmp_path)
    shutil.copy(tmp_path / "secret.txt", tmp_path / "speaker.mp4")
    assert served.get(f"/media/{OTHER}/speaker.mp4").status == 404
    assert SECRET not in served.get(f"/api/clip/{OTHER}").body


def test_only_our_own_page_can_change_anything(data: Path) -> None:
    got: list[str] = []

    async def take(request: web.Request) -> web.Response:
        got.append(request[PERSON])
        return web.json_response(await request.json())

    with serving(lambda app: app.router.add_post("/api/vote", take)) as served:
        own, kind = f"http://{served.host}", "application/json"
        for origin in ("", "null", "http://evil.example", f"https://{served.host}", f"http://localhost:{served.port}"):
            assert served.send("POST", "/api/vote", b"{}", origin=origin, content_type=kind).status == 403, origin
        for other in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            assert served.send("POST", "/api/vote", b"{}", origin=own, content_type=other).status == 415, other
        assert served.send("POST", "/api/vote", b" " * 2**17, origin=own, content_type=kind).status in (400, 413)
        assert got in ([], ["somebody"])  # what is too large is refused while it is read
        got.clear()
        assert served.send("POST", "/api/vote", b"{}", origin=own, content_type=kind).status == 200
        assert served.send("POST", "/api/vote", b"{}", origin=own, content_type=kind, cookie="").status == 403
    assert got == ["somebody"]  # by the token, whatever the request says


def test_every_answer_forbids_what_it_does_not_need(served: Served) -> None:
    for target in (*EVERYWHERE, f"/?token={TOKEN}", "/api/clip/nobody"):
        answer = served.get(target)
        for name, value in HEADERS.items():
            assert answer.headers[name.lower()] == value, target
        assert not any(name.startswith("access-control") for name in answer.headers)
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    preflight = served.send("OPTIONS", "/api/clips", origin="http://evil.example", access_control_request_method="POST")
    assert preflight.status in (403, 405) and not any("access-control" in name for name in preflight.headers)
    for method in ("PUT", "DELETE", "PATCH", "TRACE"):
        assert served.send(method, "/api/clips", origin=f"http://{served.host}").status in (403, 405, 415)


def test_films_come_in_ranges(served: Served) -> None:
    target = f"/media/{CLIP}/speaker.mp4"
    whole = served.get(target)
    assert (whole.status, whole.body, whole.headers["content-type"]) == (200, FILM, "video/mp4")
    for asked, slice_, told in (
        ("bytes=10-19", FILM[10:20], f"bytes 10-19/{len(FILM)}"),
        ("bytes=10000-", FILM[10000:], f"bytes 10000-{len(FILM) - 1}/{len(FILM)}"),
        ("bytes=-5", FILM[-5:], f"bytes {len(FILM) - 5}-{len(FILM) - 1}/{len(FILM)}"),
    ):
        answer = served.get(target, range=asked)
        assert (answer.status, answer.body, answer.headers["content-range"]) == (206, slice_, told)
    assert served.get(target, range=f"bytes={len(FILM)}-").status == 416
    assert served.send("HEAD", target).body == b""


def test_a_clip_is_gone_as_soon_as_it_is_withdrawn(served: Served, data: Path) -> None:
    about = (f"/api/clip/{CLIP}", f"/api/clip/{CLIP}/column/listener_angle", f"/media/{CLIP}/speaker.mp4")
    assert [served.get(target).status for target in about] == [200, 200, 200]
    first = json.loads(served.get("/api/clips").body)
    listener = first["listener"][5]
    (data / "takedown.txt").write_text(f"# by mail\n{CLIP}\n{listener}\nfallen_000001\n")
    assert [served.get(target).status for target in about] == [404, 404, 404]
    left = json.loads(served.get("/api/clips").body)
    expected = [
        one for one, who in zip(first["ids"], first["listener"], strict=True) if one != CLIP and who != listener
    ]
    assert left["ids"] == expected and len(expected) < len(first["ids"]) - 1
    assert "fallen_000001" not in json.loads(served.get("/api/rejects").body)["clip_id"]
    for target in ("/api/clips", "/api/rejects", "/api/overview", "/api/dataset"):
        assert CLIP.encode() not in served.get(target).body
    stale = served.get(f"/api/measures?name=listener_angle.jump&version={first['version']}")
    assert stale.status == 409  # no numbers in the order of a list that is not the page's
    fresh = served.get(f"/api/measures?name=listener_angle.jump&version={left['version']}")
    assert len(np.frombuffer(fresh.body, "<f4")) == len(expected)
    (data / "takedown.txt").write_text("no id, this\n")
    assert served.get(f"/api/clip/{OTHER}").status == 404  # a slip of the pen shows nothing rather than everything


def test_a_reject_is_shown_in_the_whole_picture_and_frame_k_of_the_clip_is_found_in_it(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("VICO_CACHE", str(tmp_path / "cache"))
    coded = {"vcodec": "libx264", "preset": "ultrafast"}
    recipe = Recipe(".mp4", coded, {"acodec": "aac"}, fps=Fraction(30), num_frames=120)
    make_source(tmp_path / "a.mp4", recipe)
    row = "a,1,2,left,neutral,p,q,train"
    manifest = write_manifest(tmp_path / "talks.toml", {"a": "a.mp4"}, [row])
    clip = "a_000001_000002"
    store = Store(tmp_path / "out")
    store.write_text(store.ledger / "parts.json", json.dumps({clip: "part-00000"}))
    columns = [Column("tempo", "float32", ("frame",))]
    store.write_columns("face", "part-00000", columns, [Outcome(clip, "p", REJECTED, "shot_cut", "x")], {})
    answers = Answers(Opened(tmp_path / "out"))
    with serving(SourceRoutes(answers, open_films(str(manifest)), tmp_path), data_routes(answers)) as served:
        said = json.loads(served.get(f"/api/film/{clip}").body)
        assert (said["before"], said["frames"]) == (30, 30 + 30 + 60)  # what there is before, and two seconds after
        (tmp_path / "film.mp4").write_bytes(served.get(said["video"]).body)
        numbers = [read_number(frame) for frame in read_video(tmp_path / "film.mp4")]
        assert numbers == list(range(120))
        assert served.get("/api/film/nobody").status == 404
        assert served.get(said["video"], range="bytes=0-9").status == 206
        (tmp_path / "out" / "takedown.txt").write_text("a\n")
        assert (served.get(f"/api/film/{clip}").status, served.get(said["video"]).status) == (404, 404)


def test_the_command_prints_its_address_first_and_only_this_machine_can_reach_it(data: Path) -> None:
    words = [sys.executable, "-m", "jobs.view", str(data)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(view.__file__).parent.parent) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            port = int(address.removeprefix("http://127.0.0.1:").partition("/")[0])
            listening = Path("/proc/net/tcp").read_text().splitlines()
            places = [line.split()[1] for line in listening if line.split()[3] == "0A"]
            assert [place for place in places if place.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
            found = Served(port)
            assert found.get(address.partition(str(port))[2], cookie="").status == 303
            assert len(address.partition("token=")[2]) >= 43  # 256 bits
            assert view.main([str(data), "--port", str(port)]) == 2  # taken
        finally:
            process.terminate()
